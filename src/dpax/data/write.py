"""Frames written in DeePMD-kit's layout, as folders of .npy files or as groups of an HDF5 file."""

from collections import Counter, defaultdict
from collections.abc import Iterator, Sequence
from pathlib import Path

import h5py
import numpy as np

from dpax.data.frame import Frame
from dpax.data.hdf5_file import SEPARATOR
from dpax.data.quantities import CELL, POSITIONS, QUANTITIES, Quantity
from dpax.errors import InputError

Tree = dict[str, np.ndarray | list[str]]
"""The files of a system: arrays, and the words of text files."""


def write_deepmd_npy(
    folder: Path,
    frames: Sequence[Frame],
    type_map: Sequence[str],
    *,
    mixed: bool = False,
    copies: Sequence[int] | None = None,
) -> list[Path]:
    """Write frames as one system per composition and periodicity, all numbers float64.

    Atoms are put in the order of their types, as DeePMD-kit does on reading, so that frames of one
    composition share a system. Frames with different labels go to different sets of the system. With
    `mixed` the layout is that of mixed type: one system per number of atoms and periodicity, in which every
    frame has its own types and the atoms keep their order.

    Args:
        folder: receives one sub-folder per system, named by its formula or number of atoms.
        frames: their types index `type_map`.
        type_map: element names, written to every system.
        mixed: write `real_atom_types.npy`.
        copies: how often each frame is to be taken in a pass (`numb_copy.npy`); once, if not given.

    Returns:
        The system folders, in the order of their first frame.

    Raises:
        InputError: a frame is periodic in some directions only, which the layout cannot say; or a
            system folder of that name is already there.
    """
    paths = []
    for name, tree in _systems(frames, type_map, mixed, copies):
        path = folder / name
        if path.exists():
            raise InputError(f"{path} is already there; remove it or choose another folder")
        for file, content in tree.items():
            (path / file).parent.mkdir(parents=True, exist_ok=True)
            if isinstance(content, np.ndarray):
                np.save(path / file, content)
            else:
                (path / file).write_text("".join(f"{word}\n" for word in content), encoding="utf-8")
        paths.append(path)
    return paths


def write_hdf5(
    path: Path, frames: Sequence[Frame], type_map: Sequence[str], *, copies: Sequence[int] | None = None
) -> list[str]:
    """Write frames into a new HDF5 file, a group for what `write_deepmd_npy` makes a folder.

    Args:
        path: the file.
        frames: their types index `type_map`.
        type_map: element names, written to every system.
        copies: how often each frame is to be taken in a pass; once, if not given.

    Returns:
        The systems, as they are named in an input file.

    Raises:
        InputError: a frame is periodic in some directions only; or the file is already there.
    """
    systems = list(_systems(frames, type_map, False, copies))
    try:
        with h5py.File(path, "x") as file:
            for name, tree in systems:
                for item, content in tree.items():
                    file[f"{name}/{item}"] = _dataset(item, content)
    except FileExistsError as error:
        raise InputError(f"{path} is already there; remove it or choose another file") from error
    return [f"{path}{SEPARATOR}/{name}" for name, _ in systems]


def _dataset(name: str, content: np.ndarray | list[str]) -> np.ndarray | bool:
    if isinstance(content, np.ndarray):
        return content
    if name == "type.raw":
        return np.array(content, np.int64)
    return np.array([word.encode() for word in content]) if content else True


def _systems(
    frames: Sequence[Frame], type_map: Sequence[str], mixed: bool, copies: Sequence[int] | None
) -> Iterator[tuple[str, Tree]]:
    """The name and the files of each system."""
    groups: dict[tuple, list[int]] = defaultdict(list)
    for number, frame in enumerate(frames):
        if any(frame.pbc) and not all(frame.pbc):
            raise InputError(
                f"{frame.source}: is periodic in some directions only, which DeePMD-kit's npy layout cannot "
                "express; keep it in a file of extended xyz"
            )
        kind = len(frame.types) if mixed else tuple(np.sort(frame.types).tolist())
        groups[(kind, frame.pbc[0])].append(number)
    for (kind, periodic), members in groups.items():
        name = str(kind) if mixed else _formula(kind, type_map)
        types = np.zeros(kind, int).tolist() if mixed else kind
        tree: Tree = {"type.raw": [str(index) for index in types], "type_map.raw": list(type_map)}
        if not periodic:
            tree["nopbc"] = []
        for number, part in enumerate(_sets(frames, members)):
            arrays = _arrays([frames[k] for k in part], mixed, periodic)
            if copies is not None:
                arrays["numb_copy"] = np.array([copies[k] for k in part], np.int64)
            tree |= {f"set.{number:03d}/{file}.npy": array for file, array in arrays.items()}
        yield name if periodic else f"{name}_nopbc", tree


def _formula(types: Sequence[int], type_map: Sequence[str]) -> str:
    return "".join(f"{type_map[index]}{count}" for index, count in sorted(Counter(types).items()))


def _sets(frames: Sequence[Frame], members: Sequence[int]) -> list[list[int]]:
    """The frames of a system, grouped by the quantities that they have."""
    sets: dict[tuple, list[int]] = defaultdict(list)
    for number in members:
        sets[tuple((k, np.shape(v)[-1:]) for k, v in frames[number].values().items())].append(number)
    return list(sets.values())


def _arrays(frames: Sequence[Frame], mixed: bool, periodic: bool) -> dict[str, np.ndarray]:
    """The files of a set; all its frames have the same fields."""
    orders = [np.arange(len(f.types)) if mixed else np.argsort(f.types, kind="stable") for f in frames]
    arrays = {}
    for quantity in (POSITIONS, *((CELL,) if periodic else ()), *QUANTITIES.values()):
        if getattr(frames[0], quantity.name) is not None:
            rows = [_ordered(frame, quantity, order) for frame, order in zip(frames, orders, strict=True)]
            # A scalar has one axis in these files, that of the frames.
            arrays[quantity.files[0]] = np.stack([row.reshape(-1) if row.ndim else row for row in rows])
    if mixed:
        arrays["real_atom_types"] = np.stack([frame.types for frame in frames])
    return arrays


def _ordered(frame: Frame, quantity: Quantity, order: np.ndarray) -> np.ndarray:
    """A quantity of a frame with its atoms in another order."""
    return quantity.of_atoms(np.asarray(getattr(frame, quantity.name), dtype=np.float64), order)
