"""Mean absolute and root mean square errors, added up in float64 as predictions come in."""

from collections.abc import Iterator
from dataclasses import dataclass, field

import numpy as np

ENERGY, FORCES, VIRIAL = "energy", "forces", "virial"
PER_ATOM = {ENERGY: "energy_per_atom", VIRIAL: "virial_per_atom"}
UNITS = {
    ENERGY: "eV",
    PER_ATOM[ENERGY]: "eV/atom",
    FORCES: "eV/Å",
    "weighted_forces": "eV/Å",
    VIRIAL: "eV",
    PER_ATOM[VIRIAL]: "eV/atom",
    "stress": "eV/Å³",
    "atom_energies": "eV",
    "hessian": "eV/Å²",
}
"""The quantities of which errors are kept, and their units; forces, virials and the rest by component."""


@dataclass
class _Sums:
    count: float = 0.0
    absolute: float = 0.0
    squared: float = 0.0

    def add(self, difference: np.ndarray, weights: np.ndarray) -> None:
        self.count += float(np.broadcast_to(weights, difference.shape).sum())
        self.absolute += float((weights * np.abs(difference)).sum())
        self.squared += float((weights * np.square(difference)).sum())


@dataclass
class Errors:
    """The errors of one system, or of many."""

    _sums: dict[str, _Sums] = field(default_factory=lambda: {name: _Sums() for name in UNITS})

    def update(
        self,
        quantity: str,
        label: float | np.ndarray,
        predicted: float | np.ndarray,
        n_atoms: int | np.ndarray = 1,
        weights: float | np.ndarray = 1.0,
    ) -> None:
        """Add one frame, or several along the first axis.

        Args:
            quantity: one of `UNITS`, but for those per atom, which follow from energy and virial.
            label: the reference, in any shape.
            predicted: of the same shape.
            n_atoms: of each frame; for the errors per atom, which energies and virials have as well.
            weights: how much each number counts, in a shape that broadcasts to theirs.

        Raises:
            ValueError: the shapes differ.
        """
        wanted, given = np.asarray(label, np.float64), np.asarray(predicted, np.float64)
        if wanted.shape != given.shape:
            raise ValueError(
                f"{quantity}: the label has the shape {wanted.shape}, the prediction {given.shape}"
            )
        difference = given - wanted
        self._sums[quantity].add(difference, np.asarray(weights, np.float64))
        if quantity in PER_ATOM:
            atoms = np.asarray(n_atoms, np.float64)
            atoms = atoms.reshape(atoms.shape + (1,) * (difference.ndim - atoms.ndim))
            self._sums[PER_ATOM[quantity]].add(difference / atoms, np.asarray(1.0))

    def merge(self, other: "Errors") -> None:
        """Add all that another one has seen."""
        for name, sums in self._sums.items():
            more = other._sums[name]
            sums.count += more.count
            sums.absolute += more.absolute
            sums.squared += more.squared

    def count(self, quantity: str) -> float:
        """How many numbers of a quantity were compared, each with its weight."""
        return self._sums[quantity].count

    @property
    def mae(self) -> dict[str, float]:
        """Mean absolute error of each quantity of `UNITS` that was compared."""
        return {name: s.absolute / s.count for name, s in self._sums.items() if s.count}

    @property
    def rmse(self) -> dict[str, float]:
        """Root mean square error of each quantity of `UNITS` that was compared."""
        return {name: (s.squared / s.count) ** 0.5 for name, s in self._sums.items() if s.count}


class SystemErrors:
    """The errors of each system, and of all together, every number counting once."""

    def __init__(self) -> None:
        self._errors: dict[str, Errors] = {}

    def __getitem__(self, name: str) -> Errors:
        """The errors of a system; empty ones at first."""
        return self._errors.setdefault(name, Errors())

    def __iter__(self) -> Iterator[str]:
        """The names of the systems, in the order they came."""
        return iter(self._errors)

    def total(self) -> Errors:
        """The errors of all systems together."""
        everything = Errors()
        for errors in self._errors.values():
            everything.merge(errors)
        return everything
