"""Some of the frames of a system, as a system."""

from collections.abc import Sequence

import numpy as np

from dpax.data.frame import Frame, System


class Selection:
    """Some of the frames of a system.

    Args:
        system: the whole.
        frames: the indices of the frames to keep.
    """

    def __init__(self, system: System, frames: np.ndarray):
        self.name, self.path, self.type_map = system.name, system.path, system.type_map
        self.labels, self.unread = system.labels, system.unread
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


def selected(system: System, keep: Sequence[bool]) -> System | None:
    """The system itself if all of its frames are kept, None if none is."""
    frames = np.flatnonzero(keep)
    if len(frames) == len(system):
        return system
    return Selection(system, frames) if len(frames) else None
