"""Systems in DeePMD-kit's layout, as folders or in HDF5: `type.raw`, `type_map.raw`, `nopbc`, and `set.*`.

Per set and flat per frame: coord (3 per atom, Å), box (9, rows are lattice vectors, Å), the labels and inputs
of `quantities.py`, and in the mixed layout real_atom_types (1 per atom, -1 for a virtual atom). numb_copy (1)
says how often a pass over the data takes the frame. An array with one axis belongs to the only frame of its
set.
"""

import math
from bisect import bisect_right
from collections.abc import Sequence
from itertools import accumulate, chain
from pathlib import Path

import numpy as np

from dpax.data.frame import Frame
from dpax.data.hdf5_file import Hdf5Group
from dpax.data.label_keys import look_alikes
from dpax.data.npy_file import NpyFolder
from dpax.data.quantities import CELL, LABELS, POSITIONS, QUANTITIES, Quantity
from dpax.data.rows import Folder, Rows
from dpax.data.type_files import VIRTUAL, check_range, read_names, read_types, translation
from dpax.errors import InputError

TEXTS = frozenset(("type.raw", "type_map.raw", "nopbc"))
"""The files of a system."""
_READ = (POSITIONS, CELL, *QUANTITIES.values())
ARRAYS = frozenset(
    f"{stem}.npy" for stem in (*chain(*(q.files for q in _READ)), "real_atom_types", "numb_copy")
)
"""Those of a set that are read."""


class DeepmdSystem:
    """One system; frames are read from disk one at a time, never the whole files.

    Atoms keep the order of the file. DeePMD-kit sorts them by type, which changes no energy except in
    models whose padding takes the type of atom 0 (`concat` type embedding with a nonzero mean).

    Args:
        folder: holds `type.raw` and `set.*`; a group of an HDF5 file is one too.
        type_map: the model's element names.
        name: for messages; the path as the user would write it.

    Raises:
        InputError: the folder does not follow the layout, or has an element the type_map lacks.
    """

    def __init__(self, folder: Path | Hdf5Group, type_map: Sequence[str], name: str | None = None):
        source = NpyFolder(folder) if isinstance(folder, Path) else folder
        self.name = source.where if name is None else name
        self.path = source.path
        self.type_map = tuple(type_map)
        types = read_types(source)
        periodic = not source.has("nopbc")
        self._pbc = (periodic, periodic, periodic)
        self._sets = [_Set(part, len(types), periodic, source.where) for part in set_folders(source)]
        used = _mixed_types(self._sets, self.name)
        self._translation = translation(
            types if used is None else used, read_names(source), self.type_map, self.name
        )
        self._types = self._translation[types] if used is None else None
        self._atoms = len(types)
        self._stops = list(accumulate(s.frames for s in self._sets))
        self.labels = frozenset(label for s in self._sets for label in s.labels)
        self.copies = _copies(self._sets, self.name)
        unread = look_alikes(sorted(set().union(*(s.unread for s in self._sets))))
        self.unread = {label: [f"{stem}.npy" for stem in stems] for label, stems in unread.items()}

    def __len__(self) -> int:
        """The number of frames in all sets."""
        return self._stops[-1]

    def n_atoms(self, index: int) -> int:  # noqa: ARG002 - the same for all frames of a folder
        """The atoms of a frame, virtual ones included."""
        return self._atoms

    def frame(self, index: int) -> Frame:
        """Read one frame.

        Raises:
            InputError: NaN or infinite numbers, a periodic box without volume, no real atom.
        """
        number = bisect_right(self._stops, index)
        part = self._sets[number]
        row = index - (self._stops[number] - part.frames)
        arrays = part.read(row)
        types = self._types
        if types is None:
            raw = part.real_types(row)
            real = np.flatnonzero(raw != VIRTUAL)
            types = self._translation[raw[real]]
            arrays = {q.name: q.of_atoms(arrays[q.name], real) for q in _READ if q.name in arrays}
        source = f"{self.name}/{part.name} frame {row}"
        return Frame(**{"cell": None, **arrays}, types=types, pbc=self._pbc, source=source)


class _Set:
    """The files of one set folder, their shapes checked."""

    def __init__(self, folder: Folder, n_atoms: int, periodic: bool, system: str):
        self.name, self._folder = folder.name, folder
        self.unread = set(folder.arrays())
        self.unread.discard("coord")
        coord = folder.rows("coord")
        if coord is None:
            raise InputError(f"{folder.where} has no coord.npy; every set needs the positions of its frames")
        if coord.frames == 0:
            raise InputError(f"{coord.path} holds no frames; remove the folder {folder.name}")
        self._single = coord.flat
        if self._single:
            coord.as_single()
        self.frames = coord.frames
        of_each_atom = f"1 for each of the {n_atoms} atoms in type.raw"
        coord.expect(self.frames, 3 * n_atoms, f"3 for each of the {n_atoms} atoms in type.raw")
        self._files: dict[str, tuple[Rows, tuple[int, ...]]] = {"positions": (coord, (n_atoms, 3))}
        for quantity in QUANTITIES.values():
            self._add(quantity, n_atoms)
        self.labels = self._files.keys() & LABELS.keys()
        self.unread -= {*CELL.files}
        if periodic and not self._add(CELL, n_atoms):
            raise InputError(
                f"{folder.where} has no box.npy; add it, or put an empty file named nopbc into {system} "
                "if the system is not periodic"
            )
        self.types = self._open("real_atom_types")
        if self.types:
            self.types.expect(self.frames, n_atoms, of_each_atom)
        self.copies = self._open("numb_copy")
        if self.copies:
            self.copies.expect(self.frames, 1, "how often the frame is taken")

    def _add(self, quantity: Quantity, n_atoms: int) -> bool:
        file, shape = self._open(*quantity.files), quantity.sized(n_atoms)
        if file:
            file.expect(self.frames, math.prod(shape), quantity.described(n_atoms))
            self._files[quantity.name] = (file, shape)
        return file is not None

    def _open(self, *stems: str) -> Rows | None:
        self.unread -= set(stems)
        rows = self._folder.rows(*stems)
        if rows and self._single and rows.flat:
            rows.as_single()
        return rows

    def read(self, row: int) -> dict[str, np.ndarray]:
        """All arrays of one frame, float64, in their shapes."""
        return {key: file.floats(row).reshape(shape) for key, (file, shape) in self._files.items()}

    def real_types(self, row: int) -> np.ndarray:
        """The types of one frame of a system of mixed type, -1 for virtual atoms."""
        if self.types is None:
            raise ValueError(f"{self._folder.where} is not of mixed type")
        return self.types.integers(row)


def _copies(sets: Sequence[_Set], system: str) -> np.ndarray | None:
    """How often each frame of all sets is taken in a pass; None where every frame is taken once."""
    if not any(s.copies for s in sets):
        return None
    copies = [np.ones(s.frames, np.int64) if s.copies is None else s.copies.column() for s in sets]
    for part, numbers in zip(sets, copies, strict=True):
        if part.copies and numbers.min() < 0:
            raise InputError(
                f"{part.copies.path}: frame {numbers.argmin()} (counted from 0) is to be taken "
                f"{numbers.min()} times; expected whole numbers >= 0"
            )
    whole = np.concatenate(copies)
    if not whole.any():
        raise InputError(f"{system}: numb_copy.npy has every frame taken 0 times; leave the system out")
    return whole


def _mixed_types(sets: Sequence[_Set], source: str) -> np.ndarray | None:
    """The types that occur in a system of mixed type; None in a system of one composition."""
    mixed = [s for s in sets if s.types]
    if not mixed:
        return None
    if len(mixed) < len(sets):
        raise InputError(
            f"{source}: only {', '.join(s.name for s in mixed)} of its {len(sets)} sets has "
            "real_atom_types.npy; in a system of mixed type every set needs it"
        )
    return np.unique(np.concatenate([s.types.values() for s in mixed if s.types]))


def set_folders(folder: Folder) -> Sequence[Folder]:
    """The `set.*` folders of a system, sorted.

    Raises:
        InputError: there is none.
    """
    sets = folder.sets()
    if not sets:
        raise InputError(
            f"{folder.where} has type.raw but no set.* folder with the frames; expected for example "
            f"{folder.where}/set.000/coord.npy"
        )
    return sets


def used_names(folder: Folder) -> set[str]:
    """The elements that the frames of a system contain; empty where it has no `type_map.raw`.

    Raises:
        InputError: an index without a name, or unreadable files.
    """
    names = read_names(folder)
    if names is None:
        return set()
    files = [part.rows("real_atom_types") for part in set_folders(folder)]
    type_lists = [file.values() for file in files if file] or [read_types(folder)]
    used = np.unique(np.concatenate(type_lists))
    check_range(used, len(names), folder.where, "type_map.raw")
    return {names[index] for index in used if index != VIRTUAL}
