"""The validation data of a training: batches of them, and the errors of a model there."""

from collections.abc import Callable, Sequence
from typing import Any

import jax

from dpax.data import Batch, BatchOrder, CapacityPlanner, Labels, LabelWidths, ParameterWidths, make_batch
from dpax.model.potential import EnergyModel
from dpax.train.error_sums import ErrorMeans
from dpax.train.loss import Prefactors
from dpax.train.setup import Data
from dpax.train.step import Functions


class ValidationSet:
    """Validation data, and where one stands in them.

    Args:
        data: systems and the sizes of their batches.
        model: what batches are made for.
        widths: the rarer labels that the loss weighs.
        seed: of the order of batches.
        functions: of the training.
        shift: takes the energy bias off the labels of a batch.
        atom_multiple: of the atoms of a batch.
    """

    def __init__(
        self,
        data: Data,
        model: EnergyModel,
        widths: LabelWidths,
        seed: int,
        functions: Functions,
        shift: Callable[[Batch], Labels],
        atom_multiple: int,
    ):
        self.data = data
        self._order = BatchOrder(data.systems, data.batch_sizes, seed, mixed=data.mixed)
        self._planner = CapacityPlanner(atom_multiple=atom_multiple)
        self._rcut, self._dtype = model.rcut, model.dtype
        self._parameters, self._widths = ParameterWidths(*model.parameter_widths), widths
        self._functions, self._shift = functions, shift

    def some(self, params: Any, weights: Prefactors, count: int) -> ErrorMeans:
        """Errors on the next batches."""
        means = ErrorMeans()
        for _ in range(count):
            means.add(self._errors(params, weights, self._order.next()))
        return means

    def whole(self, params: Any, weights: Prefactors) -> ErrorMeans:
        """Errors on all frames."""
        means = ErrorMeans()
        for number, (system, size) in enumerate(zip(self.data.systems, self.data.batch_sizes, strict=True)):
            for start in range(0, len(system), size):
                picked = [(number, index) for index in range(start, min(start + size, len(system)))]
                means.add(self._errors(params, weights, picked))
        return means

    def state(self) -> dict[str, Any]:
        """Where one stands, as plain JSON types."""
        return {"order": self._order.state(), "planner": self._planner.state()}

    def restore(self, state: dict[str, Any]) -> None:
        """Go on from a state."""
        self._order.restore(state["order"])
        self._planner.restore(state["planner"])

    def _errors(self, params: Any, weights: Prefactors, picked: Sequence[tuple[int, int]]) -> Any:
        frames = [self.data.systems[system].frame(index) for system, index in picked]
        batch = make_batch(
            frames,
            self._rcut,
            self._planner,
            self._dtype,
            parameters=self._parameters,
            labels=self._widths,
        )
        errors = self._functions.errors(params, batch.neighborhoods, self._shift(batch), weights)
        return jax.device_get(errors)
