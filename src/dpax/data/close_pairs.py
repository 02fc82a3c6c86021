"""Data without the frames in which two atoms are too close to each other."""

from collections.abc import Sequence

import numpy as np

from dpax.data.frame import Frame, System
from dpax.errors import InputError
from dpax.geometry.neighbors import any_closer


class Selection:
    """Some of the frames of a system.

    Args:
        system: the whole.
        frames: the indices of the frames to keep.
    """

    def __init__(self, system: System, frames: np.ndarray):
        self.name, self.path, self.type_map = system.name, system.path, system.type_map
        self.labels = system.labels
        self.copies = None if system.copies is None else system.copies[frames]
        self._system, self._frames = system, frames

    def __len__(self) -> int:
        """The number of frames."""
        return len(self._frames)

    def n_atoms(self, index: int) -> int:
        """The atoms of a frame, as the whole system tells them."""
        return self._system.n_atoms(int(self._frames[index]))

    def frame(self, index: int) -> Frame:
        """Read one frame."""
        return self._system.frame(int(self._frames[index]))


def without_close_pairs(systems: Sequence[System], distance: float) -> list[System]:
    """The systems without the frames that have two atoms closer than a distance; reads every frame once.

    An atom's own periodic images do not count. Systems of which nothing is left are left out.

    Args:
        systems: the data.
        distance: Å; nothing is looked at where it is 0.

    Raises:
        InputError: no frame is left, or one cannot be read.
    """
    if distance <= 0:
        return list(systems)
    kept = []
    for system in systems:
        frames = np.flatnonzero([_is_sound(system.frame(k), distance) for k in range(len(system))])
        if len(frames):
            kept.append(system if len(frames) == len(system) else Selection(system, frames))
    if not kept:
        raise InputError(
            f"every frame of {', '.join(system.name for system in systems)} has two atoms closer than "
            f"min_pair_dist = {distance:g} Å; choose a smaller one"
        )
    return kept


def _is_sound(frame: Frame, distance: float) -> bool:
    try:
        return not any_closer(frame.positions, frame.cell, frame.pbc, distance)
    except InputError as error:
        raise InputError(f"{frame.source}: {error}") from error
