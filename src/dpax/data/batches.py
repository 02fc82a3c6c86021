"""Batches: frames packed into arrays of few distinct shapes."""

from collections.abc import Collection, Mapping, Sequence
from itertools import chain
from typing import NamedTuple

import numpy as np

from dpax.data.capacity import CapacityPlanner
from dpax.data.frame import Frame, ParameterWidths, System
from dpax.data.quantities import ATOMS, COMPONENTS, LABELS, OPEN, Axis, Quantity, labels_of
from dpax.errors import InputError
from dpax.geometry.neighborhoods import (
    Capacity,
    Neighborhoods,
    Surroundings,
    capacity_needed,
    pack,
    surroundings,
)
from dpax.geometry.neighbors import EdgeList, find_edges

LabelWidths = Mapping[str, int]
"""The labels that batches have room for, with the length of their open axis; 0 for those that have none.

All batches of a data set have the same, which makes no more shapes. Labels that are not `rare` are in it.
"""


class Labels(NamedTuple):
    """The labels of a batch; zeros and a flag of 0 where a frame lacks one or only pads the array.

    `atoms` is the axis of the neighbourhoods. The frame axis is as long as the atom axis: no batch can
    have more frames than atoms, so the number of frames never makes another shape, and arrays with one
    entry per frame are small beside those with one per neighbour. Atoms that pad point past its end.
    """

    values: dict[str, np.ndarray]
    """By name, float64. A label of a frame is [frames, …], one of atoms [atoms, …]; components have an axis
    of atoms and one of 3. So the Hessian is [atoms, 3, atoms, 3], and 0 between frames."""
    has: dict[str, np.ndarray]
    """By name: float64 [frames], 1 or 0."""
    n_atoms: np.ndarray
    """int32 [frames]; 1 for a padding frame, so that it can be divided by."""

    @property
    def n_frames(self) -> int:
        """Real frames and padding."""
        return self.n_atoms.shape[0]


class Batch(NamedTuple):
    """What a training step takes."""

    neighborhoods: Neighborhoods
    labels: Labels
    sources: tuple[str, ...]
    """Where each frame comes from, for messages; its length is the number of real frames."""


def make_batch(
    frames: Sequence[Frame],
    cutoff: float,
    planner: CapacityPlanner,
    dtype: np.typing.DTypeLike,
    edge_lists: Sequence[EdgeList] | None = None,
    *,
    parameters: ParameterWidths | None = None,
    labels: LabelWidths | None = None,
) -> Batch:
    """Pack frames of any sizes into one batch.

    Args:
        frames: at least one.
        cutoff: of the neighbour search, Å.
        planner: chooses the sizes of the arrays.
        dtype: of the edge vectors; labels are float64.
        edge_lists: those of the frames, if known.
        parameters: how many `fparam` and `aparam` the model takes; none by default.
        labels: those to make room for; by default, of the rarer ones, those that one of the frames has.

    Raises:
        InputError: two atoms at the same place, or a frame without the parameters that the model takes;
            the message names the frame.
    """
    lists = [frame_edges(frame, cutoff) for frame in frames] if edge_lists is None else edge_lists
    parts = _surroundings(frames, lists)
    capacity = planner.fit(*capacity_needed(parts))
    inputs = [(parameters or ParameterWidths()).of(frame) for frame in frames]
    neighborhoods = pack(parts, capacity, dtype, n_frames=capacity.atoms, parameters=inputs)
    packed = _labels(frames, capacity.atoms, _widths(labels_of(frames), frames) if labels is None else labels)
    return Batch(neighborhoods, packed, tuple(frame.source for frame in frames))


def label_widths(systems: Sequence[System]) -> LabelWidths:
    """The labels that a data set needs room for. Reads frames for the length of an open axis."""
    names = frozenset().union(*(system.labels for system in systems))
    frames = [
        next(
            frame
            for index in range(len(system))
            if (frame := system.frame(index)).values().get(name) is not None
        )
        for name in _open_ended(names)
        for system in systems
        if name in system.labels
    ]
    return _widths(names, frames)


def _open_ended(names: Collection[str]) -> list[str]:
    return [name for name, label in LABELS.items() if name in names and OPEN in label.shape]


def _widths(names: Collection[str], frames: Sequence[Frame]) -> LabelWidths:
    widths = {name: 0 for name, label in LABELS.items() if not label.rare or name in names}
    for name in _open_ended(names):
        values = (getattr(frame, name) for frame in frames)
        widths[name] = next(_open_length(LABELS[name], value) for value in values if value is not None)
    return widths


def _open_length(label: Quantity, value: float | np.ndarray) -> int:
    return np.shape(value)[label.shape.index(OPEN)]


def frame_edges(frame: Frame, cutoff: float) -> EdgeList:
    """The edges of a frame.

    Raises:
        InputError: as `find_edges`; the message names the frame.
    """
    try:
        return find_edges(frame.positions, frame.cell, frame.pbc, cutoff)
    except InputError as error:
        raise InputError(f"{frame.source}: {error}") from error


def capacity_need(frames: Sequence[Frame], edge_lists: Sequence[EdgeList]) -> Capacity:
    """The atoms and slots that a batch of these frames needs."""
    return capacity_needed(_surroundings(frames, edge_lists))


def _surroundings(frames: Sequence[Frame], edge_lists: Sequence[EdgeList]) -> list[Surroundings]:
    return [surroundings(edges, frame.types) for edges, frame in zip(edge_lists, frames, strict=True)]


def _labels(frames: Sequence[Frame], size: int, widths: LabelWidths) -> Labels:
    labels = Labels(
        values={name: np.zeros(_padded_shape(LABELS[name], size, width)) for name, width in widths.items()},
        has={name: np.zeros(size) for name in widths},
        n_atoms=np.ones(size, np.int32),
    )
    start = 0
    for number, frame in enumerate(frames):
        n_atoms = len(frame.types)
        labels.n_atoms[number] = n_atoms
        for name, width in widths.items():
            value, label = getattr(frame, name), LABELS[name]
            if value is not None:
                _check_width(frame, label, value, width)
                place = _place(label, number, slice(start, start + n_atoms))
                array = labels.values[name]
                array[place] = np.reshape(value, array[place].shape)
                labels.has[name][number] = 1.0
        start += n_atoms
    return labels


def _padded_shape(label: Quantity, size: int, width: int) -> tuple[int, ...]:
    """The shape in a batch of so many atoms and frames."""
    lengths = {ATOMS: (size,), COMPONENTS: (size, 3), OPEN: (width,)}
    axes = [*chain(*(lengths[n] if isinstance(n, Axis) else (n,) for n in label.shape))]
    return (*axes,) if label.is_atomic else (size, *axes)


def _place(label: Quantity, number: int, atoms: slice) -> tuple[int | slice, ...]:
    """The place of a frame's label in a batch."""
    if not label.is_atomic:
        return (number,)
    everything = slice(None)
    places = {ATOMS: (atoms,), COMPONENTS: (atoms, everything), OPEN: (everything,)}
    return (*chain(*(places[n] if isinstance(n, Axis) else (everything,) for n in label.shape)),)


def _check_width(frame: Frame, label: Quantity, value: float | np.ndarray, width: int) -> None:
    if OPEN in label.shape and _open_length(label, value) != width:
        raise InputError(
            f"{frame.source}: {label.name} has {_open_length(label, value)} columns, other frames {width}; "
            "all frames of a data set need the same number"
        )
