"""A model that learns: what a step changes, the batches that it takes, and how a checkpoint holds both."""

from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax.sharding import Mesh
from jaxtyping import Array

from dpax.data import Batch, BatchLoader, CapacityPlanner, Labels, ParameterWidths
from dpax.errors import InputError
from dpax.model.energy_model import EnergyModel
from dpax.nn.arrays import below, placed
from dpax.train.checkpoints import Checkpoint, from_named_arrays, named_arrays
from dpax.train.error_sums import Errors
from dpax.train.loss import Prefactors, prefactors, without_bias
from dpax.train.optimizer import make_optimizer
from dpax.train.schedule import make_schedule
from dpax.train.settings import InputSettings
from dpax.train.setup import Data, weighed_labels
from dpax.train.step import TrainState, make_functions, replicated

_ATOM_MULTIPLE = 8
"""Atoms of a batch are padded to a multiple of this on every device, so that blocks divide evenly."""


class Learner:
    """The part of a training that moves at every step.

    Args:
        settings: of the training, with a seed.
        data: to learn from.
        model: to begin with.
        mesh: devices.
        total_steps: of the training.

    Raises:
        InputError: nothing is trainable, or the settings do not fit the data.
    """

    def __init__(self, settings: InputSettings, data: Data, model: EnergyModel, mesh: Mesh, total_steps: int):
        training = settings.training
        assert training.seed is not None
        if not model.trained:
            raise InputError(
                "nothing is trainable: descriptor and fitting net are both frozen by 'trainable'"
            )
        self._settings, self._data, self._mesh = settings, data, mesh
        self.schedule = make_schedule(settings.learning_rate, total_steps)
        self.atom_multiple = _ATOM_MULTIPLE * mesh.size
        self._planner = CapacityPlanner(atom_multiple=self.atom_multiple)
        self._order = data.order(training.seed)
        self._rcut, self._dtype = model.rcut, model.dtype
        self._parameters = ParameterWidths(*model.spec.parameter_widths)
        self._fixed = {n: np.asarray(a) for n, a in model.arrays.items() if n not in model.trained}
        self._bias, self._model = np.array(model.bias), model
        self.functions = make_functions(
            model,
            settings.loss,
            make_optimizer(settings.optimizer, training.gradient_max_norm, training.acc_freq),
            mesh,
            settings.dpax.block_size,
            ema_decay=training.ema_decay if training.enable_ema else None,
        )
        self.state = self.functions.init()
        self.taken(self._order.state())

    def open_loader(self) -> BatchLoader:
        """The batches of the training, from where it stands."""
        return BatchLoader(
            self._data.systems,
            self._order,
            self._rcut,
            self._planner,
            self._dtype,
            parameters=self._parameters,
            labels=weighed_labels(self._settings.loss, self._data),
        )

    def prefactors(self, step: int) -> Prefactors:
        """The weights of the loss's terms when so many steps are done."""
        return prefactors(self._settings.loss, self.schedule(step) / self._settings.learning_rate.start_lr)

    def labels(self, batch: Batch) -> Labels:
        """The labels of a batch without the energy bias."""
        nb = batch.neighborhoods
        return without_bias(
            batch.labels,
            np.asarray(nb.types),
            np.asarray(nb.frames),
            self._bias,
            self._dtype,
            coefficients=self._settings.loss.takes("atom_ener_coeff"),
        )

    def step(self, batch: Batch, done: int) -> Errors:
        """Take a step when so many are done; the errors are those before it."""
        self.state, errors = self.functions.step(
            self.state, batch.neighborhoods, self.labels(batch), self.prefactors(done), self.schedule(done)
        )
        return jax.device_get(errors)

    def taken(self, order_state: dict[str, Any]) -> None:
        """Note where the batches stand after the last step: the loader runs ahead."""
        self._order_state, self._planner_state = order_state, self._planner.state()

    def is_finite(self) -> bool:
        """Whether all weights are: a gradient can be infinite where the loss is not."""
        return all(np.isfinite(array).all() for array in jax.tree.leaves(jax.device_get(self.state.params)))

    def arrays(self) -> dict[str, np.ndarray]:
        """What a checkpoint holds, by name."""
        params, averaged = jax.device_get((self.state.params, self.state.averaged or {}))
        return {
            **placed(self._fixed, "fixed"),
            **placed(params, "params"),
            **named_arrays(self.state.optimizer, "optimizer"),
            **placed(averaged, "averaged"),
        }

    def meta(self) -> dict[str, Any]:
        """What a checkpoint holds beside arrays, as plain JSON types."""
        bias = list(map(float, self._bias))
        return {"order": self._order_state, "planner": self._planner_state, "bias": bias}

    def model(self, *, averaged: bool = False) -> EnergyModel:
        """The model with the weights of now, or with their moving average."""
        return self._model.with_arrays(self.weights(averaged=averaged))

    def weights(self, *, averaged: bool) -> dict[str, Array]:
        """The trained arrays, or their moving average."""
        weights = self.state.averaged if averaged else self.state.params
        assert weights is not None
        return weights

    def restore(self, checkpoint: Checkpoint) -> None:
        """Go on from a checkpoint, whose model this one began with.

        Raises:
            InputError: the optimizer has changed, or the data have.
        """
        self._order.restore(checkpoint.meta["order"])
        self._planner.restore(checkpoint.meta["planner"])
        self.taken(self._order.state())
        arrays, (params, optimizer, average) = checkpoint.arrays, self.state
        if not named_arrays(optimizer, "optimizer").keys() <= arrays.keys():
            raise InputError(
                "the run was started with another optimizer, or with an earlier version of dpax. A restart "
                "must keep optimizer.type and training.acc_freq: undo the change, or start a new run in "
                "another folder"
            )
        optimizer = from_named_arrays(optimizer, "optimizer", arrays)
        # An average that is wanted from now on begins with the weights as they are.
        known = below(arrays, "averaged")
        if average is not None and known:
            average = {name: jnp.asarray(known[name]) for name in average}
        self.state = replicated(TrainState(params, optimizer, average), self._mesh)
