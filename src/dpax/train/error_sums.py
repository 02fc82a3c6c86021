"""Errors as sums over batches, from which RMSE and MAE of any number of batches follow."""

import math
from dataclasses import dataclass, field
from typing import Any, NamedTuple

import jax.numpy as jnp
from jaxtyping import Array, Float

from dpax.data.quantities import TERMS
from dpax.train.learning_settings import LossSettings

SHOWN_FORCES = "f_shown"
"""The error of forces in the loss, where that is not by components: `relative_f`, `f_use_norm`."""


class Sums(NamedTuple):
    """Squares and absolute values of the errors of one quantity, summed, and their number."""

    squares: Float[Array, ""]
    absolutes: Float[Array, ""]
    n_values: Float[Array, ""]

    @classmethod
    def of(
        cls, residual: Float[Array, "rows components"], flags: Array, weights: Array | None = None
    ) -> "Sums":
        """The sums over labelled rows.

        Args:
            residual: errors.
            flags: [rows], 1 where there is a label, 0 elsewhere.
            weights: [rows], of the rows' errors; they do not enter the count.
        """
        factors = (flags if weights is None else flags * weights)[:, None]
        n_values = jnp.sum(flags) * residual.shape[1]
        return cls(jnp.sum(factors * residual**2), jnp.sum(factors * jnp.abs(residual)), n_values)


class Errors(NamedTuple):
    """The loss of a batch and the errors in it."""

    loss: Float[Array, ""]
    sums: dict[str, Sums]
    """By term. Energies and virials are per atom (eV), forces eV/Å by component, the Hessian eV/Å²."""


@dataclass
class ErrorMeans:
    """Errors pooled over batches, as if all their frames had been one batch."""

    loss: float = 0.0
    batches: int = 0
    sums: dict[str, list[float]] = field(default_factory=dict)

    def add(self, errors: Errors) -> None:
        """Add the errors of a batch."""
        self.loss += float(errors.loss)
        self.batches += 1
        for name, sums in errors.sums.items():
            before = self.sums.get(name, [0.0, 0.0, 0.0])
            self.sums[name] = [total + float(part) for total, part in zip(before, sums, strict=True)]

    @property
    def mean_loss(self) -> float:
        """Mean loss of a batch; NaN without batches."""
        return self.loss / self.batches if self.batches else math.nan

    def mean_square(self, name: str) -> float | None:
        """Of one quantity; None where nothing was labelled."""
        squares, _, count = self.sums.get(name, (0.0, 0.0, 0.0))
        return squares / count if count else None

    def rmse(self, name: str) -> float | None:
        """Root mean square error; None where nothing was labelled."""
        square = self.mean_square(name)
        return None if square is None else math.sqrt(square)

    def mae(self, name: str) -> float | None:
        """Mean absolute error; None where nothing was labelled."""
        _, absolutes, count = self.sums.get(name, (0.0, 0.0, 0.0))
        return absolutes / count if count else None

    def shown(self, loss: LossSettings) -> dict[str, float]:
        """The errors of the learning curve by their names there; absent where nothing was labelled."""
        errors = {"rmse": math.sqrt(self.mean_loss)} if self.batches else {}
        for term in TERMS:
            stored = SHOWN_FORCES if term == "f" and SHOWN_FORCES in self.sums else term
            name = error_name(term, loss)
            value = self.rmse(stored) if name.startswith("rmse") else self.mae(stored)
            if value is not None:
                errors[name] = value
        return errors


def error_name(name: str, loss: LossSettings) -> str:
    """The name of a term's error in the learning curve: DeePMD-kit's."""
    term = TERMS[name].term
    squared = loss.loss_func == "mse" or (term is not None and term.always_rmse)
    return f"rmse_{name}" if squared else f"mae_{name}"


def validation_error(means: ErrorMeans, loss: LossSettings) -> float:
    """One number by which the best model is chosen: the mean square errors with the loss's limit prefactors.

    Energies and virials enter per atom, so that frames of any size compare.
    """
    squares: dict[str, Any] = {term: means.mean_square(term) for term in TERMS}
    return sum(loss.pair(term)[1] * square for term, square in squares.items() if square is not None)
