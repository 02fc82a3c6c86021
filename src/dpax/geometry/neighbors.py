"""Neighbour search on the host.

The search itself is a library's (vesin: O(N) cell lists, any cell).
"""

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
import vesin
from numpy.typing import ArrayLike

from dpax.errors import InputError
from dpax.geometry.cell import complete_cell, heights, wrap

GRID_LIMIT = 5e4
"""Grid cells above which the search looks at the shape of the grid: half of vesin's own limit."""


FARTHEST = 1e9
"""Å from the origin: farther away, neighbouring numbers of float64 are more than 1e-7 Å apart."""
MOST_CELLS = 2.0**30
"""Cells from the origin: differences of two such numbers are int32."""


class EdgeList(NamedTuple):
    """All ordered pairs (i, j) of one frame with |r_j + shift - r_i| <= cutoff, sorted by i, j, shift."""

    i: np.ndarray
    """int64 [edges], the centre."""
    j: np.ndarray
    """int64 [edges], the neighbour."""
    vectors: np.ndarray
    """float64 [edges, 3], r_j + shift·cell - r_i, Å."""
    shifts: np.ndarray
    """int32 [edges, 3], the lattice vectors added to r_j."""


class Pairs(NamedTuple):
    """Ordered pairs (i, j) of one frame, sorted by i, j, shift: what an `EdgeList` is without its vectors."""

    i: np.ndarray
    """int64 [pairs], the centre."""
    j: np.ndarray
    """int64 [pairs], the neighbour."""
    shifts: np.ndarray
    """int32 [pairs, 3], the lattice vectors added to r_j."""


def find_edges(
    positions: ArrayLike, cell: ArrayLike | None, pbc: Sequence[int] | np.ndarray, cutoff: float
) -> EdgeList:
    """List all pairs within the cutoff, periodic images included.

    The order of the list depends on the structure alone, so that sums over it repeat to the last bit.

    Args:
        positions: [atoms, 3], Å; periodic images of atoms may lie anywhere.
        cell: [3, 3], rows are lattice vectors, Å; ignored along directions that are not periodic.
        pbc: periodicity along each lattice vector.
        cutoff: Å.

    Raises:
        InputError: a position that is not finite, a periodic cell without volume, or two atoms at the
            same place, for which no force is defined.
    """
    pairs = find_pairs(positions, cell, pbc, cutoff)
    return edges_within(pairs, np.asarray(positions), pairs.shifts @ complete_cell(cell, pbc), cutoff)


def any_closer(
    positions: ArrayLike, cell: ArrayLike | None, pbc: Sequence[int] | np.ndarray, distance: float
) -> bool:
    """Whether two different atoms, or periodic images of them, are closer than a distance (Å).

    Raises:
        InputError: a position that is not finite, or a periodic cell without volume.
    """
    pairs = find_pairs(positions, cell, pbc, distance)
    vectors = _vectors(pairs, np.asarray(positions), pairs.shifts @ complete_cell(cell, pbc))
    lengths2 = np.einsum("ex,ex->e", vectors, vectors)
    return bool(((pairs.i != pairs.j) & (lengths2 < distance * distance)).any())


def find_pairs(
    positions: ArrayLike, cell: ArrayLike | None, pbc: Sequence[int] | np.ndarray, cutoff: float
) -> Pairs:
    """List all pairs within the cutoff, and perhaps a few beyond it by rounding error.

    Args:
        positions: as for `find_edges`.
        cell: as for `find_edges`.
        pbc: as for `find_edges`.
        cutoff: Å.

    Raises:
        InputError: a position that is not finite or too far away, or a periodic cell without volume.
    """
    positions = np.asarray(positions, dtype=np.float64).reshape(-1, 3)
    if not np.isfinite(positions).all():
        atom = int(np.flatnonzero(~np.isfinite(positions).all(axis=1))[0])
        raise InputError(f"the position of atom {atom} (counted from 0) is NaN or infinite")
    if len(positions) == 0:
        none = np.empty(0, np.int64)
        return Pairs(none, none, np.empty((0, 3), np.int32))
    _refuse_distant(np.abs(positions), FARTHEST, "Å", "where float64 no longer resolves 1e-7 Å")
    periodic = np.asarray(pbc, dtype=bool)
    box = complete_cell(cell, periodic)
    wrapped, shifts = wrap(positions, box, periodic)
    _refuse_distant(np.abs(shifts), MOST_CELLS, "cells", "more than can be counted in 32 bits")
    compact = _close_gaps(wrapped, box, periodic, cutoff)
    i, j, images = _search(compact, box, periodic, cutoff * (1.0 + 1e-9))
    return Pairs(i, j, images + (shifts[i] - shifts[j]).astype(np.int32))


def _refuse_distant(distances: np.ndarray, limit: float, unit: str, reason: str) -> None:
    """Refuse atoms too far from the origin, given how far they are along each of three directions."""
    if distances.max() > limit:
        atom = int(distances.max(axis=1).argmax())
        raise InputError(
            f"atom {atom} (counted from 0) is {distances[atom].max():.3g} {unit} away from the origin, "
            f"{reason}; bring it back into the cell, or near the other atoms"
        )


def edges_within(pairs: Pairs, positions: np.ndarray, translations: np.ndarray, cutoff: float) -> EdgeList:
    """The pairs that are within the cutoff, with their vectors.

    Args:
        pairs: all that may be within it.
        positions: [atoms, 3], Å.
        translations: [pairs, 3], the shift of each pair as a vector, Å.
        cutoff: Å.

    Raises:
        InputError: two atoms at the same place.
    """
    vectors = _vectors(pairs, np.asarray(positions), translations)
    lengths2 = np.einsum("ex,ex->e", vectors, vectors)
    inside = np.flatnonzero(lengths2 <= cutoff * cutoff)
    edges = EdgeList(*(array.take(inside, axis=0) for array in (pairs.i, pairs.j, vectors, pairs.shifts)))
    if not lengths2.all():
        _refuse_coincident(edges)
    return edges


def _vectors(pairs: Pairs, positions: np.ndarray, translations: np.ndarray) -> np.ndarray:
    positions = np.asarray(positions, dtype=np.float64).reshape(-1, 3)
    vectors = positions.take(pairs.j, axis=0)
    vectors += translations
    vectors -= positions.take(pairs.i, axis=0)
    return vectors


def _close_gaps(positions: np.ndarray, box: np.ndarray, periodic: np.ndarray, cutoff: float) -> np.ndarray:
    """Bring groups of atoms that are further apart than the cutoff along a free direction closer.

    No pair within the cutoff changes, because whole groups move and stay out of each other's reach.
    It bounds the volume the search has to cover when atoms have evaporated from a slab or wire.
    """
    moved = positions
    for direction in np.flatnonzero(~periodic):
        # Rows that are not periodic are orthonormal: the product is a length along the direction.
        height = moved @ box[direction]
        order = np.argsort(height)
        excess = np.maximum(np.diff(height[order]) - 1.25 * cutoff, 0.0)
        if excess.any():
            drop = np.zeros(len(height))
            drop[order[1:]] = np.cumsum(excess)
            moved = moved - drop[:, None] * box[direction]
    return moved


def _search(
    positions: np.ndarray, box: np.ndarray, periodic: np.ndarray, cutoff: float
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """The library's search, sorted: i, j and the lattice vectors added to r_j."""
    reach = _library_cutoff(positions, box, periodic, cutoff)
    library = vesin.NeighborList(cutoff=reach, full_list=True, sorted=False, n_threads=1)
    i, j, distances, images = library.compute(positions, box, periodic, "ijdS")
    inside = distances <= cutoff
    i, j, images = i[inside].astype(np.int64), j[inside].astype(np.int64), images[inside]
    width = 2 * np.abs(images).max(axis=0, initial=0).astype(np.int64) + 1
    key = i * len(positions) + j
    for direction in range(3):
        key = key * width[direction] + images[:, direction] + width[direction] // 2
    order = np.argsort(key)
    return i[order], j[order], images[order]


def _library_cutoff(positions: np.ndarray, box: np.ndarray, periodic: np.ndarray, cutoff: float) -> float:
    """A cutoff, mostly the one given, with which vesin's grid keeps a cell along every direction.

    Above 1e5 cells vesin scales its grid down, and divides by zero where a thin direction (a sheet of
    a million atoms) is left with none. A longer cutoff makes the grid coarser without that.
    """
    free = np.ptp(positions @ box.T, axis=0)
    lengths = np.where(periodic, heights(box), free + cutoff)
    for reach in cutoff * 1.2 ** np.arange(20):
        cells = np.maximum(lengths / reach, 1.0)
        shrink = np.cbrt(GRID_LIMIT / cells.prod())
        if shrink >= 1.0 or cells.min() * shrink >= 4.0:
            return float(reach)
    raise InputError(
        f"the cell is too elongated for a neighbour search: {', '.join(f'{x:.3g}' for x in lengths)} Å "
        "between its faces; choose a cell that fits the atoms, or mark the long direction as not periodic"
    )


def _refuse_coincident(edges: EdgeList) -> None:
    first = np.flatnonzero(np.einsum("ex,ex->e", edges.vectors, edges.vectors) == 0.0)[0]
    raise InputError(
        f"atoms {edges.i[first]} and {edges.j[first]} (counted from 0) are at the same position; "
        "remove one of them"
    )
