"""Atomic energies of a block of atoms from its edge vectors."""

from collections.abc import Sequence
from typing import NamedTuple

import jax.numpy as jnp
from jaxtyping import Array, Bool, Float, Int

from dpax.descriptor.describe import DescriptorWeights, describe, kept_pairs
from dpax.descriptor.describe import prepare as prepare_descriptor
from dpax.descriptor.spec import DescriptorSpec
from dpax.geometry.neighborhoods import Neighborhoods
from dpax.model.fitting import FittingWeights, fit, prepare_fitting
from dpax.model.short_range import bridge
from dpax.model.spec import ModelSpec
from dpax.nn.arrays import Arrays, below


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
    """Frame and atomic parameters of each atom; zero width without any."""

    @classmethod
    def of(cls, neighborhoods: Neighborhoods) -> "Block":
        """All atoms as one block."""
        occupied = neighborhoods.neighbors >= 0
        kinds, of_neighbors = neighborhoods.types, neighborhoods.neighbor_types
        return cls(neighborhoods.edges, occupied, kinds, of_neighbors, neighborhoods.parameters)

    def cut(self, slots: int) -> "Block":
        """The block with its first slots only; the others must be empty, and the last of these."""
        return self._replace(
            edges=self.edges[:, :slots],
            occupied=self.occupied[:, :slots],
            neighbor_types=self.neighbor_types[:, :slots],
        )


class Vacuum(NamedTuple):
    """Descriptors whose energies are subtracted, so that an atom in them has none."""

    descriptors: Float[Array, "types width"]
    """For each type, that of no atom last."""
    applies: Float[Array, " types"]
    """1 or 0: whether a type's is. A number, since weights are differentiated."""


class ModelWeights(NamedTuple):
    """The arrays of a model in the form that blocks use."""

    descriptor: DescriptorWeights
    fitting: FittingWeights
    vacuum: Vacuum | None
    missing_bias: Float[Array, " types"] | None
    """eV: the energy bias that the short-range potential lacks; None if it includes it."""


def prepare(spec: ModelSpec, arrays: Arrays, bias: Sequence[float]) -> ModelWeights:
    """What blocks use, from the named arrays of a model and its energy bias, eV."""
    descriptor = prepare_descriptor(spec.descriptor, below(arrays, "descriptor"))
    fitting = prepare_fitting(spec.fitting, below(arrays, "fitting"))
    short = spec.short_range
    missing = None if short is None else short.fitting_bias if short.add_bias else bias
    return ModelWeights(
        descriptor,
        fitting,
        _vacuum(spec, descriptor),
        None if missing is None else jnp.asarray(missing, float),
    )


def _vacuum(spec: ModelSpec, descriptor: DescriptorWeights) -> Vacuum | None:
    """The reference of the net's energies: a descriptor of zeros, or atoms without neighbours."""
    n, dtype = spec.descriptor.ntypes, spec.fitting.dtype
    if spec.isolated_energies is not None:
        asked = [energy is not None for energy in spec.isolated_energies]
        return Vacuum(isolated_descriptors(spec.descriptor, descriptor), jnp.array([*asked, False], dtype))
    if spec.fitting.subtracts_zero_descriptor:
        zeros = jnp.zeros((n + 1, spec.fitting.descriptor_width), dtype)
        return Vacuum(zeros, jnp.ones(n + 1, dtype))
    return None


def atomic_energies(spec: ModelSpec, weights: ModelWeights, block: Block) -> Float[Array, " block"]:
    """Energies of the atoms of a block without the energy bias of their types, eV; zero for padding."""
    block = _visible(spec, weights, block)
    descriptors = _described(spec, weights, block)
    energies = fit(weights.fitting, spec.fitting.activation_function, descriptors, block.parameters)
    if weights.vacuum is not None:
        empty, applies = weights.vacuum.descriptors[block.types], weights.vacuum.applies[block.types]
        alone = fit(weights.fitting, spec.fitting.activation_function, empty, block.parameters)
        energies = energies - applies * alone
    if spec.fitting.exclude_types:
        energies = jnp.where(_among(block.types, spec.fitting.exclude_types), 0.0, energies)
    if spec.short_range is not None:
        energies = bridge(spec.short_range, energies, weights.missing_bias, *block[:4])
    counted = block.types >= 0
    if spec.atom_exclude_types:
        counted &= ~_among(block.types, spec.atom_exclude_types)
    return jnp.where(counted, energies, 0.0)


def block_descriptors(spec: ModelSpec, weights: ModelWeights, block: Block) -> Float[Array, "block width"]:
    """The descriptors of a block of atoms, as the fitting net sees them."""
    return _described(spec, weights, _visible(spec, weights, block))


def _described(spec: ModelSpec, weights: ModelWeights, block: Block) -> Float[Array, "block width"]:
    return describe(
        spec.descriptor, weights.descriptor, block.edges, block.occupied, block.types, block.neighbor_types
    ).descriptor


def _visible(spec: ModelSpec, weights: ModelWeights, block: Block) -> Block:
    """The block as the model sees it, without the neighbours of excluded pairs."""
    if not spec.pair_exclude_types:
        return block
    return _without_pairs(spec.pair_exclude_types, block, weights.descriptor.no_atom + 1)


def isolated_descriptors(spec: DescriptorSpec, weights: DescriptorWeights) -> Float[Array, "types width"]:
    """The descriptor of an atom of each type without neighbours; that of no atom comes last, and is zero."""
    types = jnp.arange(weights.no_atom)
    slot = types[:, None]
    edges = jnp.zeros((*slot.shape, 3), spec.dtype)
    alone = describe(spec, weights, edges, jnp.zeros_like(slot, bool), types, slot)
    return jnp.pad(alone.descriptor, ((0, 1), (0, 0)))


def _without_pairs(excluded: tuple[tuple[int, int], ...], block: Block, rows: int) -> Block:
    """The block with neighbours of excluded pairs of types turned into empty slots."""
    sees = jnp.asarray(kept_pairs(excluded, rows))
    seen = sees[block.types[:, None], block.neighbor_types]
    return block._replace(
        edges=jnp.where((block.occupied & seen)[..., None], block.edges, 0.0),
        occupied=block.occupied & seen,
        neighbor_types=jnp.where(seen, block.neighbor_types, block.neighbor_types[:, -1:]),
    )


def _among(types: Int[Array, " block"], some: tuple[int, ...]) -> Bool[Array, " block"]:
    return jnp.isin(types, jnp.asarray(some, types.dtype))
