"""The first half of an evaluation: from structures to packed neighbourhoods. Weights play no part in it.

Models that ask the same of structures can share it: what is prepared for one is what the others take.
"""

import threading
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from functools import partial
from typing import Any, NamedTuple

import ase
import numpy as np
from numpy.typing import ArrayLike

from dpax.data import CapacityPlanner, Frame, ParameterWidths, frame_from_atoms
from dpax.errors import InputError
from dpax.geometry.neighborhoods import Neighborhoods, capacity_needed, pack, surroundings
from dpax.geometry.neighbors import EdgeList, find_edges
from dpax.geometry.skin import SkinLists
from dpax.model.energy_model import EnergyModel

_ATOMS_AT_ONCE = 8192
"""Frames are put together up to this many atoms."""
_PROGRAMS = 32
"""Array sizes to compile for before one size must serve structures much smaller than it."""


@dataclass(frozen=True)
class Demands:
    """What a model asks of the structures that are prepared for it."""

    type_map: tuple[str, ...]
    cutoff: float
    """Å."""
    dtype: np.dtype
    """Of the edge vectors."""
    parameters: ParameterWidths
    atom_multiple: int
    """Atoms are rounded up to it: the number of devices."""


def demands(model: EnergyModel, n_devices: int) -> Demands:
    """What a model on so many devices asks of structures."""
    parameters = ParameterWidths(*model.spec.parameter_widths)
    return Demands(model.type_map, model.rcut, model.dtype, parameters, n_devices)


class Prepared(NamedTuple):
    """Some structures, ready for any model with the demands that they were prepared for."""

    frames: Sequence[Frame]
    neighborhoods: Neighborhoods


class Preparation:
    """Prepares structures. Threads may share it.

    Where structures come one at a time, their neighbour lists are reused as long as the atoms have hardly
    moved; no result depends on that.

    Args:
        demands: what is asked of the structures.
        capacities: array sizes to begin with, as `capacities` gives them.
    """

    def __init__(self, demands: Demands, capacities: dict[str, Any] | None = None):
        self.demands = demands
        self.skin_lists = SkinLists(demands.cutoff)
        self._planner = CapacityPlanner(atom_multiple=demands.atom_multiple, programs=_PROGRAMS)
        self._lock = threading.Lock()
        if capacities is not None:
            self.capacities = capacities

    @property
    def capacities(self) -> dict[str, Any]:
        """The array sizes used so far, as integers that JSON can hold."""
        with self._lock:
            return self._planner.state()

    @capacities.setter
    def capacities(self, state: dict[str, Any]) -> None:
        with self._lock:
            self._planner.restore(state)

    def frame(
        self,
        structure: ase.Atoms | Frame,
        name: str = "structure",
        fparam: ArrayLike | None = None,
        aparam: ArrayLike | None = None,
    ) -> Frame:
        """A structure as a frame, with the parameters given for it.

        Raises:
            InputError: an element or type that the model does not know, or no atoms.
        """
        frame = self._known(structure, name)
        changes: dict[str, Any] = {}
        if fparam is not None:
            changes["fparam"] = np.atleast_1d(np.asarray(fparam, np.float64))
        if aparam is not None:
            array = np.atleast_1d(np.asarray(aparam, np.float64))
            alike = (len(frame.types), *array.shape[-1:])
            changes["aparam"] = np.broadcast_to(array, alike) if array.ndim == 1 else array
        return replace(frame, **changes) if changes else frame

    def _known(self, structure: ase.Atoms | Frame, name: str) -> Frame:
        type_map = self.demands.type_map
        if not isinstance(structure, Frame):
            return frame_from_atoms(structure, type_map, source=name)
        if structure.types.max() >= len(type_map):
            raise InputError(
                f"{structure.source}: has type {structure.types.max()}; the potential's types are "
                f"0 to {len(type_map) - 1}: {' '.join(type_map)}"
            )
        return structure

    def prepare(self, frames: Sequence[Frame]) -> Iterator[Prepared]:
        """Frames in groups of many atoms, in their order.

        Raises:
            InputError: atoms at the same position, or a frame without parameters that the model takes.
        """
        for group in _groups(frames):
            # A structure that comes alone is probably one of a trajectory.
            find = (
                self.skin_lists.find if len(group) == 1 else partial(find_edges, cutoff=self.demands.cutoff)
            )
            yield self._packed(group, [_found(find, frame) for frame in group], self._planner)

    def prepare_exactly(self, frame: Frame) -> Prepared:
        """One frame in arrays that have no more atoms than they must.

        Raises:
            InputError: as `prepare`.
        """
        planner = CapacityPlanner(atom_multiple=self.demands.atom_multiple)
        return self._packed([frame], [_found(self.skin_lists.find, frame)], planner)

    def _packed(
        self, frames: Sequence[Frame], edges: Sequence[EdgeList], planner: CapacityPlanner
    ) -> Prepared:
        parts = [surroundings(of_frame, frame.types) for of_frame, frame in zip(edges, frames, strict=True)]
        with self._lock:
            capacity = planner.fit(*capacity_needed(parts))
        parameters = [self.demands.parameters.of(frame) for frame in frames]
        return Prepared(frames, pack(parts, capacity, self.demands.dtype, parameters=parameters))


def _found(find: Callable[..., EdgeList], frame: Frame) -> EdgeList:
    try:
        return find(frame.positions, frame.cell, frame.pbc)
    except InputError as error:
        raise InputError(f"{frame.source}: {error}") from None


def _groups(frames: Sequence[Frame]) -> Iterator[list[Frame]]:
    """Consecutive frames with at most `_ATOMS_AT_ONCE` atoms together; a larger frame stands alone."""
    group: list[Frame] = []
    atoms = 0
    for frame in frames:
        if group and atoms + len(frame.types) > _ATOMS_AT_ONCE:
            yield group
            group, atoms = [], 0
        group.append(frame)
        atoms += len(frame.types)
    if group:
        yield group
