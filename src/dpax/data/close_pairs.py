"""Data without frames in which two atoms are too close to each other."""

from collections.abc import Sequence

from dpax.data.frame import Frame, System
from dpax.data.selection import selected
from dpax.errors import InputError
from dpax.geometry.neighbors import any_closer


def without_close_pairs(systems: Sequence[System], distance: float) -> list[System]:
    """The systems without the frames that have two atoms closer than a distance; reads every frame once.

    An atom's own periodic images do not count. Empty systems are left out.

    Args:
        systems: the data.
        distance: Å; nothing is looked at where it is 0.

    Raises:
        InputError: no frame is left, or one cannot be read.
    """
    if distance <= 0:
        return list(systems)
    sound = [[_is_sound(system.frame(k), distance) for k in range(len(system))] for system in systems]
    selections = [selection for selection in map(selected, systems, sound) if selection is not None]
    if not selections:
        raise InputError(
            f"every frame of {', '.join(system.name for system in systems)} has two atoms closer than "
            f"min_pair_dist = {distance:g} Å; choose a smaller one"
        )
    return selections


def _is_sound(frame: Frame, distance: float) -> bool:
    try:
        return not any_closer(frame.positions, frame.cell, frame.pbc, distance)
    except InputError as error:
        raise InputError(f"{frame.source}: {error}") from error
