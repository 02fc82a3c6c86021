"""Structures and labels from anything ASE reads: extxyz, traj, db, OUTCAR, vasprun.xml, and so on."""

import math
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import ase
import ase.io
import numpy as np
from ase.stress import voigt_6_to_full_3x3_stress

from dpax.data.ase_checks import check_before_ase
from dpax.data.frame import LABELS, Frame, check_numbers, type_indices
from dpax.errors import InputError, brief
from dpax.geometry.cell import volume

FORCES = ("forces", "force")
VIRIAL = ("virial", "virials")


class AseSystem:
    """All frames of one file, in memory.

    The file is parsed once. What is kept is float64 positions and forces, the other labels and int32
    types: about 52 bytes for each atom of each frame. A data set for which that is too much is better
    converted to the npy layout (`write_deepmd_npy`), which is read from disk frame by frame.

    Args:
        path: any file `ase.io.read` understands.
        type_map: the model's element names.
        name: for messages; the path as the user would write it.

    Raises:
        InputError: ASE cannot read the file, it holds no frame, an element is not in type_map, or a
            frame is not sound (see `Frame`).
    """

    def __init__(self, path: Path, type_map: Sequence[str], name: str | None = None):
        self.name = str(path) if name is None else name
        self.path = path
        self.type_map = tuple(type_map)
        self.copies: np.ndarray | None = None
        self._frames = [
            frame_from_atoms(atoms, self.type_map, f"{self.name} frame {number}", labels=True)
            for number, atoms in enumerate(read_atoms(path, self.name))
        ]
        self.labels = frozenset(
            label for label in LABELS if any(getattr(frame, label) is not None for frame in self._frames)
        )

    def __len__(self) -> int:
        """The number of frames."""
        return len(self._frames)

    def n_atoms(self, index: int) -> int:
        """The atoms of a frame."""
        return len(self._frames[index].types)

    def frame(self, index: int) -> Frame:
        """One frame."""
        return self._frames[index]


def read_atoms(path: Path, name: str) -> list[ase.Atoms]:
    """Every structure in a file.

    Raises:
        InputError: ASE cannot read the file, or it holds no structure.
    """
    check_before_ase(path, name)
    try:
        found = ase.io.read(path, index=":")
    except Exception as error:  # ASE's readers raise whatever their parsing runs into
        raise InputError(
            f"{name} cannot be read by ASE: {brief(error)}; expected a file with "
            "structures (.extxyz, .traj, .db, OUTCAR, vasprun.xml, ...)"
        ) from error
    structures = found if isinstance(found, list) else [found]
    if not structures:
        raise InputError(f"{name} holds no structures")
    for number, atoms in enumerate(structures):
        check_numbers(atoms.numbers, f"{name} frame {number}")
    return structures


def frame_from_atoms(
    atoms: ase.Atoms, type_map: Sequence[str], source: str = "structure", *, labels: bool = False
) -> Frame:
    """Turn ASE's structure into a Frame; nothing is computed, and constraints play no part.

    The parameters of a model are `atoms.info["fparam"]` and `atoms.arrays["aparam"]`. With `labels`, the
    labels are what the attached calculator has stored, or, where it has none, what stands in `atoms.info`
    and `atoms.arrays` as extended-xyz files spell it (`energy`, `virial`, `hessian`, `drdq`; `force` or
    `forces`, `energies`, `atom_pref`, `atom_ener_coeff`). Where both are stored, `free_energy` is preferred
    to `energy`: forces are the derivative of the former (VASP's `energy` is extrapolated to zero smearing).
    A stress σ becomes the virial W = -σ·volume. Constraints are ignored: forces on fixed atoms are kept as
    they were computed.

    Args:
        atoms: the structure; partly periodic is fine.
        type_map: the model's element names.
        source: how error messages call the structure.
        labels: take energies, forces and so on along; without, an attached calculator is ignored.

    Raises:
        InputError: an element that type_map lacks, or an unsound structure (see `Frame`).
    """
    check_numbers(atoms.numbers, source)
    periodic = np.asarray(atoms.pbc, dtype=bool)
    return Frame(
        positions=np.array(atoms.positions, dtype=np.float64),
        types=type_indices(list(atoms.symbols), type_map, source),
        cell=np.array(atoms.cell.array, dtype=np.float64) if periodic.any() else None,
        pbc=(bool(periodic[0]), bool(periodic[1]), bool(periodic[2])),
        source=source,
        fparam=_floats(atoms.info, "fparam", (-1,), source),
        aparam=_floats(atoms.arrays, "aparam", (len(atoms), -1), source),
        **(_labels(atoms, source) if labels else {}),
    )


def _labels(atoms: ase.Atoms, source: str) -> dict:
    stored = dict(getattr(atoms.calc, "results", None) or {})
    n = len(atoms)
    energy = _first(("free_energy", "energy"), stored, atoms.info)
    return {
        "energy": None if energy is None else _number(energy, source),
        "forces": _first(FORCES, stored, atoms.arrays),
        "virial": _virial(atoms, stored, source),
        "atom_energies": _first(("energies",), stored, atoms.arrays),
        "atom_pref": _floats(atoms.arrays, "atom_pref", (n,), source),
        "atom_ener_coeff": _floats(atoms.arrays, "atom_ener_coeff", (n,), source),
        "drdq": _floats(atoms.info, "drdq", (3 * n, -1), source),
        "hessian": _floats(atoms.info, "hessian", (3 * n, 3 * n), source),
    }


def _floats(place: Mapping, name: str, shape: tuple[int, ...], source: str) -> np.ndarray | None:
    """What stands under a name, in a shape in which one length may be open."""
    value = place.get(name)
    if value is None:
        return None
    array = np.asarray(value)
    if array.dtype.kind not in "fiu" or array.size == 0 or array.size % abs(math.prod(shape)):
        raise InputError(
            f"{source}: {name} is {str(value)[:60]!r} of {array.size} values, expected numbers in the shape "
            f"{[n if n > 0 else 'any' for n in shape]}"
        )
    return array.astype(np.float64).reshape(shape)


def _virial(atoms: ase.Atoms, stored: Mapping, source: str) -> np.ndarray | None:
    """From the stress, or as it stands in the file; a stress without a volume means nothing."""
    stress, size = _first(("stress",), stored), volume(atoms.cell.array)
    if stress is not None and size > 0:
        full = (
            voigt_6_to_full_3x3_stress(stress) if np.size(stress) == 6 else _matrix(stress, "stress", source)
        )
        return -size * np.asarray(full, dtype=np.float64)
    virial = _first(VIRIAL, atoms.info)
    return None if virial is None else _matrix(virial, "virial", source)


def _matrix(value: Any, name: str, source: str) -> np.ndarray:
    if np.size(value) != 9:
        raise InputError(f"{source}: the {name} is {value!r}, expected 3 x 3 numbers")
    return np.reshape(value, (3, 3))


def _first(keys: Sequence[str], *places: Mapping) -> Any:
    """The value of the first place that has one of the keys."""
    return next((place[key] for place in places for key in keys if place.get(key) is not None), None)


def _number(value: object, source: str) -> float:
    array = np.asarray(value)
    if array.size != 1 or array.dtype.kind not in "fiu":
        raise InputError(f"{source}: the energy is {value!r}, expected one number in eV")
    return float(array.reshape(()))
