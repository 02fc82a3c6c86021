"""Forces, virials, Hessians and parameter gradients: the only place where the energy is differentiated.

Everything is computed block by block of atoms, and blocks are shared out over the devices of a mesh, so
memory beyond the inputs is that of one block on each device. Forces and virial are linear in the edge
gradients dE/d(r_j - r_i), and so a gradient with respect to the parameters of any loss of energies, forces
and virials needs two passes over the blocks, not a reverse pass through a reverse pass:

1. energies and edge gradients; from them the loss L and its cotangents λ = dL/dE_i, v = dL/dg_ij;
2. for each block the parameter gradient of Σ_i λ_i E_i + Σ_ij v_ij·g_ij, where the second sum is the
   derivative of the energy along v.

Neighbours are unevenly spread, and arithmetic for empty slots is lost. So atoms with as many neighbours come
into the same blocks, and a block whose atoms all have few is computed on fewer slots (`_Blocks`).

A loss of the Hessian adds Σ_k C_k·H_k over its rows, with the cotangents C = dL/dH. A row is the second
derivative along a displacement d_k of one coordinate, so each needs the parameter gradient of one second
derivative along (d_k, C_k): 3N times the work of pass 2, and again the memory of one block.
"""

import math
from collections.abc import Callable
from functools import partial
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jax.sharding import Mesh, NamedSharding, PartitionSpec
from jaxtyping import Array, Bool, Float, Int, PyTree

from dpax.geometry.arrays import AtomicEnergies, Edges, Forces, Virials
from dpax.geometry.neighbors import Neighborhoods
from dpax.model.energies import Block, ModelSpec, ModelWeights, atomic_energies, block_descriptors
from dpax.nn.primitives import einsum

AXIS = "atoms"
"""The mesh axis over which blocks of atoms are shared out."""
_ROWS_ON_CPU = 832
"""Atoms times slots of a block whose temporaries stay in a core's cache: 8 atoms of liquid water."""
_ROWS_ON_ACCELERATOR = 2**18
_ON_GPU = {"xla_gpu_enable_triton_gemm": False}
_MANY_SLOTS = 96
"""With fewer a second program does not pay for its compilation."""
_NARROWER = (13 / 16, 7 / 8)
"""Shares of the slots that blocks with few neighbours are computed on."""
_NARROWER_IN_TRAINING = (7 / 8,)
"""The program of a training step takes longer to compile, and one share has most of the gain."""


class Prediction(NamedTuple):
    """What a model says of the frames of a batch; energies are without the energy bias of the types."""

    energies: AtomicEnergies
    forces: Forces
    virials: Virials
    hessian: Float[Array, "atoms 3 atoms 3"] | None = None
    """eV/Å², where it was asked for."""


def make_mesh(devices: list[Any] | None = None) -> Mesh:
    """A mesh of devices over which blocks of atoms are shared out; all local ones by default."""
    return Mesh(np.asarray(devices or jax.devices()), (AXIS,))


def compiled(function: Callable, mesh: Mesh) -> Callable:
    """`jax.jit` for the devices of a mesh.

    On GPUs XLA tries a dozen kernels of its own for each product of matrices, beside those of the vendor's
    library. For float32 in full precision they gain little: on an H200 the first training step of water took
    67 s with them and 20 s without, and later steps 7.1 and 7.5 ms (fastest of 20).

    Args:
        function: what to compile.
        mesh: where it will run.
    """
    on_gpu = mesh.devices.flat[0].platform == "gpu"
    return jax.jit(function, compiler_options=_ON_GPU if on_gpu else None)


def default_block_size(slots: int, platform: str) -> int:
    """Atoms of a block: as many as keep a core's caches, or an accelerator, busy."""
    rows = _ROWS_ON_CPU if platform == "cpu" else _ROWS_ON_ACCELERATOR
    return max(1, round(rows / slots))


class _Layout(NamedTuple):
    """How atoms are laid out as blocks: each device has as many, the last of its blocks filled up."""

    devices: int
    share: int
    """Atoms of a device."""
    blocks: int
    """Blocks of a device."""
    size: int
    """Atoms of a block."""

    def split(self, x: Array, fill: Any = 0) -> Array:
        """[atoms, …] as [devices · blocks, size, …]."""
        x = x.reshape(self.devices, self.share, *x.shape[1:])
        rest = self.blocks * self.size - self.share
        if rest:
            x = jnp.pad(x, ((0, 0), (0, rest), *((0, 0),) * (x.ndim - 2)), constant_values=fill)
        return x.reshape(self.devices * self.blocks, self.size, *x.shape[2:])

    def join(self, x: Array) -> Array:
        """What `split` has split."""
        x = x.reshape(self.devices, self.blocks * self.size, *x.shape[2:])
        return x[:, : self.share].reshape(self.devices * self.share, *x.shape[2:])


def _layout(atoms: int, n_devices: int, block_size: int) -> _Layout:
    """Blocks of at most `block_size` atoms and at least half as many, with the least filling."""
    share, rest = divmod(atoms, n_devices)
    if rest:
        raise ValueError(f"{atoms} atoms cannot be shared out over {n_devices} devices")
    sizes = range(min(block_size, share), max(block_size // 2, 1) - 1, -1) or [share]
    size = min(sizes, key=lambda n: -(-share // n) * n)
    return _Layout(n_devices, share, -(-share // size), size)


def _widths(slots: int, blocks: int, narrower: tuple[float, ...]) -> tuple[int, ...]:
    """Numbers of slots that blocks are computed on: multiples of eight, and all."""
    if blocks <= 2 or slots < _MANY_SLOTS:
        return (slots,)
    return (*(math.ceil(share * slots / 8) * 8 for share in narrower), slots)


class _Blocks:
    """The atoms of a batch in blocks, and how a function is applied to all of them.

    Where blocks are computed on several numbers of slots, the atoms are ordered by how many they need and
    dealt out to the devices in turn. For 192 atoms of water, which have 75 to 103 neighbours, that saves a
    tenth of the time with one number of slots more, and again a twentieth with two.

    Args:
        neighborhoods: the atoms; those that fill up their blocks are none.
        mesh: devices over which the blocks are shared out.
        block_size: most atoms of a block.
        narrower: shares of the slots to compute blocks on where there are many slots.
    """

    def __init__(
        self, neighborhoods: Neighborhoods, mesh: Mesh, block_size: int, narrower: tuple[float, ...]
    ):
        atoms, self._slots = neighborhoods.neighbors.shape
        self._mesh = mesh
        self._layout = _layout(atoms, mesh.size, block_size)
        self._widths = _widths(self._slots, self._layout.blocks, narrower)
        occupied = neighborhoods.neighbors >= 0
        self._order = None
        if len(self._widths) > 1:
            order = jnp.argsort(_filled(occupied, axis=-1))
            self._order = order.reshape(-1, mesh.size).T.reshape(-1)
        self._blocks = Block(
            self.split(neighborhoods.edges),
            self.split(occupied, fill=False),
            self.split(neighborhoods.types, fill=-1),
            self.split(neighborhoods.neighbor_types),
            self.split(neighborhoods.parameters),
        )

    def split(self, x: Array, fill: Any = 0) -> Array:
        """What is known of each atom, as of each atom of the blocks."""
        return self._layout.split(x if self._order is None else x[self._order], fill)

    def _join(self, x: Array) -> Array:
        x = self._layout.join(x)
        return x if self._order is None else jnp.zeros_like(x).at[self._order].set(x, unique_indices=True)

    def map(self, function: Callable, weights: PyTree, *along: Array) -> PyTree:
        """function(weights, block, …) of all blocks, joined along the atoms.

        Args:
            function: its results have three axes if the second is that of slots.
            weights: the same for all blocks.
            *along: what else the function gets of each block: `split` arrays, alike.
        """

        def widen(x: Array) -> Array:
            return jnp.pad(x, ((0, 0), (0, self._slots - x.shape[1]), (0, 0))) if x.ndim == 3 else x

        def whole(*work: Any) -> PyTree:
            return jax.tree.map(widen, function(*work))

        def on_device(weights: PyTree, work: PyTree) -> PyTree:
            return jax.lax.map(lambda item: self._on_few_slots(whole, weights, *item), work)

        found = self._shared_out(on_device, PartitionSpec(AXIS))(weights, (self._blocks, *along))
        return jax.tree.map(self._join, found)

    def sum(self, function: Callable, weights: PyTree, *along: Array) -> PyTree:
        """The sum of function(weights, block, …), which is like the weights, over all blocks."""

        def on_device(weights: PyTree, work: PyTree) -> PyTree:
            def add(total: PyTree, item: PyTree) -> tuple[PyTree, None]:
                part = self._on_few_slots(function, weights, *item)
                return jax.tree.map(jnp.add, total, part), None

            total = jax.lax.scan(add, jax.tree.map(jnp.zeros_like, weights), work)[0]
            return jax.lax.psum(total, AXIS)

        return self._shared_out(on_device, PartitionSpec())(weights, (self._blocks, *along))

    def _shared_out(self, on_device: Callable, out: PartitionSpec) -> Callable:
        specs = (PartitionSpec(), PartitionSpec(AXIS))
        return jax.shard_map(on_device, mesh=self._mesh, in_specs=specs, out_specs=out, check_vma=False)

    def _on_few_slots(self, function: Callable, weights: PyTree, block: Block, *along: Array) -> PyTree:
        """The function of a block without slots that none of its atoms needs."""

        def on_width(width: int) -> Callable:
            def run(weights: PyTree, block: Block, *along: Array) -> PyTree:
                cut = (x[:, :width] if x.ndim == 3 else x for x in along)
                return function(weights, block.cut(width), *cut)

            return run

        # The last slot must stay empty.
        narrowest = jnp.searchsorted(jnp.asarray(self._widths) - 1, _filled(block.occupied))
        branches = [on_width(width) for width in self._widths]
        return jax.lax.switch(narrowest, branches, weights, block, *along)


def _filled(occupied: Bool[Array, "block slots"], axis: int | None = None) -> Int[Array, "*block"]:
    """Slots up to the last one that holds a neighbour."""
    return jnp.max(jnp.where(occupied, jnp.arange(1, occupied.shape[1] + 1), 0), axis=axis)


def energies_only(
    spec: ModelSpec, weights: ModelWeights, neighborhoods: Neighborhoods, mesh: Mesh, block_size: int
) -> AtomicEnergies:
    """Atomic energies (eV, without bias) where nothing is differentiated."""
    return _Blocks(neighborhoods, mesh, block_size, _NARROWER).map(partial(atomic_energies, spec), weights)


def atomic_descriptors(
    spec: ModelSpec, weights: ModelWeights, neighborhoods: Neighborhoods, mesh: Mesh, block_size: int
) -> Float[Array, "atoms width"]:
    """What the fitting net is told of every atom's surroundings."""
    return _Blocks(neighborhoods, mesh, block_size, _NARROWER).map(partial(block_descriptors, spec), weights)


def block_gradients(
    spec: ModelSpec, weights: ModelWeights, block: Block
) -> tuple[Float[Array, " block"], Float[Array, "block slots 3"]]:
    """The same as `edge_gradients`, of one block."""

    def total(edges: Array) -> tuple[Array, Array]:
        energies = atomic_energies(spec, weights, block._replace(edges=edges))
        return jnp.sum(energies), energies

    gradient, energies = jax.grad(total, has_aux=True)(block.edges)
    return energies, gradient


def edge_gradients(
    spec: ModelSpec,
    weights: ModelWeights,
    neighborhoods: Neighborhoods,
    mesh: Mesh,
    block_size: int,
    narrower: tuple[float, ...] = _NARROWER,
) -> tuple[AtomicEnergies, Edges]:
    """Atomic energies (eV, without bias) and dE/d(r_j - r_i) for every slot (eV/Å)."""
    blocks = _Blocks(neighborhoods, mesh, block_size, narrower)
    found = blocks.map(partial(block_gradients, spec), weights)
    return jax.lax.with_sharding_constraint(found, NamedSharding(mesh, PartitionSpec()))


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
        gradient = edge_gradients(spec, weights, moved, mesh, block_size, _NARROWER_IN_TRAINING)[1]
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
    energies, gradient = edge_gradients(spec, weights, neighborhoods, mesh, block_size, _NARROWER_IN_TRAINING)
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

    blocks = _Blocks(neighborhoods, mesh, block_size, _NARROWER_IN_TRAINING)
    by_weights = blocks.sum(jax.grad(weighted), weights, blocks.split(by_energy), blocks.split(along))
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
    blocks = _Blocks(neighborhoods, mesh, block_size, _NARROWER_IN_TRAINING)

    def second(weights: ModelWeights, block: Block, along: Array, across: Array) -> Array:
        def first(edges: Array) -> Array:
            def energy(edges: Array) -> Array:
                return jnp.sum(atomic_energies(spec, weights, block._replace(edges=edges)))

            return jax.jvp(energy, (edges,), (along,))[1]

        return jax.jvp(first, (block.edges,), (across,))[1]

    def add_row(total: ModelWeights, row: tuple[Array, Array]) -> tuple[ModelWeights, None]:
        stretches = (blocks.split(_stretch(d, neighborhoods)) for d in row)
        return jax.tree.map(jnp.add, total, blocks.sum(jax.grad(second), weights, *stretches)), None

    atoms = neighborhoods.types.shape[0]
    directions = _directions(jnp.zeros((atoms, 3), neighborhoods.edges.dtype))
    rows = (directions, cotangent.reshape(-1, atoms, 3))
    return jax.lax.scan(add_row, jax.tree.map(jnp.zeros_like, weights), rows)[0]
