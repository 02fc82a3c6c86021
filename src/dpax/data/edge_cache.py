"""Neighbour lists of training frames, found once."""

from collections import OrderedDict
from collections.abc import Callable, Hashable

import numpy as np

from dpax.geometry.neighbors import EdgeList


class EdgeCache:
    """The edge lists used last, up to a number of bytes.

    They are kept as a batch needs them: vectors in the precision of the batch, indices in 32 bits,
    no lattice shifts. That is 20 bytes for an edge in float32, or 350 kB for 192 atoms of water at 6 Å.

    Args:
        limit: bytes; an edge list larger than all of it is not kept.
        dtype: of the vectors.
    """

    def __init__(self, limit: int, dtype: np.typing.DTypeLike):
        self._limit = limit
        self._dtype = dtype
        self._lists: OrderedDict[Hashable, EdgeList] = OrderedDict()
        self.bytes = 0
        """What is held now."""

    def get(self, key: Hashable, find: Callable[[], EdgeList]) -> EdgeList:
        """The edge list of a frame, from the cache or newly found."""
        if key in self._lists:
            self._lists.move_to_end(key)
            return self._lists[key]
        edges = _compact(find(), self._dtype)
        if _size(edges) <= self._limit:
            self._lists[key] = edges
            self.bytes += _size(edges)
        while self.bytes > self._limit:
            self.bytes -= _size(self._lists.popitem(last=False)[1])
        return edges


def _compact(edges: EdgeList, dtype: np.typing.DTypeLike) -> EdgeList:
    return EdgeList(
        edges.i.astype(np.int32),
        edges.j.astype(np.int32),
        edges.vectors.astype(dtype),
        np.empty((0, 3), np.int32),
    )


def _size(edges: EdgeList) -> int:
    return sum(array.nbytes for array in edges)
