"""The validation data of a training run: batches, and the errors of a model on them."""

from collections.abc import Sequence
from typing import Any

import jax

from dpax.data import CapacityPlanner, LabelWidths, ParameterWidths, make_batch
from dpax.model.energy_model import EnergyModel
from dpax.train.error_sums import ErrorMeans, Errors
from dpax.train.learner import Learner
from dpax.train.setup import Data


class ValidationSet:
    """Validation data, with the position in their order.

    Args:
        data: systems and the sizes of their batches.
        model: what batches are made for.
        widths: the rarer labels that the loss weighs.
        seed: of the order of batches.
        learner: whose weights are validated.
    """

    def __init__(self, data: Data, model: EnergyModel, widths: LabelWidths, seed: int, learner: Learner):
        self.data = data
        self._order = data.order(seed)
        self._planner = CapacityPlanner(atom_multiple=learner.atom_multiple)
        self._rcut, self._dtype = model.rcut, model.dtype
        self._parameters, self._widths = ParameterWidths(*model.spec.parameter_widths), widths
        self._learner = learner

    def some(self, step: int, count: int) -> ErrorMeans:
        """Errors of the weights on the next batches, with the loss's prefactors at a step."""
        means = ErrorMeans()
        for _ in range(count):
            means.add(self._errors(step, self._order.next(), averaged=False))
        return means

    def whole(self, step: int, *, averaged: bool) -> ErrorMeans:
        """Errors of the weights or of their average on all frames."""
        means = ErrorMeans()
        for number, (system, size) in enumerate(zip(self.data.systems, self.data.batch_sizes, strict=True)):
            for start in range(0, len(system), size):
                picked = [(number, index) for index in range(start, min(start + size, len(system)))]
                means.add(self._errors(step, picked, averaged=averaged))
        return means

    def state(self) -> dict[str, Any]:
        """The position, as plain JSON types."""
        return {"order": self._order.state(), "planner": self._planner.state()}

    def restore(self, state: dict[str, Any]) -> None:
        """Go on from a state."""
        self._order.restore(state["order"])
        self._planner.restore(state["planner"])

    def _errors(self, step: int, picked: Sequence[tuple[int, int]], *, averaged: bool) -> Errors:
        frames = [self.data.systems[system].frame(index) for system, index in picked]
        batch = make_batch(
            frames,
            self._rcut,
            self._planner,
            self._dtype,
            parameters=self._parameters,
            labels=self._widths,
        )
        learner = self._learner
        params, labels, weights = (
            learner.weights(averaged=averaged),
            learner.labels(batch),
            learner.prefactors(step),
        )
        return jax.device_get(learner.functions.errors(params, batch.neighborhoods, labels, weights))
