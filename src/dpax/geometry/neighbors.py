"""Neighbour search on the host, and edge lists packed into padded slots.

The search itself is a library's (vesin: O(N) cell lists, any cell). `sel` plays no part here: the
number of slots follows from the real neighbour counts, and no neighbour is ever dropped.
"""

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
import vesin

from dpax.errors import InputError
from dpax.geometry.arrays import Edges, FrameIndex, NeighborIndex, NeighborTypes, Types

SLOT_MULTIPLE = 8
"""Slot counts are rounded up to this: the width of a SIMD register in float32."""


class EdgeList(NamedTuple):
    """All ordered pairs (i, j) of one frame with |r_j + shift - r_i| <= cut-off, sorted by i."""

    i: np.ndarray
    """int64 [edges], the centre."""
    j: np.ndarray
    """int64 [edges], the neighbour."""
    vectors: np.ndarray
    """float64 [edges, 3], r_j + shift·cell - r_i, Å."""
    shifts: np.ndarray
    """int32 [edges, 3], the lattice vectors added to r_j."""


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


class Capacity(NamedTuple):
    """The sizes of the arrays, as opposed to the number of real atoms and neighbours in them."""

    atoms: int
    slots: int


def find_edges(positions: np.ndarray, cell: np.ndarray | None, pbc: Sequence[bool], cutoff: float) -> EdgeList:
    """List all pairs within the cut-off, periodic images included.

    Args:
        positions: [atoms, 3], Å.
        cell: [3, 3], rows are lattice vectors, Å; ignored along directions that are not periodic.
        pbc: periodicity along each lattice vector.
        cutoff: Å.

    Raises:
        InputError: two atoms at the same place, for which no force is defined.
    """
    positions = np.ascontiguousarray(positions, dtype=np.float64)
    periodic = np.asarray(pbc, dtype=bool)
    box = np.zeros((3, 3)) if cell is None else np.ascontiguousarray(cell, dtype=np.float64)
    if len(positions) == 0:
        return EdgeList(np.empty(0, np.int64), np.empty(0, np.int64), np.empty((0, 3)), np.empty((0, 3), np.int32))
    search = vesin.NeighborList(cutoff=float(cutoff), full_list=True, sorted=True)
    i, j, vectors, shifts = search.compute(positions, box, periodic, "ijDS")
    i, j = i.astype(np.int64), j.astype(np.int64)
    coincident = np.flatnonzero(np.einsum("ex,ex->e", vectors, vectors) == 0.0)
    if len(coincident):
        first = coincident[0]
        raise InputError(f"atoms {i[first]} and {j[first]} (counted from 0) are at the same position")
    return EdgeList(i, j, vectors, shifts.astype(np.int32))


def neighbor_counts(i: np.ndarray, n_atoms: int) -> np.ndarray:
    """The number of neighbours of each atom, int64 [atoms]."""
    return np.bincount(i, minlength=n_atoms)


def slots_needed(counts: np.ndarray) -> int:
    """The slots that hold these neighbour counts: one more than the largest, rounded up."""
    largest = int(counts.max(initial=0))
    return -(-(largest + 1) // SLOT_MULTIPLE) * SLOT_MULTIPLE


def slot_columns(i: np.ndarray, counts: np.ndarray) -> np.ndarray:
    """The slot of each edge within its centre's row, for edges sorted by centre."""
    starts = np.concatenate([[0], np.cumsum(counts)[:-1]])
    return np.arange(len(i)) - starts[i]


def pack(
    edge_lists: Sequence[EdgeList], types: Sequence[np.ndarray], capacity: Capacity, dtype: np.typing.DTypeLike
) -> Neighborhoods:
    """Put the frames of a batch on one axis of atoms, with padded neighbour slots.

    Args:
        edge_lists: one per frame.
        types: one int array [atoms of the frame] per frame.
        capacity: array sizes; must hold the frames.
        dtype: of the edge vectors.

    Raises:
        ValueError: the capacity is too small.
    """
    n_atoms = sum(len(t) for t in types)
    edges = np.zeros((capacity.atoms, capacity.slots, 3), dtype)
    neighbors = np.full((capacity.atoms, capacity.slots), -1, np.int32)
    neighbor_types = np.zeros((capacity.atoms, capacity.slots), np.int32)
    flat_types = np.full(capacity.atoms, -1, np.int32)
    frames = np.full(capacity.atoms, len(types), np.int32)
    if n_atoms > capacity.atoms:
        raise ValueError(f"{n_atoms} atoms do not fit a capacity of {capacity.atoms}")
    start = 0
    for number, (edge_list, frame_types) in enumerate(zip(edge_lists, types, strict=True)):
        stop = start + len(frame_types)
        counts = neighbor_counts(edge_list.i, len(frame_types))
        if slots_needed(counts) > capacity.slots:
            raise ValueError(f"{counts.max()} neighbours do not fit a capacity of {capacity.slots} slots")
        row, column = edge_list.i + start, slot_columns(edge_list.i, counts)
        edges[row, column] = edge_list.vectors
        neighbors[row, column] = edge_list.j + start
        if len(frame_types):
            neighbor_types[start:stop] = frame_types[0]
        neighbor_types[row, column] = np.asarray(frame_types)[edge_list.j]
        flat_types[start:stop] = frame_types
        frames[start:stop] = number
        start = stop
    return Neighborhoods(edges, neighbors, neighbor_types, flat_types, frames)
