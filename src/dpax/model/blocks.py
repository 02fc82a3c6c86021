"""Atoms in blocks, shared out over devices, and functions applied to all blocks.

A block of atoms is the unit of work: memory beyond the inputs is that of one block on each device. Neighbours
are unevenly spread, and arithmetic for empty slots is lost. So atoms with as many neighbours come into the
same blocks, and a block whose atoms all have few is computed on fewer slots.
"""

import enum
import math
from collections.abc import Callable, Mapping
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jax.sharding import Mesh, PartitionSpec
from jaxtyping import Array, Bool, Int, PyTree

from dpax.geometry.neighborhoods import Neighborhoods
from dpax.model.energies import Block

MESH_AXIS = "atoms"
"""The mesh axis over which blocks of atoms are shared out."""
NARROWER = (13 / 16, 7 / 8)
"""Fractions of the slots on which blocks with few neighbours are computed."""
NARROWER_IN_TRAINING = (7 / 8,)
"""The program of a training step takes longer to compile, and one share has most of the gain."""
_ROWS_ON_CPU = 832
"""Atoms times slots of a block whose temporaries stay in a core's cache: 8 atoms of liquid water."""
_ROWS_ON_ACCELERATOR = 2**18
_MANY_SLOTS = 96
"""With fewer a second program does not pay for its compilation."""
_ON_GPU = {"xla_gpu_enable_triton_gemm": False}


class Axes(enum.Enum):
    """The leading axes of an array that belongs to atoms."""

    ATOM = enum.auto()
    """[atoms, …]"""
    SLOT = enum.auto()
    """[atoms, slots, …]; zero in slots that a block leaves out."""


def make_mesh(devices: list[Any] | None = None) -> Mesh:
    """A mesh of devices over which blocks of atoms are shared out; all local ones by default."""
    return Mesh(np.asarray(devices or jax.local_devices()), (MESH_AXIS,))


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


class Layout(NamedTuple):
    """The layout of atoms in blocks: every device has the same number, and its last block is padded."""

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
        """The inverse of `split`."""
        x = x.reshape(self.devices, self.blocks * self.size, *x.shape[2:])
        return x[:, : self.share].reshape(self.devices * self.share, *x.shape[2:])


def layout(atoms: int, n_devices: int, block_size: int) -> Layout:
    """Blocks of at most `block_size` atoms and at least half as many, with the least padding."""
    share, rest = divmod(atoms, n_devices)
    if rest:
        raise ValueError(f"{atoms} atoms cannot be shared out over {n_devices} devices")
    sizes = range(min(block_size, share), max(block_size // 2, 1) - 1, -1) or [share]
    size = min(sizes, key=lambda n: -(-share // n) * n)
    return Layout(n_devices, share, -(-share // size), size)


def _widths(slots: int, blocks: int, narrower: tuple[float, ...]) -> tuple[int, ...]:
    """Numbers of slots that blocks are computed on: multiples of eight, and all."""
    if blocks <= 2 or slots < _MANY_SLOTS:
        return (slots,)
    return (*(math.ceil(share * slots / 8) * 8 for share in narrower), slots)


class Blocks:
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
        self,
        neighborhoods: Neighborhoods,
        mesh: Mesh,
        block_size: int,
        narrower: tuple[float, ...] = NARROWER,
    ):
        atoms, self._slots = neighborhoods.neighbors.shape
        self._mesh = mesh
        self._layout = layout(atoms, mesh.size, block_size)
        self._widths = _widths(self._slots, self._layout.blocks, narrower)
        occupied = neighborhoods.neighbors >= 0
        self._order = None
        if len(self._widths) > 1:
            order = jnp.argsort(_filled(occupied, axis=-1))
            self._order = order.reshape(-1, mesh.size).T.reshape(-1)
        block = Block.of(neighborhoods)
        fill = {"occupied": False, "types": -1}
        self._blocks = Block(
            *(self._split(array, fill.get(name, 0)) for name, array in block._asdict().items())
        )

    def _split(self, x: Array, fill: Any = 0) -> Array:
        """Per-atom arrays in the order of the blocks."""
        return self._layout.split(x if self._order is None else x[self._order], fill)

    def _join(self, x: Array) -> Array:
        x = self._layout.join(x)
        return x if self._order is None else jnp.zeros_like(x).at[self._order].set(x, unique_indices=True)

    def map(self, function: Callable[[PyTree, Block], PyTree], weights: PyTree, axes: PyTree) -> PyTree:
        """function(weights, block) of all blocks, joined along the atoms.

        Args:
            function: of a block.
            weights: the same for all blocks.
            axes: the `Axes` of each array that the function returns, in the same places.
        """

        def widened(axes: Axes, x: Array) -> Array:
            if axes is Axes.ATOM:
                return x
            return jnp.pad(x, ((0, 0), (0, self._slots - x.shape[1]), *((0, 0),) * (x.ndim - 2)))

        def whole(weights: PyTree, block: Block) -> PyTree:
            return jax.tree.map(widened, axes, function(weights, block))

        def on_device(weights: PyTree, blocks: Block) -> PyTree:
            return jax.lax.map(lambda block: self._on_few_slots(whole, weights, block), blocks)

        joined = self._shared_out(on_device, PartitionSpec(MESH_AXIS))(weights, self._blocks)
        return jax.tree.map(self._join, joined)

    def sum(
        self,
        function: Callable[..., PyTree],
        weights: PyTree,
        **along: tuple[Array, Axes],
    ) -> PyTree:
        """The sum of function(weights, block, …), which is like the weights, over all blocks.

        Args:
            function: of a block.
            weights: the same for all blocks.
            **along: what else the function gets of each block: an array of all atoms, and its axes.
        """
        split = {name: self._split(array) for name, (array, _) in along.items()}
        axes = {name: kind for name, (_, kind) in along.items()}

        def on_device(weights: PyTree, work: tuple[Block, dict[str, Array]]) -> PyTree:
            def add(total: PyTree, item: tuple[Block, dict[str, Array]]) -> tuple[PyTree, None]:
                part = self._on_few_slots(function, weights, *item, axes=axes)
                return jax.tree.map(jnp.add, total, part), None

            total = jax.lax.scan(add, jax.tree.map(jnp.zeros_like, weights), work)[0]
            return jax.lax.psum(total, MESH_AXIS)

        return self._shared_out(on_device, PartitionSpec())(weights, (self._blocks, split))

    def _shared_out(self, on_device: Callable, out: PartitionSpec) -> Callable:
        specs = (PartitionSpec(), PartitionSpec(MESH_AXIS))
        return jax.shard_map(on_device, mesh=self._mesh, in_specs=specs, out_specs=out, check_vma=False)

    def _on_few_slots(
        self,
        function: Callable,
        weights: PyTree,
        block: Block,
        along: Mapping[str, Array] | None = None,
        *,
        axes: Mapping[str, Axes] | None = None,
    ) -> PyTree:
        """The function of a block without slots that none of its atoms needs."""
        along, axes = along or {}, axes or {}

        def on_width(width: int) -> Callable:
            def run(weights: PyTree, block: Block, along: Mapping[str, Array]) -> PyTree:
                cut = {name: x[:, :width] if axes[name] is Axes.SLOT else x for name, x in along.items()}
                return function(weights, block.cut(width), **cut)

            return run

        # The last slot must stay empty.
        narrowest = jnp.searchsorted(jnp.asarray(self._widths) - 1, _filled(block.occupied))
        branches = [on_width(width) for width in self._widths]
        return jax.lax.switch(narrowest, branches, weights, block, along)


def _filled(occupied: Bool[Array, "block slots"], axis: int | None = None) -> Int[Array, "*block"]:
    """Slots up to the last one that holds a neighbour."""
    return jnp.max(jnp.where(occupied, jnp.arange(1, occupied.shape[1] + 1), 0), axis=axis)
