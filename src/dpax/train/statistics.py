"""Statistics of the training data: mean and deviation of the environment, energy bias, neighbour counts."""

import hashlib
import json
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from dpax.data import Frame, NeighborStatistics, ParameterWidths, System, frame_edges
from dpax.descriptor.statistics import EnvironmentStatistics
from dpax.errors import WRONG_CONTENTS
from dpax.files import write_json

_DIGEST = "digest"
_ARRAYS = ("mean", "stddev", "bias", "parameter_mean", "parameter_deviation")


@dataclass(frozen=True)
class Statistics:
    """What a model learns from its training data before training."""

    mean: np.ndarray
    """[ntypes, 4], of the environment matrix."""
    stddev: np.ndarray
    """[ntypes, 4]"""
    bias: np.ndarray
    """[ntypes], eV."""
    sel: int
    """Slots per atom, given or found in the data."""
    max_neighbors: int
    """In the frames that were read."""
    crowded: str
    """The frame with that atom."""
    parameter_mean: np.ndarray
    """[fparam + aparam], over frames and over atoms."""
    parameter_deviation: np.ndarray
    """[fparam + aparam]"""
    observed: list[int]
    """The types in the frames that were read."""
    min_distance: float
    """Å, between two atoms in the frames that were read; infinite if none has a neighbour."""
    fingerprint: str = ""
    """Of the data and settings that they were taken from."""
    counted: int | None = None
    """The most neighbours of any atom in all frames, where they were counted for `sel`."""
    counted_in: str = ""
    """The fingerprint of these data and the cutoff."""


def sampled_frames(systems: Sequence[System], batch_sizes: Sequence[int], n_batches: int) -> Iterator[Frame]:
    """Frames for the statistics: the size of `n_batches` batches of every system, spread evenly over it.

    A frame that a pass over the system takes several times (`numb_copy`) counts as often, as in DeePMD-kit.
    """
    for system, batch_size in zip(systems, batch_sizes, strict=True):
        once = np.arange(len(system))
        taken = once if system.copies is None else np.repeat(once, system.copies)
        count = min(len(taken), n_batches * batch_size)
        for place in np.linspace(0, len(taken) - 1, count).round().astype(int):
            yield system.frame(int(taken[place]))


@dataclass
class ParameterStatistics:
    """Mean and deviation of `fparam` over frames and of `aparam` over atoms, accumulated over frames.

    Args:
        widths: how many of each the model takes.
    """

    widths: ParameterWidths
    counts: np.ndarray = field(init=False)
    sums: np.ndarray = field(init=False)
    squares: np.ndarray = field(init=False)

    def __post_init__(self) -> None:
        n = self.widths.fparam + self.widths.aparam
        self.counts, self.sums, self.squares = np.zeros(n), np.zeros(n), np.zeros(n)

    def add(self, frame: Frame) -> None:
        """Count one frame.

        Raises:
            InputError: it lacks what the model takes.
        """
        parameters = self.widths.of(frame)
        n = self.widths.fparam
        for columns, rows in ((slice(0, n), parameters[:1, :n]), (slice(n, None), parameters[:, n:])):
            self.counts[columns] += len(rows)
            self.sums[columns] += rows.sum(axis=0)
            self.squares[columns] += (rows**2).sum(axis=0)

    def mean_and_deviation(self, protection: float) -> tuple[np.ndarray, np.ndarray]:
        """(mean, deviation), both [fparam + aparam]; no deviation is below the protection."""
        counts = np.maximum(self.counts, 1)
        mean = self.sums / counts
        deviation = np.sqrt(np.maximum(self.squares / counts - mean**2, 0.0))
        return mean, np.maximum(deviation, protection)


def compute_statistics(
    frames: Iterator[Frame],
    environment: EnvironmentStatistics,
    sel: int,
    rcond: float | None = None,
    fixed: Sequence[float | None] | None = None,
    silent: Sequence[int] = (),
    parameters: ParameterWidths | None = None,
    protection: float = 1e-2,
) -> Statistics:
    """Pass over the frames once.

    The bias of the types is fitted to the energies of the frames. Labels of atoms would tell it directly,
    and DeePMD-kit has code for that, but its reader of data never delivers them there (it looks for
    `atom_energy`, and the label is called `atom_ener`); so the models that it trains have the fitted bias,
    and so have those of dpax. Only data with atomic energies and no frame energies give their means.

    Args:
        frames: of the training data.
        environment: an empty accumulator.
        sel: slots per atom.
        rcond: see `energy_bias`.
        fixed: see `energy_bias`.
        silent: types whose atoms have no energy.
        parameters: how many `fparam` and `aparam` the model takes; none by default.
        protection: smallest deviation of these.

    Raises:
        InputError: a frame lacks parameters that the model takes.
    """
    parameter_statistics = ParameterStatistics(parameters or ParameterWidths())
    ntypes = environment.ntypes
    counts, energies, atomic = [], [], np.zeros((ntypes, 2))
    neighbors = NeighborStatistics(ntypes, environment.rcut)
    for frame in frames:
        edges = frame_edges(frame, environment.rcut)
        environment.add(frame.types, edges.i, edges.j, edges.vectors)
        parameter_statistics.add(frame)
        neighbors.add(frame, edges)
        if frame.energy is not None:
            counts.append(composition(frame.types, ntypes, silent))
            energies.append(frame.energy)
        if frame.atom_energies is not None:
            atomic[:, 0] += np.bincount(frame.types, minlength=ntypes)
            atomic[:, 1] += np.bincount(frame.types, weights=frame.atom_energies, minlength=ntypes)
    mean, stddev = environment.mean_and_deviation(sel)
    if energies:
        bias = energy_bias(np.array(counts), np.array(energies), rcond, fixed)
    else:
        means = atomic[:, 1] / np.maximum(atomic[:, 0], 1)
        presets = fixed or [None] * ntypes
        bias = np.array([mean if e is None else e for mean, e in zip(means, presets, strict=True)])
    observed = np.flatnonzero(environment.atoms).tolist()
    return Statistics(
        mean,
        stddev,
        bias,
        sel,
        neighbors.max_neighbors,
        neighbors.crowded,
        *parameter_statistics.mean_and_deviation(protection),
        observed=observed,
        min_distance=neighbors.min_distance,
    )


def composition(types: np.ndarray, ntypes: int, silent: Sequence[int] = ()) -> np.ndarray:
    """[ntypes], atoms of each type in a frame; none of a type whose atoms have no energy."""
    counts = np.bincount(types, minlength=ntypes)
    counts[list(silent)] = 0
    return counts


def energy_bias(
    counts: np.ndarray,
    energies: np.ndarray,
    rcond: float | None = None,
    fixed: Sequence[float | None] | None = None,
) -> np.ndarray:
    """Energy of an atom of each type, as the least-squares fit of energies to compositions.

    Where the compositions leave it open, the solution of least norm: a type that the data lack gets 0.

    Args:
        counts: [frames, ntypes], atoms of each type.
        energies: [frames], eV.
        rcond: singular values below this fraction of the largest count as zero; None is NumPy's choice.
        fixed: [ntypes], eV, energies of types that are known, None for those to be fitted.

    Returns:
        [ntypes], eV.
    """
    counts = counts.astype(np.float64)
    values = [None] * counts.shape[1] if fixed is None else fixed
    known = np.array([value is not None for value in values])
    bias = np.array([0.0 if value is None else value for value in values])
    fitted = np.linalg.lstsq(np.where(known, 0.0, counts), energies - counts @ bias, rcond=rcond)[0]
    return np.where(known, bias, fitted)


def fingerprint(facts: Mapping[str, Any]) -> str:
    """A digest of the JSON-able facts that statistics depend on."""
    return hashlib.sha256(json.dumps(facts, sort_keys=True, default=str).encode()).hexdigest()


def read_statistics(path: Path, expected: str) -> Statistics | None:
    """The statistics in a file, if they have the expected fingerprint and the file has not been changed."""
    try:
        content = json.loads(path.read_text(encoding="utf-8-sig"))
        digest = content.pop(_DIGEST, None)  # files of earlier versions have none
        if content["fingerprint"] != expected or digest not in (None, fingerprint(content)):
            return None
        arrays = {name: np.array(content.pop(name), np.float64) for name in _ARRAYS}
        statistics = Statistics(**arrays, **content)
        return statistics if _is_sound(statistics) else None
    except (OSError, *WRONG_CONTENTS):
        return None  # not there, or not ours: to be recomputed


def read_count(path: Path, expected: str) -> int | None:
    """The most neighbours of any atom in data of a fingerprint, if a file of statistics knows them."""
    try:
        content = json.loads(path.read_text(encoding="utf-8-sig"))
        digest = content.pop(_DIGEST, None)
        known = digest == fingerprint(content) and content["counted_in"] == expected
        return content["counted"] if known and type(content["counted"]) is int else None
    except (OSError, *WRONG_CONTENTS):
        return None


def _is_sound(statistics: Statistics) -> bool:
    """Whether the numbers are of the kinds and shapes that statistics have."""
    n_types, n_told = len(statistics.bias), len(statistics.parameter_mean)
    shapes = {
        "mean": (n_types, 4),
        "stddev": (n_types, 4),
        "bias": (n_types,),
        "parameter_mean": (n_told,),
        "parameter_deviation": (n_told,),
    }
    arrays = {name: getattr(statistics, name) for name in _ARRAYS}
    return (
        all(array.shape == shapes[name] and np.isfinite(array).all() for name, array in arrays.items())
        and bool((statistics.stddev > 0).all() and (statistics.parameter_deviation > 0).all())
        and type(statistics.sel) is int
        and statistics.sel > 0
        and type(statistics.max_neighbors) is int
        and isinstance(statistics.crowded, str)
        and all(type(number) is int and 0 <= number < n_types for number in statistics.observed)
        and type(statistics.min_distance) is float
        and statistics.min_distance > 0
    )


def is_statistics(path: Path) -> bool:
    """Whether a file holds statistics, of any data."""
    try:
        content = json.loads(path.read_text(encoding="utf-8-sig"))
        return isinstance(content, dict) and {"fingerprint", *_ARRAYS} <= content.keys()
    except (OSError, ValueError, RecursionError):
        return False


def write_statistics(path: Path, statistics: Statistics) -> None:
    """Write statistics to a JSON file for the next training on the same data."""
    content = asdict(statistics)
    content |= {name: content[name].tolist() for name in _ARRAYS}
    content[_DIGEST] = fingerprint(content)
    write_json(path, content, indent=1)
