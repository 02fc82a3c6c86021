"""One step of training: a pure function, compiled once for each shape of batch."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, NamedTuple

import jax
import optax
from flax import nnx
from jax.sharding import Mesh, NamedSharding, PartitionSpec
from jaxtyping import PyTree

from dpax.data import Labels
from dpax.geometry.neighbors import Neighborhoods
from dpax.model.derivatives import default_block_size, loss_gradient, predict
from dpax.model.potential import EnergyModel, ModelWeights
from dpax.train.loss import Errors, Prefactors, energy_loss
from dpax.train.settings import OptimizerSettings


class TrainState(NamedTuple):
    """What a step changes."""

    params: PyTree
    """The trainable arrays of the model."""
    optimizer: PyTree


@dataclass(frozen=True)
class Functions:
    """What a training needs of a model, compiled on first use for each shape of batch."""

    init: Callable[[], TrainState]
    step: Callable[[TrainState, Neighborhoods, Labels, Prefactors, float], tuple[TrainState, Errors]]
    errors: Callable[[PyTree, Neighborhoods, Labels, Prefactors], Errors]
    model: Callable[[PyTree], EnergyModel]


def replicated(tree: PyTree, mesh: Mesh) -> PyTree:
    """The arrays on every device, as a step returns them: another placement would compile it twice."""
    return jax.device_put(tree, NamedSharding(mesh, PartitionSpec()))


def make_functions(
    model: EnergyModel, settings: OptimizerSettings, mesh: Mesh, block_size: int | None = None
) -> Functions:
    """The functions that train a model.

    Args:
        model: the initial model; its `Fixed` arrays stay as they are.
        settings: of the optimizer.
        mesh: devices over which blocks of atoms are shared out.
        block_size: most atoms of a block; None chooses for the machine.
    """
    graph, params, fixed = nnx.split(model, nnx.Param, ...)
    spec = model.spec()
    adam = optax.scale_by_adam(b1=settings.adam_beta1, b2=settings.adam_beta2)
    platform = mesh.devices.flat[0].platform

    def prepare(params: PyTree) -> ModelWeights:
        return nnx.merge(graph, params, fixed).weights()

    def size(neighborhoods: Neighborhoods) -> int:
        return block_size or default_block_size(neighborhoods.edges.shape[1], platform)

    def step(
        state: TrainState, neighborhoods: Neighborhoods, labels: Labels, weights: Prefactors, lr: Any
    ) -> tuple[TrainState, Errors]:
        (_, errors), gradient = loss_gradient(
            spec,
            prepare,
            state.params,
            neighborhoods,
            labels.energy.shape[0],
            lambda prediction: energy_loss(prediction, labels, neighborhoods.frames, weights),
            mesh,
            size(neighborhoods),
        )
        updates, optimizer = adam.update(gradient, state.optimizer)
        moved = jax.tree.map(lambda p, u: p - (lr * u).astype(p.dtype), state.params, updates)
        return TrainState(moved, optimizer), errors

    def errors(params: PyTree, neighborhoods: Neighborhoods, labels: Labels, weights: Prefactors) -> Errors:
        n_frames = labels.energy.shape[0]
        prediction = predict(spec, prepare(params), neighborhoods, n_frames, mesh, size(neighborhoods))
        return energy_loss(prediction, labels, neighborhoods.frames, weights)[1]

    return Functions(
        init=lambda: replicated(TrainState(params, adam.init(params)), mesh),
        step=jax.jit(step),
        errors=jax.jit(errors),
        model=lambda params: nnx.merge(graph, params, fixed),
    )
