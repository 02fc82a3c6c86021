"""Frames put together into arrays of few distinct shapes."""

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np

from dpax.data.capacity import CapacityPlanner
from dpax.data.frame import Frame
from dpax.errors import InputError
from dpax.geometry.neighbors import (
    Capacity,
    EdgeList,
    Neighborhoods,
    find_edges,
    neighbor_counts,
    pack,
    slots_needed,
)


class Labels(NamedTuple):
    """The labels of a batch; zeros and a flag of 0 where a frame lacks one or only pads the array.

    `atoms` is the axis of the neighbourhoods. The frame axis is as long as the atom axis: no batch can
    have more frames than atoms, so the number of frames never makes another shape, and arrays with one
    entry per frame are small beside those with one per neighbour. Atoms that pad point past its end.
    """

    energy: np.ndarray
    """float64 [frames], eV."""
    forces: np.ndarray
    """float64 [atoms, 3], eV/Å."""
    virial: np.ndarray
    """float64 [frames, 3, 3], eV."""
    atom_energies: np.ndarray
    """float64 [atoms], eV."""
    has_energy: np.ndarray
    """float64 [frames], 1 or 0."""
    has_forces: np.ndarray
    """float64 [frames], 1 or 0."""
    has_virial: np.ndarray
    """float64 [frames], 1 or 0."""
    has_atom_energies: np.ndarray
    """float64 [frames], 1 or 0."""
    n_atoms: np.ndarray
    """int32 [frames]; 1 for a frame that only pads, so that it can be divided by."""


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
) -> Batch:
    """Put frames of any sizes into one batch.

    Args:
        frames: at least one.
        cutoff: of the neighbour search, Å.
        planner: chooses the sizes of the arrays.
        dtype: of the edge vectors; labels are float64.
        edge_lists: those of the frames, if known.

    Raises:
        InputError: two atoms at the same place; the message names the frame.
    """
    found = [frame_edges(frame, cutoff) for frame in frames] if edge_lists is None else edge_lists
    capacity = planner.fit(*capacity_need(frames, found))
    types = [frame.types for frame in frames]
    neighborhoods = pack(found, types, capacity, dtype, n_frames=capacity.atoms)
    return Batch(neighborhoods, _labels(frames, capacity.atoms), tuple(frame.source for frame in frames))


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
    atoms = [len(frame.types) for frame in frames]
    counts = [neighbor_counts(edges.i, n) for edges, n in zip(edge_lists, atoms, strict=True)]
    return Capacity(sum(atoms), max(map(slots_needed, counts)))


def _labels(frames: Sequence[Frame], size: int) -> Labels:
    labels = Labels(
        energy=np.zeros(size),
        forces=np.zeros((size, 3)),
        virial=np.zeros((size, 3, 3)),
        atom_energies=np.zeros(size),
        has_energy=np.zeros(size),
        has_forces=np.zeros(size),
        has_virial=np.zeros(size),
        has_atom_energies=np.zeros(size),
        n_atoms=np.ones(size, np.int32),
    )
    start = 0
    for number, frame in enumerate(frames):
        stop = start + len(frame.types)
        labels.n_atoms[number] = len(frame.types)
        _fill(labels.energy, labels.has_energy, number, number, frame.energy)
        _fill(labels.virial, labels.has_virial, number, number, frame.virial)
        _fill(labels.forces, labels.has_forces, slice(start, stop), number, frame.forces)
        _fill(labels.atom_energies, labels.has_atom_energies, slice(start, stop), number, frame.atom_energies)
        start = stop
    return labels


def _fill(
    array: np.ndarray, flags: np.ndarray, where: int | slice, number: int, value: float | np.ndarray | None
) -> None:
    if value is not None:
        array[where] = value
        flags[number] = 1.0
