"""How many neighbours the atoms of data have, and how close they come: what `sel` must be made for."""

from collections.abc import Sequence

import numpy as np

from dpax.data.batches import frame_edges
from dpax.data.frame import Frame


class NeighborStatistics:
    """The smallest distance and the largest numbers of neighbours in the frames seen.

    They are counted as DeePMD-kit's `neighbor-stat` does: an atom just at the cut-off is no neighbour here,
    while it is one, of weight 0, in the descriptor.

    Args:
        type_map: element names.
        cutoff: Å.
        one_type: count neighbours of all types together.
    """

    def __init__(self, type_map: Sequence[str], cutoff: float, *, one_type: bool = False):
        self.cutoff = cutoff
        self._one_type = one_type
        self.min_distance = np.inf
        """Å; infinite if no two atoms came within the cut-off."""
        self.max_neighbors = np.zeros(1 if one_type else len(type_map), np.int64)
        """Of each type, around any atom."""

    def add(self, frame: Frame) -> bool:
        """Look at a frame.

        Returns:
            Whether any of its atoms has a neighbour.

        Raises:
            InputError: two atoms at the same place; the message names the frame.
        """
        edges = frame_edges(frame, self.cutoff)
        distances = np.sqrt(np.einsum("ex,ex->e", edges.vectors, edges.vectors))
        inside = distances < self.cutoff
        self.min_distance = min(self.min_distance, float(distances[inside].min(initial=np.inf)))
        kinds = len(self.max_neighbors)
        column = np.zeros(len(distances), np.int64) if self._one_type else frame.types[edges.j]
        cells = edges.i[inside] * kinds + column[inside]
        counts = np.bincount(cells, minlength=len(frame.types) * kinds).reshape(-1, kinds)
        self.max_neighbors = np.maximum(self.max_neighbors, counts.max(axis=0))
        return bool(inside.any())
