"""Mean absolute and root mean square errors, added up in float64 as predictions come in."""

from collections.abc import Iterator
from dataclasses import dataclass, field

import numpy as np

from dpax.data.quantities import ERRORS


@dataclass
class _Sums:
    count: float = 0.0
    absolute: float = 0.0
    squared: float = 0.0

    def add(self, difference: float | np.ndarray, weights: float | np.ndarray) -> None:
        self.count += float(np.broadcast_to(weights, np.shape(difference)).sum())
        self.absolute += float((weights * np.abs(difference)).sum())
        self.squared += float((weights * np.square(difference)).sum())


@dataclass
class Errors:
    """The errors of one system, or of many."""

    _sums: dict[str, _Sums] = field(default_factory=lambda: {name: _Sums() for name in ERRORS})

    def update(
        self,
        error: str,
        label: float | np.ndarray,
        predicted: float | np.ndarray,
        weights: float | np.ndarray = 1.0,
    ) -> None:
        """Add a label and its prediction, or those of several frames along the first axis.

        Args:
            error: a name of `ERRORS`.
            label: the reference, in any shape.
            predicted: of the same shape.
            weights: how much each number counts, in a shape that broadcasts to theirs.

        Raises:
            ValueError: the shapes differ.
        """
        reference, prediction = np.asarray(label, np.float64), np.asarray(predicted, np.float64)
        if reference.shape != prediction.shape:
            raise ValueError(
                f"{error}: the label has the shape {reference.shape}, the prediction {prediction.shape}"
            )
        self._sums[error].add(prediction - reference, np.asarray(weights, np.float64))

    def merge(self, other: "Errors") -> None:
        """Add all that another one has seen."""
        for name, sums in self._sums.items():
            more = other._sums[name]
            sums.count += more.count
            sums.absolute += more.absolute
            sums.squared += more.squared

    def count(self, error: str) -> float:
        """How many numbers were compared, each with its weight."""
        return self._sums[error].count

    @property
    def mae(self) -> dict[str, float]:
        """Mean absolute errors of what was compared, by the names of `ERRORS`."""
        return {name: s.absolute / s.count for name, s in self._sums.items() if s.count}

    @property
    def rmse(self) -> dict[str, float]:
        """Root mean square errors of what was compared, by the names of `ERRORS`."""
        return {name: (s.squared / s.count) ** 0.5 for name, s in self._sums.items() if s.count}

    def report(self) -> dict[str, float]:
        """MAE and RMSE of what was compared, with units in the keys: `force_mae_ev_per_angstrom`."""
        maes, rmses = self.mae, self.rmse
        return {
            key: values[name]
            for name in maes
            for key, values in zip(ERRORS[name].report_keys, (maes, rmses), strict=True)
        }


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
