"""A look at every frame of a system: what it holds, and what would spoil a training."""

from collections import Counter
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

import numpy as np

from dpax.data.quantities import LABELS
from dpax.errors import InputError
from dpax.geometry.neighbors import find_edges, neighbor_counts
from dpax.train.checks import Seen

if TYPE_CHECKING:
    from dpax.data import Frame, ParameterWidths, System

_MOST_PROBLEMS = 3


@dataclass
class Survey:
    """What was seen in a system."""

    system: "System"
    frames: int = 0
    fewest_atoms: int = 0
    most_atoms: int = 0
    labels: Counter[str] = field(default_factory=Counter)
    """Number of frames that have each label."""
    types: Counter[int] = field(default_factory=Counter)
    """Number of atoms of each type."""
    most_neighbors: int = 0
    mean_neighbors: float = 0.0
    crowded: str = ""
    """The frame with the most neighbours."""
    closest: float = np.inf
    """Smallest distance between two atoms, Å; infinite if there are none within the cut-off."""
    closest_in: str = ""
    """The frame with the smallest distance."""
    problems: list[str] = field(default_factory=list)
    """The first few frames that cannot be used, and why."""
    bad_frames: int = 0

    @property
    def name(self) -> str:
        """Of the system."""
        return self.system.name

    @property
    def seen(self) -> Seen:
        """What the checks of a training run ask for."""
        return Seen(frozenset(self.types), self.most_neighbors, self.crowded, self.closest, self.closest_in)

    def _reject(self, problem: str) -> None:
        self.bad_frames += 1
        if self.bad_frames <= _MOST_PROBLEMS:
            self.problems.append(problem)

    def _look(self, frame: "Frame", rcut: float) -> None:
        atoms = len(frame.types)
        self.fewest_atoms = min(self.fewest_atoms or atoms, atoms)
        self.most_atoms = max(self.most_atoms, atoms)
        self.labels.update(frame.values().keys() & LABELS.keys())
        self.types.update(map(int, frame.types))
        self._measure(frame, rcut)

    def _measure(self, frame: "Frame", rcut: float) -> None:
        edges = find_edges(frame.positions, frame.cell, frame.pbc, rcut)
        counts = neighbor_counts(edges.i, len(frame.types))
        seen = sum(self.types.values())
        self.mean_neighbors += (counts.sum() - self.mean_neighbors * len(counts)) / seen
        if counts.max(initial=0) > self.most_neighbors:
            self.most_neighbors, self.crowded = int(counts.max()), frame.source
        closest = np.sqrt(np.einsum("ex,ex->e", edges.vectors, edges.vectors).min(initial=np.inf))
        if closest < self.closest:
            self.closest, self.closest_in = float(closest), frame.source


def survey(system: "System", rcut: float, parameters: "ParameterWidths") -> Survey:
    """Read every frame of a system once.

    Args:
        system: the data.
        rcut: cut-off radius within which neighbours are counted, Å.
        parameters: what the model must be told of each frame.
    """
    result = Survey(system, frames=len(system))
    for index in range(len(system)):
        try:
            frame = system.frame(index)
            parameters.of(frame)
        except InputError as error:
            result._reject(str(error))
            continue
        try:
            result._look(frame, rcut)
        except InputError as error:
            result._reject(f"{frame.source}: {error}")
    return result
