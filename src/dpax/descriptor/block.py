"""The descriptor of a block of atoms: the one place where DPA-1's mathematics stands.

The public classes, training and inference all call `describe`. Two ideas carry it.

*Empty slots are analytic.* DeePMD-kit gives every atom `sel` slots, and in its dense semantics an empty
one counts: it adds exp(-20) to each smooth softmax and -mean/deviation times its embedding to the moment.
All empty slots of an atom are equal, so arrays hold the real neighbours and at least one empty slot;
the empty ones share the weight of the `sel - n` that DeePMD-kit would have. The result does not depend on
how many slots the arrays have, and `sel` need not be one of their sizes.

*Weights are prepared once.* Whatever depends on weights and types alone (the type embedding, the
table of type pairs, the split projections) is computed once per call in `Weights`, not once per block.
"""

from dataclasses import dataclass
from typing import NamedTuple

import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Bool, Float, Int

from dpax.descriptor.compression import Table, interpolate
from dpax.descriptor.environment import Environment, angular_basis, environment, general_directions
from dpax.nn.attention import AttentionSpec, AttentionWeights, FoldedWeights, Slots, attention_layer
from dpax.nn.layers import Affine, apply_layers
from dpax.nn.primitives import einsum


@dataclass(frozen=True)
class Spec:
    """What is constant about a descriptor."""

    rcut: float
    rcut_smth: float
    sel: int
    axis_neuron: int
    lmax: int
    strip: bool
    type_one_side: bool
    smooth: bool
    activation_function: str
    env_protection: float
    excluded: tuple[tuple[int, int], ...]
    """Pairs of types that do not see each other."""
    isotropic: bool
    """Whether the statistics have no angular mean and one angular deviation, as those of data."""
    empty_slots: str
    """"dense": DeePMD-kit's numbers; "ignore": empty slots count nowhere."""
    concat_output_tebd: bool
    attention: AttentionSpec | None
    """None without attention layers."""


class Weights(NamedTuple):
    """The arrays of a descriptor in the form that blocks use. The last type row is that of no atom."""

    tebd: Float[Array, "types tebd_dim"]
    embedding: tuple[Affine, ...]
    pairs: Float[Array, "types types width"] | None
    """strip: the second network's output for (centre, neighbour); concat: None."""
    mean: Float[Array, "types _ 4"]
    """One for all slots, or (set by hand) one for each."""
    stddev: Float[Array, "types _ 4"]
    gains: Float[Array, " degrees"] | None
    """lmax > 1: the trainable gain of each degree from 2 on."""
    attention: tuple[AttentionWeights | FoldedWeights, ...]
    table: Table | None = None
    """A compressed descriptor's table, in the place of `embedding`."""


class Described(NamedTuple):
    """The descriptor of a block of atoms."""

    descriptor: Float[Array, "block width"]
    rotation: Float[Array, "block neuron 3"]
    """The equivariant moments."""
    pair: Float[Array, "block slots neuron"]
    """The invariant features of each neighbour, after attention."""
    environment: Environment


def describe(
    spec: Spec,
    weights: Weights,
    edges: Float[Array, "block slots 3"],
    occupied: Bool[Array, "block slots"],
    types: Int[Array, " block"],
    neighbor_types: Int[Array, "block slots"],
) -> Described:
    """Describe the surroundings of a block of atoms.

    Args:
        spec: what is constant.
        weights: the arrays.
        edges: r_j - r_i, Å; zero in empty slots.
        occupied: whether a slot holds a neighbour. Neighbours beyond the cut-off count as none, so lists
            may be made with a skin.
        types: of the centres; negative for none.
        neighbor_types: of the neighbours; in empty slots the type of the first atom of the frame, whose
            embedding they carry in DeePMD-kit.
    """
    # `where` before the norm: an empty slot's edge must not meet the root.
    inside = occupied & (jnp.sum(edges * edges, axis=-1) <= spec.rcut**2)
    no_atom = weights.tebd.shape[0] - 1
    types = jnp.where(types < 0, no_atom, types)
    neighbor_types = jnp.where(neighbor_types < 0, no_atom, neighbor_types)
    present = inside
    if spec.excluded:
        kept = jnp.asarray(kept_pairs(spec.excluded, no_atom + 1))
        present = inside & kept[types[:, None], neighbor_types]

    env = environment(edges, present, spec.rcut, spec.rcut_smth, spec.env_protection)
    mean, stddev = weights.mean[types], weights.stddev[types]
    rows = (env.rows - mean) / stddev
    if spec.excluded:
        rows = jnp.where((inside & ~present)[..., None], 0.0, rows)
    counted = _counted_slots(spec, inside)

    unit = env.unit if spec.isotropic else general_directions(env, mean, stddev)
    g = _embed(spec, weights, rows[..., 0], env.switch, types, neighbor_types)
    missing = (counted - edges.shape[1]).astype(g.dtype)
    slots = Slots(present, env.switch, unit, missing)
    for layer in weights.attention:
        assert spec.attention is not None
        g = attention_layer(g, layer, slots, spec.attention)

    moments = _moments(spec, rows, env, stddev, inside, counted)
    m = einsum("bkg,bkm->bgm", g, moments) / spec.sel
    descriptor = _gram(spec, weights, m)
    if spec.concat_output_tebd:
        descriptor = jnp.concatenate([descriptor, weights.tebd[types]], axis=-1)
    return Described(descriptor, m[..., 1:4], g, env)


def kept_pairs(excluded: tuple[tuple[int, int], ...], rows: int) -> np.ndarray:
    """bool [rows, rows], False for excluded pairs of types in either order."""
    kept = np.ones((rows, rows), bool)
    for a, b in excluded:
        kept[a, b] = kept[b, a] = False
    return kept


def _counted_slots(spec: Spec, inside: Bool[Array, "block slots"]) -> Int[Array, " block"]:
    """The number of slots that count for each atom, empty ones included.

    More neighbours than `sel` all count, and then no empty slot does. An atom without neighbours keeps
    one slot where empty ones are ignored, so that its softmax has a denominator.
    """
    n = jnp.sum(inside, axis=-1)
    return jnp.maximum(n, spec.sel) if spec.empty_slots == "dense" else jnp.maximum(n, 1)


def _embed(
    spec: Spec,
    weights: Weights,
    radial: Float[Array, "block slots"],
    switch: Float[Array, "block slots"],
    types: Int[Array, " block"],
    neighbor_types: Int[Array, "block slots"],
) -> Float[Array, "block slots neuron"]:
    """The features of each neighbour before attention."""
    x = radial[..., None]
    if spec.strip:
        if weights.table is None:
            g = apply_layers(x, weights.embedding, spec.activation_function)
        else:
            g = interpolate(weights.table, radial)
        assert weights.pairs is not None
        t = weights.pairs[types[:, None], neighbor_types]
        return g * t * switch[..., None] + g if spec.smooth else g * t + g
    parts = [x, weights.tebd[neighbor_types]]
    if not spec.type_one_side:
        parts.append(jnp.broadcast_to(weights.tebd[types][:, None], parts[1].shape))
    return apply_layers(jnp.concatenate(parts, axis=-1), weights.embedding, spec.activation_function)


def _moments(
    spec: Spec,
    rows: Float[Array, "block slots 4"],
    env: Environment,
    stddev: Float[Array, "block _ 4"],
    inside: Bool[Array, "block slots"],
    counted: Int[Array, " block"],
) -> Float[Array, "block slots moments"]:
    """The angular basis of each slot, empty ones weighted by how many they stand for."""
    n = jnp.sum(inside, axis=-1)
    empty = jnp.maximum(inside.shape[1] - n, 1)
    if spec.empty_slots == "dense":
        share = ((counted - n) / empty).astype(rows.dtype)[:, None]
    else:
        share = jnp.zeros((), rows.dtype)
    moments = rows * jnp.where(inside, 1.0, share).astype(rows.dtype)[..., None]
    if spec.lmax == 1:
        return moments
    radial = (env.inverse / stddev[..., 0])[..., None]
    return jnp.concatenate([moments, radial * angular_basis(env, spec.lmax)], axis=-1)


def _gram(
    spec: Spec, weights: Weights, m: Float[Array, "block neuron moments"]
) -> Float[Array, "block width"]:
    """Products of the moments with their first `axis_neuron` columns, summed over each degree."""
    axis = m[:, : spec.axis_neuron]
    if spec.lmax > 1:
        assert weights.gains is not None
        repeats = np.array([2 * degree + 1 for degree in range(2, spec.lmax + 1)])
        gains = jnp.repeat(weights.gains**2, repeats, total_repeat_length=int(repeats.sum()))
        axis = axis * jnp.concatenate([jnp.ones(4, m.dtype), gains])
    return einsum("bgm,bam->bga", m, axis).reshape(m.shape[0], -1)
