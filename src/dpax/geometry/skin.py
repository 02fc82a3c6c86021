"""Neighbour lists that are reused for later structures.

A search that reaches a skin further than the cutoff lists all pairs within the cutoff until an atom has
moved by half the skin. Which pairs are within it, and their vectors, is computed for every structure:
what comes out is what a fresh search finds, to the last bit. The longer search costs several times the
shorter one, so it is made for structures that resemble an earlier one: from a trajectory's second step on.
"""

import threading
from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
from numpy.typing import ArrayLike

from dpax.geometry.cell import complete_cell
from dpax.geometry.neighbors import EdgeList, Pairs, edges_within, find_pairs

SKIN = 1.0
"""Å; a wider one is searched for less often, and has more pairs to look through at every step."""
LISTS_KEPT = 64
"""Lists are tried one after the other, which must stay cheap compared with the evaluation of a molecule."""
PAIRS_KEPT = 500_000
"""The newest list is kept in any case, older ones while all together have at most this many (25 MB)."""


class _SkinList(NamedTuple):
    """A search, and the structure it was made for."""

    positions: np.ndarray
    box: np.ndarray
    periodic: np.ndarray
    pairs: Pairs
    translations: np.ndarray
    """[pairs, 3], the shifts of the pairs as vectors in `box`, Å."""
    skin: float
    """How much further than the cutoff the search reached, Å."""


class SkinLists:
    """Edge lists of structures that come one at a time and resemble earlier ones.

    Several lists are kept, so that the images of a band, or two alternating simulations, each find their own.
    Threads may share them: a list never changes, and which ones there are changes under a lock. No thread
    waits for another one's search.

    Args:
        cutoff: Å.
        skin: how much further a search reaches, Å.
    """

    def __init__(self, cutoff: float, skin: float = SKIN):
        self.cutoff = cutoff
        self.skin = skin
        self.searches = 0
        """How often a structure had to be searched."""
        self._lists: list[_SkinList] = []
        self._lock = threading.Lock()

    def find(
        self, positions: np.ndarray, cell: ArrayLike | None, pbc: Sequence[int] | np.ndarray
    ) -> EdgeList:
        """The result of `find_edges`, from an existing list or from a new search.

        Args:
            positions: [atoms, 3], Å.
            cell: [3, 3], rows are lattice vectors, Å.
            pbc: periodicity along each lattice vector.

        Raises:
            InputError: as `find_edges`.
        """
        periodic = np.asarray(pbc, dtype=bool)
        box = complete_cell(cell, periodic)
        with self._lock:
            lists = self._lists
        nearest, least = None, np.inf
        for known in lists:
            needed = self._needed(known, positions, box, periodic)
            if needed <= known.skin:
                self._keep(known)
                break
            nearest, least = (known, needed) if needed < least else (nearest, least)
        else:
            resembles = least <= self.skin
            known = self._search(positions, box, periodic, self.skin if resembles else 0.0)
            outdone = resembles and nearest is not None and nearest.skin < self.skin
            self._keep(known, instead_of=nearest if outdone else None)
        return edges_within(known.pairs, positions, _translations(known, box), self.cutoff)

    def _needed(
        self, known: _SkinList, positions: np.ndarray, box: np.ndarray, periodic: np.ndarray
    ) -> float:
        """The skin, Å, with which a list has all pairs that are now within the cutoff.

        With box = old box · F and r = old r · F + u, a pair at the distance d ≤ cutoff was at a distance of
        at most (d + 2 max|u|) · ‖F⁻¹‖.
        """
        if len(known.positions) != len(positions) or (known.periodic != periodic).any():
            return np.inf
        before, shrinkage = known.positions, 1.0
        if not np.array_equal(known.box, box):
            stretch = np.linalg.solve(known.box, box)
            before, shrinkage = before @ stretch, np.linalg.norm(stretch, -2)
        moved = positions - before
        reach = self.cutoff + 2.0 * np.sqrt(np.einsum("ax,ax->a", moved, moved).max(initial=0.0))
        return float(reach / shrinkage - self.cutoff)

    def _search(self, positions: np.ndarray, box: np.ndarray, periodic: np.ndarray, skin: float) -> _SkinList:
        with self._lock:
            self.searches += 1
        pairs = find_pairs(positions, box, periodic, self.cutoff + skin)
        return _SkinList(positions.copy(), box, periodic, pairs, pairs.shifts @ box, skin)

    def _keep(self, newest: _SkinList, instead_of: _SkinList | None = None) -> None:
        """Put a list in front, in a new list of lists: a thread may be looking through the old one."""
        with self._lock:
            others = [known for known in self._lists if known is not newest and known is not instead_of]
            lists = [newest, *others[: LISTS_KEPT - 1]]
            pairs = np.cumsum([len(known.pairs.i) for known in lists])
            self._lists = lists[: max(1, np.searchsorted(pairs, PAIRS_KEPT, side="right"))]


def _translations(known: _SkinList, box: np.ndarray) -> np.ndarray:
    return known.translations if np.array_equal(box, known.box) else known.pairs.shifts @ box
