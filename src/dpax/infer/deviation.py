"""How much several models disagree about a structure, or how far they are from its labels.

The definitions are those of DeePMD-kit's `dp model-devi` and of its pair style in LAMMPS: the spread over
the models is the (population) standard deviation, energies and virials count per atom.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np

from dpax.data import Frame
from dpax.infer.evaluation import Evaluation
from dpax.infer.potential import Potential


class Extent(NamedTuple):
    """The largest, smallest and average deviation of a quantity with several parts."""

    max: float
    min: float
    avg: float


@dataclass(frozen=True)
class Deviation:
    """The deviation of several models for one structure.

    What has no label is NaN where labels are compared with.
    """

    virial: Extent
    """eV/atom, over the nine components; `avg` is their root mean square. Without unit if relative."""
    force: Extent
    """eV/Å, over the atoms. Without unit if relative."""
    energy: float
    """eV/atom."""
    forces: np.ndarray
    """[atoms], eV/Å: of each atom's force, the length of the vector of its components' deviations."""

    def row(self, *, atomic: bool = False) -> list[float]:
        """The numbers in the order of the columns of `model_devi.out`, without the step."""
        return [*self.virial, *self.force, self.energy, *(self.forces if atomic else ())]


def evaluate_with_all(
    potentials: Sequence[Potential], frames: Sequence[Frame]
) -> Iterator[tuple[Frame, list[Evaluation]]]:
    """Each frame with its evaluations by several potentials, which must have the same types.

    Potentials that ask the same of structures (cutoff, precision, parameters) share neighbour lists.

    Raises:
        InputError: as `Potential.evaluate`.
    """
    first = potentials[0]
    for prepared in first.preparation.prepare(frames):
        by_potential = [
            potential.computation.evaluate(prepared)
            if potential.demands == first.demands
            else potential.evaluate(prepared.frames)
            for potential in potentials
        ]
        yield from zip(prepared.frames, map(list, zip(*by_potential, strict=True)), strict=True)


def model_deviation(
    evaluations: Sequence[Evaluation],
    labels: Frame | None = None,
    *,
    relative: float | None = None,
    relative_v: float | None = None,
) -> Deviation:
    """The deviation of several models' evaluations of one structure.

    Args:
        evaluations: one by each model.
        labels: if given, the deviations are root mean square errors against them.
        relative: if given, a force's deviation is divided by the force's length (of the mean over the
            models, or of the label) plus this level, eV/Å.
        relative_v: the same for the virial per atom, with the length of all nine components, eV.
    """
    n_atoms = len(evaluations[0].forces)

    def over_models(quantity: str, n_atoms: int = 1) -> tuple[np.ndarray, np.ndarray]:
        """The deviation of every component, and the vector to which it may be relative."""
        predictions = np.array([getattr(evaluation, quantity) for evaluation in evaluations]) / n_atoms
        if labels is None:
            return np.asarray(predictions.std(axis=0)), np.asarray(predictions.mean(axis=0))
        label = getattr(labels, quantity)
        wanted = np.full(predictions.shape[1:], np.nan) if label is None else np.divide(label, n_atoms)
        return np.asarray(np.sqrt(np.mean((predictions - wanted) ** 2, axis=0))), np.asarray(wanted)

    force, reference = over_models("forces")
    forces = np.linalg.norm(force, axis=-1)
    if relative is not None:
        forces /= np.linalg.norm(reference, axis=-1) + relative
    virial, reference = over_models("virial", n_atoms)
    if relative_v is not None:
        virial /= np.linalg.norm(reference) + relative_v
    energy, _ = over_models("energy", n_atoms)
    return Deviation(
        virial=Extent(virial.max(), virial.min(), float(np.linalg.norm(virial)) / 3),
        force=Extent(forces.max(), forces.min(), forces.mean()),
        energy=float(energy),
        forces=forces,
    )
