"""From one kind of model file to another, with a proof that nothing has changed."""

from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

import numpy as np

from dpax.data import Frame
from dpax.errors import InputError
from dpax.files import replacing
from dpax.infer import Evaluation, Potential
from dpax.interfaces.model_files import load, write_model
from dpax.model.energy_model import EnergyModel

_LOOSE_AND_TIGHT = ((2.2, True), (1.0, False))
"""Spacing of the two structures, Å, and whether they are periodic; a short-range table acts in the second."""
JITTER = 0.15
"""Of the positions, in units of the spacing."""
_FEWEST_ATOMS = 8


class Agreement(NamedTuple):
    """The largest differences between the predictions of two models."""

    energy: float
    """eV per atom."""
    force: float
    """eV/Å."""
    virial: float
    """eV per atom."""

    def __str__(self) -> str:
        return (
            f"energy {self.energy:.1e} eV/atom, force {self.force:.1e} eV/Å, virial {self.virial:.1e} eV/atom"
        )


def convert(source: Path, target: Path, branch: str | None = None) -> Agreement:
    """Write the model of a file as another kind of file, unless the two differ.

    The model as read from `source`, and as read again from what is to become `target`, are evaluated on
    random structures. `target` is replaced at once or not at all.

    Args:
        source: a model file of any kind that is read.
        target: a model file of a kind that is written.
        branch: of a multi-task model of DeePMD-kit: the branch's name or alias.

    Returns:
        How far the two agree.

    Raises:
        InputError: a file that cannot be read or written, or models that differ.
    """
    before = load(source, branch=branch)
    with replacing(target) as temporary:
        write_model(temporary, before.model, before.provenance)
        differences = compare(before, load(temporary))
        if max(differences) > tolerance(before.model) or not np.isfinite(differences).all():
            raise InputError(f"{target}: not written, because it would differ from {source}: {differences}")
    return differences


def tolerance(model: EnergyModel) -> float:
    """The largest difference that rounding explains: 1e-9 in float64 and 1e-4 in lower precisions."""
    wide = model.dtype == np.float64 and model.spec.fitting.dtype == np.float64
    return 1e-9 if wide else 1e-4


def compare(
    first: Potential, second: Potential, spacings: Sequence[tuple[float, bool]] = _LOOSE_AND_TIGHT
) -> Agreement:
    """Evaluate two potentials of the same elements on `random_frames`."""
    frames = random_frames(first.model, spacings)
    pairs = [_differences(a, b) for a, b in zip(first.evaluate(frames), second.evaluate(frames), strict=True)]
    return Agreement(*np.max(np.array(pairs), axis=0).tolist())


def random_frames(
    model: EnergyModel, spacings: Sequence[tuple[float, bool]] = _LOOSE_AND_TIGHT, seed: int = 0
) -> list[Frame]:
    """Structures of all elements with random parameters.

    Args:
        model: that is to be evaluated on them.
        spacings: for each structure the spacing of the simple cubic sites from which its atoms are moved by
            up to `JITTER` of it in each direction, Å, and whether the structure is periodic.
        seed: of the random numbers.
    """
    rng = np.random.default_rng(seed)
    n_types = len(model.type_map)
    fparam, aparam, _ = model.spec.parameter_widths
    edge = int(np.ceil(max(n_types, _FEWEST_ATOMS) ** (1 / 3)))
    sites = np.stack(np.meshgrid(*[np.arange(edge)] * 3), axis=-1).reshape(-1, 3).astype(float)
    types = rng.permutation(np.arange(len(sites)) % n_types)
    frames = []
    for spacing, periodic in spacings:
        positions = spacing * (sites + rng.uniform(-JITTER, JITTER, sites.shape))
        frames.append(
            Frame(
                positions,
                types,
                edge * spacing * np.eye(3) if periodic else None,
                (periodic, periodic, periodic),
                "random structure",
                fparam=rng.standard_normal(fparam) if fparam else None,
                aparam=rng.standard_normal((len(types), aparam)) if aparam else None,
            )
        )
    return frames


def _differences(first: Evaluation, second: Evaluation) -> tuple[float, float, float]:
    n_atoms = len(first.energies)
    return (
        abs(first.energy - second.energy) / n_atoms,
        float(np.abs(first.forces - second.forces).max()),
        float(np.abs(first.virial - second.virial).max()) / n_atoms,
    )
