"""Errors of a model against labels, summed frame by frame: no array of all frames is ever held."""

from collections.abc import Mapping
from typing import NamedTuple

import numpy as np


class Quantity(NamedTuple):
    """A quantity that is compared."""

    key: str
    """The stem of its keys in a report."""
    title: str
    unit: str
    unit_key: str
    """The unit as part of a key."""


QUANTITIES = (
    Quantity("energy", "energy", "eV", "ev"),
    Quantity("energy_per_atom", "energy per atom", "eV/atom", "ev"),
    Quantity("force", "force component", "eV/Å", "ev_per_angstrom"),
    Quantity("virial", "virial component", "eV", "ev"),
    Quantity("virial_per_atom", "virial component per atom", "eV/atom", "ev"),
)


class ErrorSums:
    """Mean absolute and root mean square errors of every quantity, over all numbers added so far."""

    def __init__(self) -> None:
        self.frames = 0
        self._count = dict.fromkeys((q.key for q in QUANTITIES), 0)
        self._absolute = dict.fromkeys((q.key for q in QUANTITIES), 0.0)
        self._squared = dict.fromkeys((q.key for q in QUANTITIES), 0.0)

    def add(self, differences: Mapping[str, np.ndarray]) -> None:
        """Add one frame.

        Args:
            differences: prediction minus label of the quantities that have a label, by `Quantity.key`,
                in the quantity's unit and any shape.
        """
        self.frames += 1
        for key, difference in differences.items():
            self._count[key] += difference.size
            self._absolute[key] += float(np.abs(difference).sum())
            self._squared[key] += float(np.square(difference).sum())

    def merge(self, other: "ErrorSums") -> None:
        """Add all that another one has seen."""
        self.frames += other.frames
        for key in self._count:
            self._count[key] += other._count[key]
            self._absolute[key] += other._absolute[key]
            self._squared[key] += other._squared[key]

    def count(self, key: str) -> int:
        """How many numbers of a quantity were compared."""
        return self._count[key]

    def mae(self, key: str) -> float:
        """Mean absolute error, in the quantity's unit."""
        return self._absolute[key] / self._count[key]

    def rmse(self, key: str) -> float:
        """Root mean square error, in the quantity's unit."""
        return (self._squared[key] / self._count[key]) ** 0.5

    def report(self) -> dict[str, float | int]:
        """Everything known, with units in the keys (`force_rmse_ev_per_angstrom`)."""
        report: dict[str, float | int] = {"frames": self.frames}
        for quantity in QUANTITIES:
            if self._count[quantity.key]:
                report[f"{quantity.key}_mae_{quantity.unit_key}"] = self.mae(quantity.key)
                report[f"{quantity.key}_rmse_{quantity.unit_key}"] = self.rmse(quantity.key)
        return report
