"""How many neighbours the atoms of data have, and how close they come: what `sel` must be made for."""

import numpy as np

from dpax.data.batches import frame_edges
from dpax.data.frame import Frame, System
from dpax.geometry.neighbors import EdgeList


class NeighborStatistics:
    """The smallest distance and the numbers of neighbours in the frames seen.

    They are counted as DeePMD-kit's `neighbor-stat` does: an atom just at the cutoff is no neighbour here,
    while it is one, of weight 0, in the descriptor.

    Args:
        n_types: number of types.
        cutoff: Å.
    """

    def __init__(self, n_types: int, cutoff: float):
        self.cutoff = cutoff
        self.min_distance = np.inf
        """Å; infinite if no two atoms came within the cutoff."""
        self.closest_in = ""
        """The frame with the smallest distance."""
        self.max_neighbors = 0
        """Of all types together, around any atom."""
        self.crowded = ""
        """The frame with that atom."""
        self.max_by_type = np.zeros(n_types, np.int64)
        """Neighbours of each type, around any atom."""
        self._atoms = self._neighbors = 0

    @property
    def mean_neighbors(self) -> float:
        """Of all types together, over all atoms."""
        return self._neighbors / max(self._atoms, 1)

    def add(self, frame: Frame, edges: EdgeList | None = None) -> bool:
        """Look at a frame.

        Args:
            frame: of which only the structure matters.
            edges: of the frame, within the cutoff, if they are known.

        Returns:
            Whether any of its atoms has a neighbour.

        Raises:
            InputError: two atoms at the same place; the message names the frame.
        """
        edges = frame_edges(frame, self.cutoff) if edges is None else edges
        distances = np.sqrt(np.einsum("ex,ex->e", edges.vectors, edges.vectors))
        inside = distances < self.cutoff
        closest = float(distances[inside].min(initial=np.inf))
        if closest < self.min_distance:
            self.min_distance, self.closest_in = closest, frame.source
        n_atoms, n_types = len(frame.types), len(self.max_by_type)
        cells = edges.i[inside] * n_types + frame.types[edges.j[inside]]
        counts = np.bincount(cells, minlength=n_atoms * n_types).reshape(-1, n_types)
        self.max_by_type = np.maximum(self.max_by_type, counts.max(axis=0))
        most = int(counts.sum(axis=1).max())
        if most > self.max_neighbors:
            self.max_neighbors, self.crowded = most, frame.source
        self._atoms += n_atoms
        self._neighbors += int(inside.sum())
        return bool(inside.any())

    def add_system(self, system: System) -> bool:
        """Look at all frames of a system.

        Returns:
            Whether any atom of any frame has a neighbour.

        Raises:
            InputError: as `add`.
        """
        extremes = [self.add(system.frame(index)) for index in range(len(system))]
        return any(extremes)
