"""Forces, virials, Hessians and parameter gradients: the only place where the energy is differentiated.

Everything is computed block by block of atoms (`dpax.model.blocks`). Forces and virial are linear in the edge
gradients dE/d(r_j - r_i), and so a gradient with respect to the parameters of any loss of energies, forces
and virials needs two passes over the blocks, not a reverse pass through a reverse pass:

1. energies and edge gradients; from them the loss L and its cotangents λ = dL/dE_i, v = dL/dg_ij;
2. for each block the parameter gradient of Σ_i λ_i E_i + Σ_ij v_ij·g_ij, where the second sum is the
   derivative of the energy along v.

A loss of the Hessian adds Σ_k C_k·H_k over its rows, with the cotangents C = dL/dH. A row is the second
derivative along a displacement d_k of one coordinate, so each needs the parameter gradient of one second
derivative along (d_k, C_k): 3N times the work of pass 2, and again the memory of one block.
"""

from collections.abc import Callable
from functools import partial
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
from jax.sharding import Mesh, NamedSharding, PartitionSpec
from jaxtyping import Array, Float, PyTree

from dpax.geometry.arrays import AtomicEnergies, Edges, Forces, Virials
from dpax.geometry.neighborhoods import Neighborhoods
from dpax.model.blocks import NARROWER, NARROWER_IN_TRAINING, Axes, Blocks
from dpax.model.energies import Block, ModelWeights, atomic_energies, block_descriptors
from dpax.model.spec import ModelSpec
from dpax.nn.primitives import einsum


class Prediction(NamedTuple):
    """Predictions for the frames of a batch; energies are without the energy bias of the types."""

    energies: AtomicEnergies
    forces: Forces
    virials: Virials
    hessian: Float[Array, "atoms 3 atoms 3"] | None = None
    """eV/Å², if requested."""


def energies_only(
    spec: ModelSpec, weights: ModelWeights, neighborhoods: Neighborhoods, mesh: Mesh, block_size: int
) -> AtomicEnergies:
    """Atomic energies (eV, without bias) where nothing is differentiated."""
    return Blocks(neighborhoods, mesh, block_size).map(partial(atomic_energies, spec), weights, Axes.ATOM)


def atomic_descriptors(
    spec: ModelSpec, weights: ModelWeights, neighborhoods: Neighborhoods, mesh: Mesh, block_size: int
) -> Float[Array, "atoms width"]:
    """The descriptor of every atom, as the fitting net sees it."""
    return Blocks(neighborhoods, mesh, block_size).map(partial(block_descriptors, spec), weights, Axes.ATOM)


class EdgeGradients(NamedTuple):
    """The terms whose sums are forces and virials."""

    energies: Float[Array, " atoms"]
    """Of the atoms, without the energy bias of their types, eV."""
    gradient: Float[Array, "atoms slots 3"]
    """dE/d(r_j - r_i) for every slot, eV/Å."""


_AXES: Any = EdgeGradients(*(Axes.ATOM, Axes.SLOT))  # pyright: ignore[reportArgumentType]


def block_gradients(spec: ModelSpec, weights: ModelWeights, block: Block) -> EdgeGradients:
    """The same as `edge_gradients`, of one block."""

    def total(edges: Array) -> tuple[Array, Array]:
        energies = atomic_energies(spec, weights, block._replace(edges=edges))
        return jnp.sum(energies), energies

    gradient, energies = jax.grad(total, has_aux=True)(block.edges)
    return EdgeGradients(energies, gradient)


def edge_gradients(
    spec: ModelSpec,
    weights: ModelWeights,
    neighborhoods: Neighborhoods,
    mesh: Mesh,
    block_size: int,
    narrower: tuple[float, ...] = NARROWER,
) -> EdgeGradients:
    """Atomic energies (eV, without bias) and dE/d(r_j - r_i) for every slot (eV/Å)."""
    blocks = Blocks(neighborhoods, mesh, block_size, narrower)
    of_all = blocks.map(partial(block_gradients, spec), weights, _AXES)
    return jax.lax.with_sharding_constraint(of_all, NamedSharding(mesh, PartitionSpec()))


def forces_from(gradient: Edges, neighborhoods: Neighborhoods) -> Forces:
    """F_i = Σ_j g_ij - Σ_j g_ji from the edge gradients g_ij = dE/d(r_j - r_i)."""
    atoms = gradient.shape[0]
    target = jnp.where(neighborhoods.neighbors >= 0, neighborhoods.neighbors, atoms)
    return jnp.sum(gradient, axis=1).at[target].add(-gradient, mode="drop")


def virials_from(gradient: Edges, neighborhoods: Neighborhoods, n_frames: int) -> Virials:
    """W = -Σ (r_j - r_i) ⊗ g_ij of each frame; symmetric for an energy that no rotation changes."""
    atomic = -einsum("akx,aky->axy", neighborhoods.edges, gradient)
    return jax.ops.segment_sum(atomic, neighborhoods.frames, num_segments=n_frames + 1)[:n_frames]


def atomic_virials_from(gradient: Edges, neighborhoods: Neighborhoods) -> Float[Array, "atoms 3 3"]:
    """The virial shared out as DeePMD-kit does: -(r_j - r_i) ⊗ g_ij belongs to the neighbour j."""
    atoms = gradient.shape[0]
    target = jnp.where(neighborhoods.neighbors >= 0, neighborhoods.neighbors, atoms)
    pairs = -neighborhoods.edges[..., :, None] * gradient[..., None, :]
    return jnp.zeros((atoms, 3, 3), gradient.dtype).at[target].add(pairs, mode="drop")


def predict(
    spec: ModelSpec,
    weights: ModelWeights,
    neighborhoods: Neighborhoods,
    n_frames: int,
    mesh: Mesh,
    block_size: int,
    *,
    with_hessian: bool = False,
) -> Prediction:
    """Atomic energies, forces and virials of the frames of a batch, and if wanted the Hessian."""
    energies, gradient = edge_gradients(spec, weights, neighborhoods, mesh, block_size)
    return Prediction(
        energies,
        forces_from(gradient, neighborhoods),
        virials_from(gradient, neighborhoods, n_frames),
        hessian(spec, weights, neighborhoods, mesh, block_size) if with_hessian else None,
    )


def hessian(
    spec: ModelSpec, weights: ModelWeights, neighborhoods: Neighborhoods, mesh: Mesh, block_size: int
) -> Float[Array, "atoms 3 atoms 3"]:
    """Second derivatives of the energy with respect to the positions, eV/Å²; all periodic images move."""
    atoms = neighborhoods.types.shape[0]

    def forces(displacement: Array) -> Array:
        moved = neighborhoods._replace(edges=neighborhoods.edges + _stretch(displacement, neighborhoods))
        gradient = edge_gradients(spec, weights, moved, mesh, block_size, NARROWER_IN_TRAINING).gradient
        return forces_from(gradient, moved)

    still = jnp.zeros((atoms, 3), neighborhoods.edges.dtype)
    rows = jax.lax.map(lambda d: -jax.jvp(forces, (still,), (d,))[1], _directions(still))
    return rows.reshape(atoms, 3, atoms, 3)


def _directions(positions: Forces) -> Float[Array, "coordinates atoms 3"]:
    """The displacements of one coordinate each."""
    return jnp.eye(positions.size, dtype=positions.dtype).reshape(-1, *positions.shape)


def _stretch(displacement: Forces, neighborhoods: Neighborhoods) -> Edges:
    """How the edge vectors change when the atoms are displaced; all periodic images move."""
    change = displacement[neighborhoods.neighbors] - displacement[:, None]
    return jnp.where((neighborhoods.neighbors >= 0)[..., None], change, 0.0)


def loss_gradient(
    spec: ModelSpec,
    prepare: Callable[[PyTree], ModelWeights],
    params: PyTree,
    neighborhoods: Neighborhoods,
    n_frames: int,
    loss: Callable[[Prediction], tuple[Array, PyTree]],
    mesh: Mesh,
    block_size: int,
    *,
    with_hessian: bool = False,
) -> tuple[tuple[Array, PyTree], PyTree]:
    """Value and parameter gradient of a loss of energies, forces, virials and Hessian, block by block.

    Args:
        spec: what is constant about the model.
        prepare: from the parameters to the arrays that blocks use.
        params: what to differentiate with respect to.
        neighborhoods: the atoms of the batch.
        n_frames: frames of the batch.
        loss: from a prediction to a scalar and anything else of interest.
        mesh: devices.
        block_size: most atoms of a block.
        with_hessian: the loss sees the Hessian too.

    Returns:
        ((loss, anything else), gradient), the gradient as `params`.
    """
    weights, to_params = jax.vjp(prepare, params)
    energies, gradient = edge_gradients(spec, weights, neighborhoods, mesh, block_size, NARROWER_IN_TRAINING)
    second = hessian(spec, weights, neighborhoods, mesh, block_size) if with_hessian else None

    def from_edges(energies: Array, gradient: Array, second: Array | None) -> tuple[Array, PyTree]:
        forces = forces_from(gradient, neighborhoods)
        return loss(Prediction(energies, forces, virials_from(gradient, neighborhoods, n_frames), second))

    value, (by_energy, along, by_hessian) = jax.value_and_grad(from_edges, argnums=(0, 1, 2), has_aux=True)(
        energies, gradient, second
    )

    def weighted(weights: ModelWeights, block: Block, by_energy: Array, along: Array) -> Array:
        energies, derivative = jax.jvp(
            lambda edges: atomic_energies(spec, weights, block._replace(edges=edges)),
            (block.edges,),
            (along,),
        )
        return jnp.sum(by_energy * energies) + jnp.sum(derivative)

    blocks = Blocks(neighborhoods, mesh, block_size, NARROWER_IN_TRAINING)
    by_weights = blocks.sum(
        jax.grad(weighted), weights, by_energy=(by_energy, Axes.ATOM), along=(along, Axes.SLOT)
    )
    if with_hessian:
        more = _hessian_gradient(spec, weights, neighborhoods, by_hessian, mesh, block_size)
        by_weights = jax.tree.map(jnp.add, by_weights, more)
    return value, to_params(by_weights)[0]


def _hessian_gradient(
    spec: ModelSpec,
    weights: ModelWeights,
    neighborhoods: Neighborhoods,
    cotangent: Float[Array, "atoms 3 atoms 3"],
    mesh: Mesh,
    block_size: int,
) -> ModelWeights:
    """The gradient of Σ C·H with respect to the weights, one row of the Hessian after the other."""
    blocks = Blocks(neighborhoods, mesh, block_size, NARROWER_IN_TRAINING)

    def second(weights: ModelWeights, block: Block, along: Array, across: Array) -> Array:
        def first(edges: Array) -> Array:
            def energy(edges: Array) -> Array:
                return jnp.sum(atomic_energies(spec, weights, block._replace(edges=edges)))

            return jax.jvp(energy, (edges,), (along,))[1]

        return jax.jvp(first, (block.edges,), (across,))[1]

    def add_row(total: ModelWeights, row: tuple[Array, Array]) -> tuple[ModelWeights, None]:
        along, across = ((_stretch(d, neighborhoods), Axes.SLOT) for d in row)
        part = blocks.sum(jax.grad(second), weights, along=along, across=across)
        return jax.tree.map(jnp.add, total, part), None

    atoms = neighborhoods.types.shape[0]
    directions = _directions(jnp.zeros((atoms, 3), neighborhoods.edges.dtype))
    rows = (directions, cotangent.reshape(-1, atoms, 3))
    return jax.lax.scan(add_row, jax.tree.map(jnp.zeros_like, weights), rows)[0]
