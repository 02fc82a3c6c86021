"""One structure with its labels, and what a source of them looks like."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

import numpy as np

from dpax.errors import InputError
from dpax.geometry.cell import complete_cell

LABELS = ("energy", "forces", "virial", "atom_energies")
"""The labels a frame may carry."""


@dataclass(frozen=True, eq=False)
class Frame:
    """One structure with whatever labels it has; checked when it is made.

    Raises:
        InputError: wrong shapes, NaN or infinite numbers, a periodic cell without volume, no atoms;
            the message begins with `source`.
    """

    positions: np.ndarray
    """float64 [atoms, 3], Å."""
    types: np.ndarray
    """int32 [atoms], index into the model's type_map; virtual atoms (-1) are removed by the readers."""
    cell: np.ndarray | None
    """float64 [3, 3], rows are lattice vectors, Å; None where nothing is periodic."""
    pbc: tuple[bool, bool, bool]
    """Periodicity along each lattice vector."""
    source: str
    """Where the frame comes from, for messages: "water/data_0/set.000 frame 12"."""
    energy: float | None = None
    """eV."""
    forces: np.ndarray | None = None
    """float64 [atoms, 3], eV/Å."""
    virial: np.ndarray | None = None
    """float64 [3, 3], eV; W = -dE/d(strain) = -stress·volume in ASE's sign of stress."""
    atom_energies: np.ndarray | None = None
    """float64 [atoms], eV."""

    def __post_init__(self) -> None:
        n_atoms = len(self.types)
        if n_atoms == 0:
            raise InputError(f"{self.source}: the frame has no atoms; remove it")
        types = np.asarray(self.types)
        if types.ndim != 1 or types.min() < 0:
            raise InputError(f"{self.source}: types must be a row of indices >= 0 into the type_map")
        object.__setattr__(self, "types", types.astype(np.int32, copy=False))
        object.__setattr__(self, "pbc", tuple(bool(p) for p in self.pbc))
        self._check("positions", (n_atoms, 3))
        self._check("cell", (3, 3))
        self._check("forces", (n_atoms, 3))
        self._check("virial", (3, 3))
        self._check("atom_energies", (n_atoms,))
        self._check_energy()
        if self.cell is None and not any(self.pbc):
            return
        try:
            complete_cell(self.cell, self.pbc)
        except InputError as error:
            raise InputError(f"{self.source}: {error}") from None

    def _check(self, name: str, shape: tuple[int, ...]) -> None:
        value = getattr(self, name)
        if value is None:
            return
        array = np.asarray(value, dtype=np.float64)
        if array.shape != shape:
            raise InputError(
                f"{self.source}: {name} has the shape {list(array.shape)}, expected {list(shape)} "
                f"for {len(self.types)} atoms"
            )
        if not np.isfinite(array).all():
            row = int(np.argwhere(~np.isfinite(array))[0][0])
            raise InputError(
                f"{self.source}: {name} holds NaN or infinite numbers, first in row {row} (counted from 0); "
                "correct or remove the frame"
            )
        object.__setattr__(self, name, array)

    def _check_energy(self) -> None:
        if self.energy is None:
            return
        energy = float(self.energy)
        if not np.isfinite(energy):
            raise InputError(f"{self.source}: the energy is {energy}; correct or remove the frame")
        object.__setattr__(self, "energy", energy)


class System(Protocol):
    """A source of frames: one folder or file."""

    name: str
    """The path as the user would write it."""
    path: Path
    """Where it lies."""
    type_map: tuple[str, ...]
    """The model's element names, which the types of the frames index."""
    labels: frozenset[str]
    """The labels of `LABELS` that at least one frame has."""

    def __len__(self) -> int:
        """The number of frames."""
        ...

    def n_atoms(self, index: int) -> int:
        """The atoms of a frame, or an upper bound where virtual atoms pad it; reads no file."""
        ...

    def frame(self, index: int) -> Frame:
        """Read one frame."""
        ...


def type_indices(elements: Sequence[str], type_map: Sequence[str], source: str) -> np.ndarray:
    """Translate element names into indices of the model's type_map.

    Returns:
        int32, one for each name.

    Raises:
        InputError: names that the type_map lacks; the message lists them.
    """
    index = {name: number for number, name in enumerate(type_map)}
    missing = sorted(set(elements) - set(index))
    if missing:
        raise InputError(
            f"{source}: contains {', '.join(missing)}, which the model's type_map {list(type_map)} lacks; "
            "add the element to type_map or leave this structure out"
        )
    return np.array([index[name] for name in elements], dtype=np.int32)
