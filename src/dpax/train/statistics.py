"""Statistics of the training data: mean and deviation of the environment, energy bias, neighbour counts."""

import hashlib
import json
import os
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from dpax.data import Frame, System
from dpax.descriptor.environment import EnvironmentStatistics
from dpax.geometry.neighbors import find_edges, neighbor_counts


@dataclass(frozen=True)
class Statistics:
    """What a model takes from its training data before it is trained."""

    mean: np.ndarray
    """[ntypes, 4], of the environment matrix."""
    stddev: np.ndarray
    """[ntypes, 4]"""
    bias: np.ndarray
    """[ntypes], eV."""
    sel: int
    """Slots per atom, given or found in the data."""
    max_neighbors: int
    """Of the frames that were looked at."""
    crowded: str
    """The frame where an atom has as many."""


def largest_neighbor_count(systems: Sequence[System], rcut: float) -> int:
    """The largest number of neighbours of any atom of any frame."""
    largest = 0
    for system in systems:
        for index in range(len(system)):
            frame = system.frame(index)
            edges = find_edges(frame.positions, frame.cell, frame.pbc, rcut)
            largest = max(largest, int(neighbor_counts(edges.i, len(frame.types)).max(initial=0)))
    return largest


def sampled_frames(systems: Sequence[System], batch_sizes: Sequence[int], n_batches: int) -> Iterator[Frame]:
    """Frames for the statistics: the size of `n_batches` batches of every system, spread evenly over it."""
    for system, batch_size in zip(systems, batch_sizes, strict=True):
        count = min(len(system), n_batches * batch_size)
        for index in np.linspace(0, len(system) - 1, count).round().astype(int):
            yield system.frame(int(index))


def compute_statistics(
    frames: Iterator[Frame], environment: EnvironmentStatistics, sel: int, rcond: float | None
) -> Statistics:
    """Pass over the frames once.

    Args:
        frames: of the training data.
        environment: an empty accumulator.
        sel: slots per atom.
        rcond: see `energy_bias`.
    """
    ntypes = environment.ntypes
    counts, energies, atomic = [], [], np.zeros((ntypes, 2))
    largest, crowded = 0, ""
    for frame in frames:
        edges = find_edges(frame.positions, frame.cell, frame.pbc, environment.rcut)
        environment.add(frame.types, edges.i, edges.j, edges.vectors)
        most = int(neighbor_counts(edges.i, len(frame.types)).max(initial=0))
        if most > largest:
            largest, crowded = most, frame.source
        if frame.energy is not None:
            counts.append(np.bincount(frame.types, minlength=ntypes))
            energies.append(frame.energy)
        if frame.atom_energies is not None:
            atomic[:, 0] += np.bincount(frame.types, minlength=ntypes)
            atomic[:, 1] += np.bincount(frame.types, weights=frame.atom_energies, minlength=ntypes)
    mean, stddev = environment.mean_and_deviation(sel)
    if atomic[:, 0].any():
        # Labels of atoms tell the bias of their type directly, as in DeePMD-kit.
        bias = atomic[:, 1] / np.maximum(atomic[:, 0], 1)
    else:
        bias = energy_bias(np.array(counts).reshape(-1, ntypes), np.array(energies), rcond)
    return Statistics(mean, stddev, bias, sel, largest, crowded)


def energy_bias(counts: np.ndarray, energies: np.ndarray, rcond: float | None = None) -> np.ndarray:
    """Energy of an atom of each type, as the least-squares fit of energies to compositions.

    Where the compositions leave it open, the solution of least norm: a type that the data lack gets 0.

    Args:
        counts: [frames, ntypes], atoms of each type.
        energies: [frames], eV.
        rcond: singular values below this fraction of the largest count as zero; None is NumPy's choice.

    Returns:
        [ntypes], eV.
    """
    if len(energies) == 0:
        return np.zeros(counts.shape[1])
    return np.linalg.lstsq(counts.astype(np.float64), energies, rcond=rcond)[0]


def cached(path: Path, key: dict[str, Any], compute: Any) -> Statistics:
    """The statistics stored in a file if they are those of `key`, or newly computed and stored.

    Args:
        path: a JSON file beside the run.
        key: JSON-able facts that the statistics depend on.
        compute: a function without arguments.
    """
    fingerprint = hashlib.sha256(json.dumps(key, sort_keys=True, default=str).encode()).hexdigest()
    try:
        content = json.loads(path.read_text(encoding="utf-8"))
        if content["fingerprint"] == fingerprint:
            arrays = {name: np.array(content[name]) for name in ("mean", "stddev", "bias")}
            return Statistics(
                **arrays, **{name: content[name] for name in ("sel", "max_neighbors", "crowded")}
            )
    except (OSError, ValueError, KeyError):
        pass  # not there, or not ours: computed anew
    statistics = compute()
    content = {
        "fingerprint": fingerprint,
        "mean": statistics.mean.tolist(),
        "stddev": statistics.stddev.tolist(),
        "bias": statistics.bias.tolist(),
        "sel": statistics.sel,
        "max_neighbors": statistics.max_neighbors,
        "crowded": statistics.crowded,
    }
    temporary = path.with_suffix(".tmp")
    temporary.write_text(json.dumps(content, indent=1) + "\n", encoding="utf-8")
    os.replace(temporary, path)
    return statistics
