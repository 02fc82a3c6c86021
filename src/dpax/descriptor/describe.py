"""The descriptor of a block of atoms: the one place where DPA-1's mathematics stands.

Training, evaluation and the public classes all call `describe`.

*Empty slots are analytic.* DeePMD-kit gives every atom `sel` slots, and in its dense semantics an empty
one counts: it adds exp(-20) to each smooth softmax and -mean/deviation times its embedding to the moment.
All empty slots of an atom are equal, so arrays hold the real neighbours and at least one empty slot;
the empty ones share the weight of the `sel - n` that DeePMD-kit would have. The result does not depend on
how many slots the arrays have, and `sel` need not be one of their sizes.
"""

from collections.abc import Iterable, Sequence
from typing import NamedTuple

import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Bool, Float, Int

from dpax.descriptor.attention import AttentionWeights, FoldedWeights, Slots, attention_layer, prepare_layer
from dpax.descriptor.embedding import EmbeddingWeights, embed, prepare_embedding, type_embedding
from dpax.descriptor.environment import Environment, environment, general_directions
from dpax.descriptor.moments import angular_moments, products
from dpax.descriptor.spec import DescriptorSpec
from dpax.nn.arrays import Arrays, below
from dpax.nn.primitives import einsum


class DescriptorWeights(NamedTuple):
    """The arrays of a descriptor in the form that blocks use. The last type row is that of no atom."""

    embedding: EmbeddingWeights
    mean: Float[Array, "types _ 4"]
    """One for all slots, or (set by hand) one for each."""
    stddev: Float[Array, "types _ 4"]
    gains: Float[Array, " degrees"] | None
    """lmax > 1: the trainable gain of each degree from 2 on."""
    attention: tuple[AttentionWeights | FoldedWeights, ...]

    @property
    def no_atom(self) -> int:
        """The type of no atom."""
        return self.embedding.tebd.shape[0] - 1


def prepare(
    spec: DescriptorSpec, arrays: Arrays, tebd: Float[Array, "types tebd_dim"] | None = None
) -> DescriptorWeights:
    """What blocks use, from the named arrays of a descriptor.

    Whatever depends on weights and types alone (the type embedding, the table of type pairs, products of the
    attention's projections) is computed here, once for all blocks.

    Args:
        spec: the constants.
        arrays: by name.
        tebd: the type embedding with its row for no atom, where it does not come from the arrays.
    """
    tebd = type_embedding(spec, arrays) if tebd is None else tebd
    pad = ((0, 1), (0, 0), (0, 0))
    gains = arrays.get("degree_gains")
    return DescriptorWeights(
        embedding=prepare_embedding(spec, arrays, tebd),
        mean=jnp.pad(jnp.asarray(arrays["mean"]), pad),
        stddev=jnp.pad(jnp.asarray(arrays["stddev"]), pad, constant_values=1.0),
        gains=None if gains is None else jnp.asarray(gains),
        attention=tuple(
            prepare_layer(spec.attention, below(arrays, "attention", number))
            for number in range(spec.attn_layer)
        ),
    )


class Described(NamedTuple):
    """The descriptor of a block of atoms."""

    descriptor: Float[Array, "block width"]
    rotation: Float[Array, "block neuron 3"]
    """The equivariant moments."""
    pair: Float[Array, "block slots neuron"]
    """The invariant features of each neighbour, after attention."""
    environment: Environment


def describe(
    spec: DescriptorSpec,
    weights: DescriptorWeights,
    edges: Float[Array, "block slots 3"],
    occupied: Bool[Array, "block slots"],
    types: Int[Array, " block"],
    neighbor_types: Int[Array, "block slots"],
) -> Described:
    """Describe the surroundings of a block of atoms.

    Args:
        spec: the constants.
        weights: the arrays.
        edges: r_j - r_i, Å; zero in empty slots.
        occupied: whether a slot holds a neighbour. Neighbours beyond the cutoff count as none, so lists
            may be made with a skin.
        types: of the centres; negative for none.
        neighbor_types: of the neighbours; in empty slots the type of the first atom of the frame, whose
            embedding they carry in DeePMD-kit.
    """
    # `where` before the norm: an empty slot's edge must not meet the root.
    inside = occupied & (jnp.sum(edges * edges, axis=-1) <= spec.rcut**2)
    types = jnp.where(types < 0, weights.no_atom, types)
    neighbor_types = jnp.where(neighbor_types < 0, weights.no_atom, neighbor_types)
    present = inside
    if spec.exclude_types:
        sees = jnp.asarray(kept_pairs(spec.exclude_types, weights.no_atom + 1))
        present = inside & sees[types[:, None], neighbor_types]

    env = environment(edges, present, spec.rcut, spec.rcut_smth, spec.env_protection)
    mean, stddev = weights.mean[types], weights.stddev[types]
    rows = (env.rows - mean) / stddev
    if spec.exclude_types:
        rows = jnp.where((inside & ~present)[..., None], 0.0, rows)
    counted = _counted_slots(spec, inside)

    unit = env.unit if spec.isotropic else general_directions(env, mean, stddev)
    g = embed(spec, weights.embedding, rows[..., 0], env.switch, types, neighbor_types)
    missing = (counted - edges.shape[1]).astype(g.dtype)
    slots = Slots(present, env.switch, unit, missing)
    for layer in weights.attention:
        g = attention_layer(g, layer, slots, spec.attention)

    basis = angular_moments(spec, rows, env, stddev, inside, counted)
    moments = einsum("bkg,bkm->bgm", g, basis) / spec.nsel
    descriptor = products(spec, moments, weights.gains)
    if spec.concat_output_tebd:
        descriptor = jnp.concatenate([descriptor, weights.embedding.tebd[types]], axis=-1)
    return Described(descriptor, moments[..., 1:4], g, env)


def kept_pairs(excluded: Iterable[Sequence[int]], rows: int) -> np.ndarray:
    """bool [rows, rows], False for excluded pairs of types in either order."""
    mask = np.ones((rows, rows), bool)
    for a, b in excluded:
        mask[a, b] = mask[b, a] = False
    return mask


def _counted_slots(spec: DescriptorSpec, inside: Bool[Array, "block slots"]) -> Int[Array, " block"]:
    """The number of slots that count for each atom, empty ones included.

    More neighbours than `sel` all count, and then no empty slot does. An atom without neighbours keeps
    one slot where empty ones are ignored, so that its softmax has a denominator.
    """
    n = jnp.sum(inside, axis=-1)
    return jnp.maximum(n, spec.nsel) if spec.empty_slots == "dense" else jnp.maximum(n, 1)
