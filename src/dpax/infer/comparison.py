"""What a model says of labelled frames, beside the labels."""

from collections.abc import Iterable, Iterator
from typing import NamedTuple

import numpy as np

from dpax.data import Frame, System
from dpax.errors import InputError
from dpax.infer.evaluation import Evaluation
from dpax.infer.potential import Potential

_ATOMS_AT_ONCE = 4096


class Comparison(NamedTuple):
    """A label of a frame and its prediction, in the form in which an error is reported."""

    error: str
    """A name of `dpax.data.quantities.ERRORS`."""
    label: np.ndarray
    prediction: np.ndarray
    weights: np.ndarray | float = 1.0
    """How much each number counts, in a shape that broadcasts to theirs."""


def comparisons(
    frame: Frame, evaluation: Evaluation, hessian: np.ndarray | None = None, *, atomic: bool = False
) -> Iterator[Comparison]:
    """Everything in which a frame's labels can be compared with a model.

    Args:
        frame: with labels.
        evaluation: of the same frame.
        hessian: float64 [3·atoms, 3·atoms], eV/Å², predicted; None if Hessians are not compared.
        atomic: compare atomic energies too.

    Raises:
        InputError: atomic energies are to be compared, and the frame has none.
    """
    n_atoms = len(frame.types)
    if frame.energy is not None:
        energies = np.array(frame.energy), np.array(evaluation.energy)
        yield Comparison("energy", *energies)
        yield Comparison("energy_per_atom", *(energy / n_atoms for energy in energies))
    if frame.forces is not None:
        yield Comparison("forces", frame.forces, evaluation.forces)
        if frame.atom_pref is not None:
            yield Comparison("weighted_forces", frame.forces, evaluation.forces, frame.atom_pref[:, None])
    if frame.virial is not None:
        virials = frame.virial, evaluation.virial
        yield Comparison("virial", *virials)
        yield Comparison("virial_per_atom", *(virial / n_atoms for virial in virials))
        if evaluation.volume is not None:
            yield Comparison("stress", *(-virial / evaluation.volume for virial in virials))
    if atomic:
        if frame.atom_energies is None:
            raise InputError(
                f"{frame.source}: has no atomic energies (atom_ener.npy), which --atomic compares"
            )
        yield Comparison("atom_energies", frame.atom_energies, evaluation.energies)
    if frame.hessian is not None and hessian is not None:
        yield Comparison("hessian", frame.hessian, hessian)


def compare_frames(
    potential: Potential,
    system: System,
    order: Iterable[int] | None = None,
    *,
    atomic: bool = False,
    hessian: bool = False,
) -> Iterator[list[Comparison]]:
    """Compare a model with the frames of a system, one after the other.

    Args:
        potential: the model.
        system: the frames, with the types of the model.
        order: which frames; all of them by default.
        atomic: compare atomic energies too.
        hessian: compare Hessians too, where frames have them.

    Raises:
        InputError: as `Potential.evaluate` and `comparisons`.
    """
    for frames in frame_groups(system, range(len(system)) if order is None else order):
        for frame, evaluation in zip(frames, potential.evaluate(frames), strict=True):
            matrix = potential.hessian(frame) if hessian and frame.hessian is not None else None
            yield list(comparisons(frame, evaluation, matrix, atomic=atomic))


def frame_groups(system: System, order: Iterable[int]) -> Iterator[list[Frame]]:
    """Frames of a system in a given order, as many at a time as are worth evaluating together."""
    group: list[Frame] = []
    for index in order:
        group.append(system.frame(int(index)))
        if sum(len(frame.types) for frame in group) >= _ATOMS_AT_ONCE:
            yield group
            group = []
    if group:
        yield group
