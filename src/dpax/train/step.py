"""One step of training: a pure function, compiled once for each shape of batch."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import optax
from jax.sharding import Mesh, NamedSharding, PartitionSpec
from jaxtyping import Array, PyTree

from dpax.data import Labels
from dpax.geometry.neighborhoods import Neighborhoods
from dpax.model.blocks import compiled, default_block_size
from dpax.model.derivatives import loss_gradient, predict
from dpax.model.energies import ModelWeights
from dpax.model.energy_model import EnergyModel
from dpax.train.error_sums import Errors
from dpax.train.learning_settings import LossSettings
from dpax.train.loss import Prefactors, energy_loss


class TrainState(NamedTuple):
    """What a step changes."""

    params: dict[str, Array]
    """The trained arrays of the model, by name."""
    optimizer: PyTree
    averaged: dict[str, Array] | None = None
    """An exponential moving average of `params`, where one is kept."""


@dataclass(frozen=True)
class Functions:
    """The functions of a model that training needs, compiled on first use for each shape of batch."""

    init: Callable[[], TrainState]
    step: Callable[[TrainState, Neighborhoods, Labels, Prefactors, float], tuple[TrainState, Errors]]
    errors: Callable[[dict[str, Array], Neighborhoods, Labels, Prefactors], Errors]


def replicated(tree: PyTree, mesh: Mesh) -> PyTree:
    """The arrays on every device, as a step returns them: another placement would compile it twice."""
    return jax.device_put(tree, NamedSharding(mesh, PartitionSpec()))


def make_functions(
    model: EnergyModel,
    loss: LossSettings,
    optimizer: optax.GradientTransformation,
    mesh: Mesh,
    block_size: int | None = None,
    *,
    ema_decay: float | None = None,
) -> Functions:
    """The functions that train a model.

    Args:
        model: the initial model; its arrays that are not trained stay as they are.
        loss: settings of the loss.
        optimizer: from gradients to steps of a learning rate of 1.
        mesh: devices over which blocks of atoms are shared out.
        block_size: most atoms of a block; None chooses for the machine.
        ema_decay: of the moving average of the weights; None keeps none.
    """
    spec, params = model.spec, {name: jnp.asarray(model.arrays[name]) for name in sorted(model.trained)}
    platform = mesh.devices.flat[0].platform

    def prepare(params: dict[str, Array]) -> ModelWeights:
        return model.with_arrays(params).weights()

    def size(neighborhoods: Neighborhoods) -> int:
        return block_size or default_block_size(neighborhoods.edges.shape[1], platform)

    def with_hessian(labels: Labels) -> bool:
        return loss.weighs("h") and "hessian" in labels.values

    def init() -> TrainState:
        averaged = None if ema_decay is None else params
        return replicated(TrainState(params, optimizer.init(params), averaged), mesh)

    def step(
        state: TrainState, neighborhoods: Neighborhoods, labels: Labels, weights: Prefactors, lr: Any
    ) -> tuple[TrainState, Errors]:
        (_, errors), gradient = loss_gradient(
            spec,
            prepare,
            state.params,
            neighborhoods,
            labels.n_frames,
            lambda prediction: energy_loss(prediction, labels, neighborhoods.frames, weights, loss),
            mesh,
            size(neighborhoods),
            with_hessian=with_hessian(labels),
        )
        updates, moments = optimizer.update(gradient, state.optimizer, state.params)
        moved = jax.tree.map(lambda p, u: p - (lr * u).astype(p.dtype), state.params, updates)
        averaged: Any = state.averaged
        if ema_decay is not None and state.averaged is not None:
            averaged = optax.incremental_update(moved, state.averaged, 1.0 - ema_decay)
        return TrainState(moved, moments, averaged), errors

    def errors(
        params: dict[str, Array], neighborhoods: Neighborhoods, labels: Labels, weights: Prefactors
    ) -> Errors:
        n_frames = labels.n_frames
        prediction = predict(
            spec,
            prepare(params),
            neighborhoods,
            n_frames,
            mesh,
            size(neighborhoods),
            with_hessian=with_hessian(labels),
        )
        return energy_loss(prediction, labels, neighborhoods.frames, weights, loss)[1]

    return Functions(
        init=init,
        step=compiled(step, mesh),
        errors=compiled(errors, mesh),
    )
