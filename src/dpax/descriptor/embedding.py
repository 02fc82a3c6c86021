"""The embedding of element types, and the features of a neighbour from its distance and its type."""

from typing import NamedTuple

import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float, Int

from dpax.descriptor.spec import DescriptorSpec
from dpax.descriptor.table import Table, interpolate, radial_table
from dpax.nn.arrays import Arrays, below
from dpax.nn.electron_configuration import electron_configuration
from dpax.nn.layers import Affine, apply_layers, network


class EmbeddingWeights(NamedTuple):
    """The arrays of the embedding in the form that blocks use. The last type row is that of no atom."""

    tebd: Float[Array, "types tebd_dim"]
    radial: tuple[Affine, ...]
    pairs: Float[Array, "types types width"] | None
    """strip: the second network's output for (centre, neighbour); concat: None."""
    table: Table | None
    """A compressed descriptor's table, instead of `radial`."""


def prepare_embedding(
    spec: DescriptorSpec, arrays: Arrays, tebd: Float[Array, "types tebd_dim"]
) -> EmbeddingWeights:
    """What depends on weights and types alone, computed once for all blocks."""
    pairs = type_pairs(spec, arrays, tebd) if spec.strip else None
    return EmbeddingWeights(tebd, network(below(arrays, "embedding")), pairs, radial_table(arrays))


def type_inputs(spec: DescriptorSpec) -> Float[np.ndarray, "types inputs"]:
    """What the layer of the type embedding sees: one-hot vectors or electron configurations."""
    if not spec.use_econf_tebd:
        return np.eye(spec.ntypes, dtype=spec.dtype)
    assert spec.type_map is not None
    return np.stack([electron_configuration(name) for name in spec.type_map]).astype(spec.dtype)


def type_embedding(spec: DescriptorSpec, arrays: Arrays) -> Float[Array, "types tebd_dim"]:
    """A row of numbers for each type, and a row of zeros for no atom at all."""
    layers = network(below(arrays, "type_embedding"))
    table = apply_layers(jnp.asarray(type_inputs(spec)), layers, "none")
    return jnp.pad(table, ((0, 1), (0, 0)))


def type_pairs(
    spec: DescriptorSpec, arrays: Arrays, tebd: Float[Array, "types tebd_dim"]
) -> Float[Array, "types types neuron"]:
    """The strip network on every (centre, neighbour); its input is the neighbour's embedding first."""
    n = tebd.shape[0]
    if "type_pairs" in arrays:
        rows = jnp.asarray(arrays["type_pairs"])
        return jnp.broadcast_to(rows.reshape(-1, n, rows.shape[1]), (n, n, rows.shape[1]))
    layers, activation = network(below(arrays, "pair_embedding")), spec.activation_function
    if spec.type_one_side:
        return jnp.broadcast_to(apply_layers(tebd, layers, activation)[None], (n, n, spec.neuron[-1]))
    neighbor = jnp.broadcast_to(tebd[None], (n, n, spec.tebd_dim))
    center = jnp.broadcast_to(tebd[:, None], (n, n, spec.tebd_dim))
    return apply_layers(jnp.concatenate([neighbor, center], axis=-1), layers, activation)


def embed(
    spec: DescriptorSpec,
    weights: EmbeddingWeights,
    radial: Float[Array, "block slots"],
    switch: Float[Array, "block slots"],
    types: Int[Array, " block"],
    neighbor_types: Int[Array, "block slots"],
) -> Float[Array, "block slots neuron"]:
    """The features of each neighbour before attention.

    Args:
        spec: of the descriptor.
        weights: of the embedding.
        radial: the normalised radial entry of the environment.
        switch: the switching function.
        types: of the centres.
        neighbor_types: of the neighbours.
    """
    x = radial[..., None]
    if spec.strip:
        if weights.table is None:
            g = apply_layers(x, weights.radial, spec.activation_function)
        else:
            g = interpolate(weights.table, radial)
        assert weights.pairs is not None
        t = weights.pairs[types[:, None], neighbor_types]
        return g * t * switch[..., None] + g if spec.smooth_type_embedding else g * t + g
    parts = [x, weights.tebd[neighbor_types]]
    if not spec.type_one_side:
        parts.append(jnp.broadcast_to(weights.tebd[types][:, None], parts[1].shape))
    return apply_layers(jnp.concatenate(parts, axis=-1), weights.radial, spec.activation_function)
