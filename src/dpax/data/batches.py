"""Frames put together into arrays of few distinct shapes."""

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np

from dpax.data.capacity import CapacityPlanner
from dpax.data.frame import Frame, ParameterWidths, System
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


class LabelWidths(NamedTuple):
    """Which of the rarer labels the batches of a data set have room for; the arrays of others are empty.

    It is one for all batches of a data set, so that it makes no more shapes.
    """

    atom_pref: bool = False
    atom_ener_coeff: bool = False
    drdq: int = 0
    """Generalized coordinates of a frame."""
    hessian: bool = False


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
    atom_pref: np.ndarray
    """float64 [atoms], weights of the forces; [0] if no frame of the data set has them."""
    atom_ener_coeff: np.ndarray
    """float64 [atoms], c of E = Σ c_i E_i; [0] if no frame of the data set has them."""
    drdq: np.ndarray
    """float64 [atoms, 3, generalized coordinates]; the last axis is 0 where the data set has none."""
    hessian: np.ndarray
    """float64 [atoms, 3, atoms, 3], eV/Å², 0 between frames; [atoms, 3, 0, 3] where the data set has none."""
    has_energy: np.ndarray
    """float64 [frames], 1 or 0."""
    has_forces: np.ndarray
    """float64 [frames], 1 or 0."""
    has_virial: np.ndarray
    """float64 [frames], 1 or 0."""
    has_atom_energies: np.ndarray
    """float64 [frames], 1 or 0."""
    has_atom_pref: np.ndarray
    """float64 [frames], 1 or 0."""
    has_atom_ener_coeff: np.ndarray
    """float64 [frames], 1 or 0."""
    has_drdq: np.ndarray
    """float64 [frames], 1 or 0."""
    has_hessian: np.ndarray
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
    *,
    parameters: ParameterWidths | None = None,
    labels: LabelWidths | None = None,
) -> Batch:
    """Put frames of any sizes into one batch.

    Args:
        frames: at least one.
        cutoff: of the neighbour search, Å.
        planner: chooses the sizes of the arrays.
        dtype: of the edge vectors; labels are float64.
        edge_lists: those of the frames, if known.
        parameters: how many `fparam` and `aparam` the model takes; none by default.
        labels: the rarer labels to make room for; by default those that one of the frames has.

    Raises:
        InputError: two atoms at the same place, or a frame without the parameters that the model takes;
            the message names the frame.
    """
    found = [frame_edges(frame, cutoff) for frame in frames] if edge_lists is None else edge_lists
    capacity = planner.fit(*capacity_need(frames, found))
    types = [frame.types for frame in frames]
    inputs = [(parameters or ParameterWidths()).of(frame) for frame in frames]
    neighborhoods = pack(found, types, capacity, dtype, n_frames=capacity.atoms, parameters=inputs)
    packed = _labels(frames, capacity.atoms, labels or _widths_of(frames))
    return Batch(neighborhoods, packed, tuple(frame.source for frame in frames))


def label_widths(systems: Sequence[System]) -> LabelWidths:
    """The rarer labels that a data set has. Reads a frame of each system with `drdq`."""
    names = frozenset().union(*(system.labels for system in systems))
    with_drdq = [system for system in systems if "drdq" in system.labels]
    found = ((system.frame(index) for index in range(len(system))) for system in with_drdq)
    firsts = [next(frame for frame in frames if frame.drdq is not None) for frames in found]
    return LabelWidths("atom_pref" in names, "atom_ener_coeff" in names, _drdq(firsts), "hessian" in names)


def _widths_of(frames: Sequence[Frame]) -> LabelWidths:
    def some(name: str) -> bool:
        return any(getattr(frame, name) is not None for frame in frames)

    return LabelWidths(some("atom_pref"), some("atom_ener_coeff"), _drdq(frames), some("hessian"))


def _drdq(frames: Sequence[Frame]) -> int:
    """The number of generalized coordinates, the same in all frames that have any."""
    return next((frame.drdq.shape[1] for frame in frames if frame.drdq is not None), 0)


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


def _labels(frames: Sequence[Frame], size: int, widths: LabelWidths) -> Labels:
    labels = Labels(
        energy=np.zeros(size),
        forces=np.zeros((size, 3)),
        virial=np.zeros((size, 3, 3)),
        atom_energies=np.zeros(size),
        atom_pref=np.zeros(size * widths.atom_pref),
        atom_ener_coeff=np.zeros(size * widths.atom_ener_coeff),
        drdq=np.zeros((size, 3, widths.drdq)),
        hessian=np.zeros((size, 3, size * widths.hessian, 3)),
        has_energy=np.zeros(size),
        has_forces=np.zeros(size),
        has_virial=np.zeros(size),
        has_atom_energies=np.zeros(size),
        has_atom_pref=np.zeros(size),
        has_atom_ener_coeff=np.zeros(size),
        has_drdq=np.zeros(size),
        has_hessian=np.zeros(size),
        n_atoms=np.ones(size, np.int32),
    )
    start = 0
    for number, frame in enumerate(frames):
        n_atoms = len(frame.types)
        atoms = slice(start, start + n_atoms)
        labels.n_atoms[number] = n_atoms
        _fill(labels, "energy", number, number, frame)
        _fill(labels, "virial", number, number, frame)
        _fill(labels, "forces", atoms, number, frame)
        _fill(labels, "atom_energies", atoms, number, frame)
        if widths.atom_pref:
            _fill(labels, "atom_pref", atoms, number, frame)
        if widths.atom_ener_coeff:
            _fill(labels, "atom_ener_coeff", atoms, number, frame)
        if widths.drdq:
            _check_drdq(frame, widths.drdq)
            _fill(labels, "drdq", atoms, number, frame)
        if widths.hessian:
            _fill(labels, "hessian", (atoms, slice(None), atoms), number, frame)
        start = atoms.stop
    return labels


def _fill(
    labels: Labels, name: str, where: int | slice | tuple[slice, ...], number: int, frame: Frame
) -> None:
    """Copy a label of a frame to its place, and set its flag; nothing where the frame lacks it."""
    value = getattr(frame, name)
    if value is not None:
        array = getattr(labels, name)
        array[where] = np.reshape(value, array[where].shape)
        getattr(labels, f"has_{name}")[number] = 1.0


def _check_drdq(frame: Frame, width: int) -> None:
    if frame.drdq is not None and frame.drdq.shape[1] != width:
        raise InputError(
            f"{frame.source}: drdq has {frame.drdq.shape[1]} generalized coordinates, other frames {width}; "
            "all frames of a data set need the same number"
        )
