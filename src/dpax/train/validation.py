"""Errors on validation data."""

import math
from dataclasses import dataclass, field

import numpy as np

from dpax.data import Labels
from dpax.train.loss import Errors
from dpax.train.settings import LossSettings


@dataclass
class ErrorMeans:
    """Root mean square errors pooled over batches, as if all their frames had been one batch."""

    _sums: dict[str, float] = field(default_factory=dict)
    _counts: dict[str, float] = field(default_factory=dict)

    def add(self, errors: Errors, labels: Labels) -> None:
        """Pool in the errors of a batch."""
        counts = {
            "rmse": 1.0,
            "rmse_e": float(np.sum(labels.has_energy)),
            "rmse_f": float(np.sum(labels.has_forces * labels.n_atoms)),
            "rmse_v": float(np.sum(labels.has_virial)),
            "rmse_ae": float(np.sum(labels.has_atom_energies * labels.n_atoms)),
        }
        squares = {name: float(getattr(errors, name)) ** 2 for name in counts if name != "rmse"}
        squares["rmse"] = float(errors.loss)
        for name, count in counts.items():
            if count:
                self._sums[name] = self._sums.get(name, 0.0) + squares[name] * count
                self._counts[name] = self._counts.get(name, 0.0) + count

    def roots(self) -> dict[str, float]:
        """The pooled errors by name (`rmse` is the root of the loss); absent where nothing was labelled."""
        return {name: math.sqrt(total / self._counts[name]) for name, total in self._sums.items()}


def validation_error(roots: dict[str, float], loss: LossSettings) -> float:
    """One number by which the best model is told: the mean square errors with the loss's limit prefactors.

    Energies and virials enter per atom, so that frames of any size compare.
    """
    weights = {
        "rmse_e": loss.limit_pref_e,
        "rmse_f": loss.limit_pref_f,
        "rmse_v": loss.limit_pref_v,
        "rmse_ae": loss.limit_pref_ae,
    }
    return sum(weight * roots[name] ** 2 for name, weight in weights.items() if name in roots)
