"""Atoms with their neighbours in padded slots, the input of all computations.

`sel` plays no part here: the number of slots follows from the real neighbour counts, and no neighbour is ever
dropped.
"""

from collections.abc import Sequence
from typing import Any, NamedTuple

import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float, Int

from dpax.geometry.arrays import Edges, FrameIndex, NeighborIndex, NeighborTypes, Parameters, Types
from dpax.geometry.neighbors import EdgeList

SLOT_MULTIPLE = 8
"""Slot counts are rounded up to this: the width of a SIMD register in float32."""


class Neighborhoods(NamedTuple):
    """The atoms of one or several frames on one axis, each with its padded neighbour slots.

    Every slot count is at least one larger than the largest neighbour count, so that each atom has
    an empty slot to stand for the padding of DeePMD-kit's dense semantics.
    """

    edges: Edges
    neighbors: NeighborIndex
    neighbor_types: NeighborTypes
    types: Types
    frames: FrameIndex
    parameters: Parameters


class Capacity(NamedTuple):
    """The sizes of the arrays, padding included."""

    atoms: int
    slots: int


class Surroundings(NamedTuple):
    """Some atoms and their neighbours within the cutoff, atom by atom."""

    types: np.ndarray
    """int [atoms], indices of the `type_map`."""
    counts: np.ndarray
    """int [atoms], the number of neighbours of each atom."""
    neighbor_types: np.ndarray
    """int [pairs]."""
    vectors: np.ndarray
    """[pairs, 3], r_j - r_i, Å."""
    first_type: int
    """The type of the first atom of the structure, used in empty slots."""
    neighbors: np.ndarray | None = None
    """int [pairs], which of these atoms the neighbours are; None if they are others'."""


def surroundings(edges: EdgeList, types: np.ndarray) -> Surroundings:
    """The atoms of a whole frame with their neighbours."""
    counts = neighbor_counts(edges.i, len(types))
    first = int(types[0]) if len(types) else 0
    return Surroundings(types, counts, np.asarray(types)[edges.j], edges.vectors, first, edges.j)


def neighbor_counts(i: np.ndarray, n_atoms: int) -> np.ndarray:
    """The number of neighbours of each atom, int64 [atoms]."""
    return np.bincount(i, minlength=n_atoms)


def slots_needed(largest: int) -> int:
    """The number of slots for so many neighbours: one more, rounded up."""
    return -(-(largest + 1) // SLOT_MULTIPLE) * SLOT_MULTIPLE


def capacity_needed(parts: Sequence[Surroundings]) -> Capacity:
    """The atoms and slots that all parts need together."""
    largest = max(int(part.counts.max(initial=0)) for part in parts)
    return Capacity(sum(len(part.types) for part in parts), slots_needed(largest))


def pack(
    parts: Sequence[Surroundings],
    capacity: Capacity,
    dtype: np.typing.DTypeLike,
    n_frames: int | None = None,
    parameters: Sequence[np.ndarray] | None = None,
) -> Neighborhoods:
    """Put the frames of a batch on one axis of atoms, with padded neighbour slots.

    Args:
        parts: the frames, or parts of them.
        capacity: array sizes; must hold the frames.
        dtype: of the edge vectors.
        n_frames: the length of the frame axis, at least the number of frames given, which is the
            default. Atoms that only pad the array belong to frame `n_frames`, past the last one.
        parameters: one array [atoms of the frame, inputs] per frame, of the same width in all; none by
            default. They stay float64: the fitting net has a precision of its own.

    Raises:
        ValueError: the capacity or the frame axis is too small.
    """
    n_frames = len(parts) if n_frames is None else n_frames
    if len(parts) > n_frames:
        raise ValueError(f"{len(parts)} frames do not fit a frame axis of {n_frames}")
    n_atoms = sum(len(part.types) for part in parts)
    if n_atoms > capacity.atoms:
        raise ValueError(f"{n_atoms} atoms do not fit a capacity of {capacity.atoms}")
    edges = np.zeros((capacity.atoms, capacity.slots, 3), dtype)
    neighbors = np.full((capacity.atoms, capacity.slots), -1, np.int32)
    neighbor_types = np.zeros((capacity.atoms, capacity.slots), np.int32)
    types = np.full(capacity.atoms, -1, np.int32)
    frames = np.full(capacity.atoms, n_frames, np.int32)
    inputs = np.zeros((capacity.atoms, parameters[0].shape[1] if parameters else 0))
    start = 0
    for number, part in enumerate(parts):
        stop = start + len(part.types)
        largest = part.counts.max(initial=0)
        if slots_needed(largest) > capacity.slots:
            raise ValueError(f"{largest} neighbours do not fit a capacity of {capacity.slots} slots")
        place = _places(part.counts, start, capacity.slots)
        edges.reshape(-1, 3)[place] = part.vectors
        neighbors.reshape(-1)[place] = 0 if part.neighbors is None else part.neighbors + start
        neighbor_types[start:stop] = part.first_type
        neighbor_types.reshape(-1)[place] = part.neighbor_types
        types[start:stop] = part.types
        frames[start:stop] = number
        if parameters:
            inputs[start:stop] = parameters[number]
        start = stop
    # The fields are declared as JAX arrays, which these become in a compiled function.
    arrays: tuple[Any, ...] = (edges, neighbors, neighbor_types, types, frames, inputs)
    return Neighborhoods(*arrays)


def _places(counts: np.ndarray, first_row: int, slots: int) -> np.ndarray:
    """Where each edge belongs in an array of rows · slots, for edges sorted by centre."""
    rows = np.arange(first_row, first_row + len(counts))
    return np.arange(counts.sum()) + np.repeat(rows * slots - (np.cumsum(counts) - counts), counts)


def from_slots(
    edges: Float[Array, "some_atoms some_slots 3"],
    neighbors: Int[Array, "some_atoms some_slots"],
    types: Int[Array, " some_atoms"],
    parameters: Float[Array, "some_atoms inputs"],
    capacity: Capacity,
    dtype: np.dtype,
) -> Neighborhoods:
    """The atoms of one frame with neighbours already in slots; JAX can trace it.

    Args:
        edges: r_j - r_i, Å; anything in empty slots.
        neighbors: j; -1 in slots that are empty, anywhere in a row.
        types: -1 for padding.
        parameters: of each atom.
        capacity: array sizes, with one slot more than there are at least.
        dtype: of the edge vectors.
    """
    rows = ((0, capacity.atoms - types.shape[0]),)
    both = (*rows, (0, capacity.slots - neighbors.shape[1]))
    neighbors = jnp.pad(neighbors, both, constant_values=-1)
    occupied = neighbors >= 0
    of_neighbors = jnp.where(occupied, types[jnp.maximum(neighbors, 0)], types[0])
    edges = jnp.where(occupied[..., None], jnp.pad(edges, (*both, (0, 0))), 0.0)
    types = jnp.pad(types, rows, constant_values=-1)
    return Neighborhoods(
        edges=edges.astype(dtype),
        neighbors=neighbors,
        neighbor_types=of_neighbors,
        types=types,
        frames=jnp.where(types >= 0, 0, 1),
        parameters=jnp.pad(parameters, (*rows, (0, 0))),
    )
