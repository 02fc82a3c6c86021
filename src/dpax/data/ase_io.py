"""Structures and labels from anything ASE reads: extxyz, traj, db, OUTCAR, vasprun.xml, and so on."""

import math
import re
import warnings
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from itertools import chain
from pathlib import Path
from typing import Any

import ase
import numpy as np
from ase.stress import voigt_6_to_full_3x3_stress

from dpax.data.declared_units import check_complete, declared_factors, unit_keys
from dpax.data.frame import Frame, check_numbers, type_indices
from dpax.data.label_keys import SPELLINGS, keys_read, look_alikes
from dpax.data.quantities import ATOMS, INPUTS, QUANTITIES, STRESS, Quantity, labels_of
from dpax.data.structure_files import keys_of, read_structures
from dpax.errors import InputError
from dpax.geometry.cell import volume

_CONVERGENCE = re.compile(r"(?P<negative>un|non?[-_ ]?|not[-_ ]?)?converge(?:d|nce)", re.IGNORECASE)
_OTHER_LOOPS = re.compile(r"ion|geom|relax|opt|forc|struct|max|threshold|crit|tol", re.IGNORECASE)
"""Keys about a convergence other than that of the electrons, or about its criterion."""
_FALSE, _TRUE = (
    ("false", "f", "0", "0.0", "no", "n", ".false."),
    ("true", "t", "1", "1.0", "yes", "y", ".true."),
)


@dataclass(frozen=True)
class Reading:
    """How files of other programs are read."""

    keys: Mapping[str, str] = field(default_factory=dict)
    """The key of each label with an unusual key in files that ASE reads (`label_keys.KEYED`)."""
    keep_unconverged: bool = False
    """Take the labels of electronic loops that did not converge."""
    lammps_types: tuple[str, ...] = ()
    """The elements of the types 1, 2, … of LAMMPS files that name none."""

    def with_options(self, options: "Reading") -> "Reading":
        """The defaults, unless the options of a command say otherwise."""
        return Reading(
            {**self.keys, **options.keys},
            self.keep_unconverged or options.keep_unconverged,
            options.lammps_types or self.lammps_types,
        )


class AseSystem:
    """All frames of one file, in memory.

    The file is parsed once. What is kept is float64 positions and forces, the other labels and int32
    types: about 52 bytes for each atom of each frame. A data set for which that is too much is better
    converted to the npy layout (`write_deepmd_npy`), which is read from disk frame by frame.

    Frames whose electronic loop did not converge are left out with a warning, unless `reading` says
    otherwise.

    Args:
        path: any file `ase.io.read` understands.
        type_map: the model's element names.
        name: for messages; the path as the user would write it.
        reading: how labels and elements are found in it.

    Raises:
        InputError: ASE cannot read the file, it holds no frame, an element is not in type_map, or a
            frame is not sound (see `Frame`).
    """

    def __init__(
        self,
        path: Path,
        type_map: Sequence[str],
        name: str | None = None,
        reading: Reading | None = None,
    ):
        self.name = str(path) if name is None else name
        self.path = path
        self.type_map = tuple(type_map)
        self.copies: np.ndarray | None = None
        reading = reading or Reading()
        structures = read_atoms(path, self.name, reading)
        self._frames = [
            frame_from_atoms(
                atoms, self.type_map, f"{self.name} frame {number}", labels=True, keys=reading.keys
            )
            for number, atoms in structures.items()
        ]
        self.labels = labels_of(self._frames)
        self.unread = look_alikes(unread_keys(structures.values(), reading.keys))
        _check_named_keys(structures.values(), reading.keys, self.name)

    def __len__(self) -> int:
        """The number of frames."""
        return len(self._frames)

    def n_atoms(self, index: int) -> int:
        """The atoms of a frame."""
        return len(self._frames[index].types)

    def frame(self, index: int) -> Frame:
        """One frame."""
        return self._frames[index]


def read_atoms(path: Path, name: str, reading: Reading | None = None) -> dict[int, ase.Atoms]:
    """The structures in a file by their numbers, without those whose labels did not converge.

    Raises:
        InputError: ASE cannot read the file, it holds no structure, or none whose labels converged.
    """
    reading = reading or Reading()
    structures, failed = read_structures(path, name, reading.lammps_types)
    if reading.keep_unconverged:
        return dict(enumerate(structures))
    said = {n for n, atoms in enumerate(structures) if any(map(_denies_convergence, atoms.info.items()))}
    failed = sorted({*failed, *said})
    converged = {number: atoms for number, atoms in enumerate(structures) if number not in failed}
    if failed:
        report_unconverged(name, failed, len(structures))
    return converged


def report_unconverged(name: str, failed: Sequence[int], frames: int) -> None:
    """Warn about frames that are left out.

    Raises:
        InputError: all of them are.
    """
    numbers = ", ".join(map(str, failed[:10])) + (", …" if len(failed) > 10 else "")
    text = f"{name}: {len(failed)} of {frames} frames did not converge electronically ({numbers}, from 0)"
    if len(failed) == frames:
        raise InputError(
            f"{text}; no frame is left. Use --keep-unconverged (keep_unconverged: true) to take them anyway"
        )
    warnings.warn(
        f"{text}; they are left out. Use --keep-unconverged (keep_unconverged: true) to take them anyway",
        stacklevel=1,
    )


def _denies_convergence(item: tuple[Any, Any]) -> bool:
    key, value = item
    said = _CONVERGENCE.search(key) if isinstance(key, str) else None
    if said is None or _OTHER_LOOPS.search(key.replace(said[0], "")):
        return False
    return str(value).strip().lower() in (_TRUE if said["negative"] else _FALSE)


def unread_keys(structures: Iterable[ase.Atoms], keys: Mapping[str, str]) -> list[str]:
    """The keys of structures that dpax does not read, sorted."""
    known = {*chain(*SPELLINGS.values()), *keys.values()}
    present = sorted(set().union(*map(keys_of, structures)))
    return [key for key in present if key not in known and not unit_keys((key,))]


def _check_named_keys(structures: Iterable[ase.Atoms], keys: Mapping[str, str], name: str) -> None:
    if not keys:
        return
    present = set().union(*map(keys_of, structures))
    for quantity, key in keys.items():
        if key not in present:
            raise InputError(
                f"{name}: no frame has the key {key!r}, which should be read as {quantity}; its keys are "
                f"{', '.join(sorted(present)) or 'none'}"
            )


def frame_from_atoms(
    atoms: ase.Atoms,
    type_map: Sequence[str],
    source: str = "structure",
    *,
    labels: bool = False,
    keys: Mapping[str, str] | None = None,
) -> Frame:
    """Turn ASE's structure into a Frame; nothing is computed, and constraints play no part.

    The parameters of a model are `atoms.info["fparam"]` and `atoms.arrays["aparam"]`. With `labels`, the
    labels are what the attached calculator has stored, or, where it has none, what stands in `atoms.info`
    and `atoms.arrays` as extended-xyz files spell it (`energy`, `virial`, `hessian`, `drdq`; `force` or
    `forces`, `energies`, `atom_pref`, `atom_ener_coeff`). Where both are stored, `free_energy` is preferred
    to `energy`: forces are the derivative of the former (VASP's `energy` is extrapolated to zero smearing).
    A stress σ becomes the virial W = -σ·volume. Units that `atoms.info` declares for the labels
    (`energy_unit`, `force-unit`, …) are converted to eV and Å. Constraints are ignored: forces on fixed atoms
    are kept as they were computed.

    Args:
        atoms: the structure, in Å; partly periodic is fine.
        type_map: the model's element names.
        source: how error messages call the structure.
        labels: take energies, forces and so on along; without, an attached calculator is ignored.
        keys: the keys of labels that go by another name, {"energy": "REF_energy"} for example; a label that
            is named here is read from there alone.

    Raises:
        InputError: an element that type_map lacks, an unsound structure (see `Frame`), a virial and a stress
            that contradict each other, or units that are not known.
    """
    check_numbers(atoms.numbers, source)
    periodic = np.asarray(atoms.pbc, dtype=bool)
    keys = keys or {}
    factors = declared_factors(atoms.info, source, keys_read(keys), keys_of(atoms))
    if factors.get("length", 1.0) != 1.0:
        raise InputError(
            f"{source}: its header declares positions in another unit than Å; convert them to Å first"
        )
    return Frame(
        positions=np.array(atoms.positions, dtype=np.float64),
        types=type_indices(list(atoms.symbols), type_map, source),
        cell=np.array(atoms.cell.array, dtype=np.float64) if periodic.any() else None,
        pbc=(bool(periodic[0]), bool(periodic[1]), bool(periodic[2])),
        source=source,
        **_quantities(atoms, keys, factors, source, QUANTITIES if labels else INPUTS),
    )


def _quantities(
    atoms: ase.Atoms,
    keys: Mapping[str, str],
    factors: Mapping[str, float],
    source: str,
    wanted: Mapping[str, Quantity],
) -> dict[str, Any]:
    """Labels and inputs in dpax's units, by name."""
    read = keys_read(keys)
    stored = getattr(atoms.calc, "results", None) or {}

    def look_up(quantity: Quantity) -> np.ndarray | None:
        places = (stored, atoms.arrays if quantity.shape[:1] == (ATOMS,) else atoms.info)
        value = _value(quantity, read[quantity.name], places, len(atoms), source)
        return None if value is None else np.asarray(factors.get(quantity.name, 1.0) * value)

    values = {name: look_up(quantity) for name, quantity in wanted.items()}
    if "virial" in wanted:
        # A key of one's own for one of the two says that the other one is not to be read.
        virial = None if "stress" in keys else values["virial"]
        stress = None if "virial" in keys else look_up(STRESS)
        values |= {"virial": virial, "stress": stress}
        check_complete(factors, [name for name, value in values.items() if value is not None], source)
        values["virial"] = _virial(atoms, values.pop("stress"), virial, source)
    return values


def _value(
    quantity: Quantity, keys: Sequence[str], places: Sequence[Mapping], n_atoms: int, source: str
) -> np.ndarray | None:
    """A quantity under the first of its keys; two keys of one quantity must agree."""
    values = {
        key: _floats(place, key, quantity.sized(n_atoms), source)
        for key in reversed(keys)
        for place in reversed(places)
        if key in place
    }
    present = [(key, value) for key in keys if (value := values.get(key)) is not None]
    if not present:
        return None
    (first, value), *others = present
    for key, other in others:
        if quantity.keys_agree and not np.allclose(value, other, rtol=1e-4, atol=1e-6):
            raise InputError(
                f"{source}: {first} and {key} both mean the {quantity.name} and differ by "
                f"{np.abs(value - other).max():.3g}; remove one of them, or name the right one in keys "
                f"({quantity.name}: KEY)"
            )
    return value


def _floats(place: Mapping, name: str, shape: tuple[int, ...], source: str) -> np.ndarray | None:
    """The array under a name, in a shape in which one length may be open."""
    value = place.get(name)
    if value is None:
        return None
    array = np.asarray(value)
    if array.dtype.kind not in "fiu" or not _fits(array, shape):
        raise InputError(
            f"{source}: {name} is {str(value)[:60]!r} of {array.size} values, expected numbers in the shape "
            f"{[n if n > 0 else 'any' for n in shape]}"
        )
    return array.astype(np.float64).reshape(shape)


def _fits(array: np.ndarray, shape: tuple[int, ...]) -> bool:
    """Whether an array has a shape, or is a row of as many numbers; -1 stands for any length but 0."""
    if array.ndim > 1 and shape != (-1,):
        return array.ndim == len(shape) and all(
            n == m or (m == -1 and n > 0) for n, m in zip(array.shape, shape, strict=True)
        )
    size = abs(math.prod(shape))
    return (
        array.size == size
        if min(shape, default=1) > 0
        else size > 0 and array.size > 0 and array.size % size == 0
    )


def _virial(
    atoms: ase.Atoms, stress: np.ndarray | None, virial: np.ndarray | None, source: str
) -> np.ndarray | None:
    """From the stress, or as stored in the file; a stress without a volume means nothing."""
    size = volume(atoms.cell.array)
    if stress is None or size == 0:
        return virial
    if stress.size not in (6, 9):
        raise InputError(f"{source}: the stress has {stress.size} numbers, expected 6 or 3 x 3")
    full = voigt_6_to_full_3x3_stress(stress) if stress.size == 6 else stress.reshape(3, 3)
    own = -size * np.asarray(full, dtype=np.float64)
    if virial is not None:
        _check_agreement(own, virial, size, source)
    return own


def _check_agreement(own: np.ndarray, virial: np.ndarray, size: float, source: str) -> None:
    """Check that the virial W of a frame is that of its stress, as far as the digits of a file go."""
    digits = 1e-3 * np.abs(virial).max() + 1e-6 * size
    if np.abs(own - virial).max() <= digits:
        return
    opposite = np.abs(own + virial).max() <= digits
    raise InputError(
        f"{source}: its virial and its stress contradict each other: W = -stress · volume is "
        f"{own[0, 0]:.6g} eV in xx, the virial {virial[0, 0]:.6g} eV"
        f"{' (the opposite sign)' if opposite else ''}; remove the wrong one, or name the right one in keys "
        "(virial: KEY or stress: KEY)"
    )
