"""Atomic energies of a block of atoms from its edge vectors, and nothing else."""

from dataclasses import dataclass
from typing import NamedTuple

import jax.numpy as jnp
from jaxtyping import Array, Bool, Float, Int

from dpax.descriptor import block as descriptor_block
from dpax.model.fitting import FittingWeights, fit
from dpax.model.short_range import ShortRange, bridge


class Block(NamedTuple):
    """A block of atoms with its padded neighbour slots: the unit of work."""

    edges: Float[Array, "block slots 3"]
    """r_j - r_i, Å; zero in empty slots."""
    occupied: Bool[Array, "block slots"]
    """The last slot never is."""
    types: Int[Array, " block"]
    """Negative for atoms that only pad the array."""
    neighbor_types: Int[Array, "block slots"]
    """In empty slots the type of the first atom of the frame."""
    parameters: Float[Array, "block inputs"]
    """What the fitting net is told beside the surroundings; of zero width where it is told nothing."""

    def cut(self, slots: int) -> "Block":
        """The block with its first slots only; the others must be empty, and the last of these."""
        return self._replace(
            edges=self.edges[:, :slots],
            occupied=self.occupied[:, :slots],
            neighbor_types=self.neighbor_types[:, :slots],
        )


@dataclass(frozen=True)
class ModelSpec:
    """What is constant about a model."""

    descriptor: descriptor_block.Spec
    fitting_activation: str
    silent: tuple[int, ...] = ()
    """Types without an energy, though others see them."""
    silent_in_fitting: tuple[int, ...] = ()
    """Types without one from the fitting net."""
    unseen: tuple[tuple[int, int], ...] = ()
    """Pairs of types that are no neighbours of each other."""
    short_range: ShortRange | None = None
    missing_bias: tuple[float, ...] | None = None
    """[ntypes], eV: the bias that the short-range potential goes without; None if it has it too."""


class Vacuum(NamedTuple):
    """Descriptors whose energies are subtracted, so that an atom in them has none."""

    descriptors: Float[Array, "types width"]
    """For each type, that of no atom last."""
    applies: Float[Array, " types"]
    """1 or 0: whether a type's is. No flag, since weights are differentiated."""


class ModelWeights(NamedTuple):
    """The arrays of a model in the form that blocks use."""

    descriptor: descriptor_block.Weights
    fitting: FittingWeights
    vacuum: Vacuum | None = None


def atomic_energies(spec: ModelSpec, weights: ModelWeights, block: Block) -> Float[Array, " block"]:
    """Energies of the atoms of a block without the energy bias of their types, eV; zero for padding."""
    block = _visible(spec, weights, block)
    descriptors = _described(spec, weights, block)
    energies = fit(weights.fitting, spec.fitting_activation, descriptors, block.parameters)
    if weights.vacuum is not None:
        empty, applies = weights.vacuum.descriptors[block.types], weights.vacuum.applies[block.types]
        alone = fit(weights.fitting, spec.fitting_activation, empty, block.parameters)
        energies = energies - applies * alone
    if spec.silent_in_fitting:
        energies = jnp.where(_among(block.types, spec.silent_in_fitting), 0.0, energies)
    if spec.short_range is not None:
        energies = bridge(spec.short_range, energies, spec.missing_bias, *block[:4])
    counted = block.types >= 0
    if spec.silent:
        counted &= ~_among(block.types, spec.silent)
    return jnp.where(counted, energies, 0.0)


def block_descriptors(spec: ModelSpec, weights: ModelWeights, block: Block) -> Float[Array, "block width"]:
    """What the fitting net is told of the surroundings of the atoms of a block."""
    return _described(spec, weights, _visible(spec, weights, block))


def _described(spec: ModelSpec, weights: ModelWeights, block: Block) -> Float[Array, "block width"]:
    return descriptor_block.describe(
        spec.descriptor, weights.descriptor, block.edges, block.occupied, block.types, block.neighbor_types
    ).descriptor


def _visible(spec: ModelSpec, weights: ModelWeights, block: Block) -> Block:
    """The block as the model sees it: without the neighbours that it is told not to see."""
    if not spec.unseen:
        return block
    return _without_pairs(spec.unseen, block, weights.descriptor.tebd.shape[0])


def isolated_descriptors(
    spec: descriptor_block.Spec, weights: descriptor_block.Weights
) -> Float[Array, "types width"]:
    """The descriptor of an atom of each type without neighbours; that of no atom comes last, and is zero."""
    types = jnp.arange(weights.tebd.shape[0] - 1)
    slot = types[:, None]
    edges = jnp.zeros((*slot.shape, 3), weights.tebd.dtype)
    alone = descriptor_block.describe(spec, weights, edges, jnp.zeros_like(slot, bool), types, slot)
    return jnp.pad(alone.descriptor, ((0, 1), (0, 0)))


def _without_pairs(excluded: tuple[tuple[int, int], ...], block: Block, rows: int) -> Block:
    """The block with neighbours of excluded pairs of types turned into empty slots."""
    kept = jnp.asarray(descriptor_block.kept_pairs(excluded, rows))
    seen = kept[block.types[:, None], block.neighbor_types]
    return block._replace(
        edges=jnp.where((block.occupied & seen)[..., None], block.edges, 0.0),
        occupied=block.occupied & seen,
        neighbor_types=jnp.where(seen, block.neighbor_types, block.neighbor_types[:, -1:]),
    )


def _among(types: Int[Array, " block"], some: tuple[int, ...]) -> Bool[Array, " block"]:
    return jnp.isin(types, jnp.asarray(some, types.dtype))
