"""From settings to what a training works on: data, statistics and an initial model."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import jax

import dpax
from dpax.data import System, batch_sizes, filter_systems, open_systems
from dpax.descriptor.block import kept_pairs
from dpax.descriptor.dpa1 import automatic_sel
from dpax.descriptor.environment import EnvironmentStatistics
from dpax.errors import InputError
from dpax.model.potential import EnergyModel, reinitialize
from dpax.train.settings import DataSettings, InputSettings
from dpax.train.statistics import (
    Statistics,
    compute_statistics,
    fingerprint,
    largest_neighbor_count,
    read_statistics,
    sampled_frames,
)


@dataclass(frozen=True)
class Data:
    """Systems with the size of their batches."""

    systems: list[System]
    batch_sizes: list[int]

    @property
    def n_batches(self) -> list[int]:
        """Batches of each system in one pass over it, at least 1."""
        return [
            max(1, len(system) // size) for system, size in zip(self.systems, self.batch_sizes, strict=True)
        ]

    @property
    def labels(self) -> frozenset[str]:
        """Labels that any of the systems has."""
        return frozenset().union(*(system.labels for system in self.systems))


def open_data(settings: DataSettings, type_map: Sequence[str], base: Path | None) -> Data:
    """Open the systems of a data section.

    Raises:
        InputError: nothing is found, or data do not fit the settings.
    """
    systems = filter_systems(open_systems(settings.systems, type_map, base), settings.batch_size)
    return Data(systems, batch_sizes(systems, settings.batch_size))


def check_labels(settings: InputSettings, data: Data) -> None:
    """Refuse data without any label that the loss weighs.

    Raises:
        InputError: energies are absent although the loss wants them, or nothing that it wants is there.
    """
    loss = settings.loss
    wanted = {
        "energy": loss.start_pref_e or loss.limit_pref_e,
        "forces": loss.start_pref_f or loss.limit_pref_f,
        "virial": loss.start_pref_v or loss.limit_pref_v,
        "atom_energies": loss.start_pref_ae or loss.limit_pref_ae,
    }
    names = ", ".join(system.name for system in data.systems)
    if wanted["energy"] and "energy" not in data.labels:
        raise InputError(
            f"no frame of the training data ({names}) has an energy; add energies (energy.npy), or set "
            "loss.start_pref_e and loss.limit_pref_e to 0 to train without"
        )
    if not any(weight and label in data.labels for label, weight in wanted.items()):
        labels = ", ".join(label for label, weight in wanted.items() if weight) or "nothing"
        raise InputError(f"the loss weighs {labels}, which no frame of the training data ({names}) has")


def data_statistics(
    settings: InputSettings, data: Data, cache: Path | None = None, auto_sel: int | None = None
) -> Statistics:
    """Statistics of the training data.

    Args:
        settings: of the training.
        data: to be looked at.
        cache: a file of statistics that is used instead if it is of the same data and settings.
        auto_sel: what "auto" is for `sel`; None counts the neighbours in the data.

    Raises:
        InputError: a frame that cannot be read or used.
    """
    model, descriptor = settings.model, settings.model.descriptor
    environment = EnvironmentStatistics(
        len(model.type_map),
        descriptor.rcut,
        descriptor.rcut_smth,
        descriptor.env_protection,
        ~kept_pairs(descriptor.exclude_types, len(model.type_map)),
    )
    facts = {
        "environment": [descriptor.rcut, descriptor.rcut_smth, descriptor.sel, descriptor.env_protection],
        "auto_sel": auto_sel,
        "excluded": descriptor.exclude_types,
        "type_map": model.type_map,
        "systems": [(str(system.path.absolute()), _files(system.path)) for system in data.systems],
        "sample": [model.data_stat_nbatch, data.batch_sizes],
        "rcond": model.fitting_net.rcond,
    }
    name = fingerprint(facts)
    known = None if cache is None else read_statistics(cache, name)
    if known is not None:
        return known
    sel = descriptor.fixed_sel or auto_sel
    if sel is None:
        sel = automatic_sel(largest_neighbor_count(data.systems, descriptor.rcut), str(descriptor.sel))
    frames = sampled_frames(data.systems, data.batch_sizes, model.data_stat_nbatch)
    return replace(compute_statistics(frames, environment, sel, model.fitting_net.rcond), fingerprint=name)


def initial_model(settings: InputSettings, statistics: Statistics, seed: int) -> EnergyModel:
    """A model with fresh weights and the statistics of the data.

    Args:
        settings: of the training.
        statistics: of the data.
        seed: of the weights, where the model's settings give none.
    """
    model = EnergyModel.from_settings(settings.model, statistics.sel, seed)
    seeds = settings.model.descriptor.seed, settings.model.fitting_net.seed
    for part, own in zip((model.descriptor, model.fitting), seeds, strict=True):
        reinitialize(part, settings.dpax.init, seed if own is None else own)
    model.descriptor.se_atten.set_statistics(statistics.mean, statistics.stddev)
    model.bias = tuple(statistics.bias)
    return model


def _files(path: Path) -> list[tuple[str, int, int]]:
    """Names, sizes and times of a system's files: statistics of data that have changed are not reused."""
    found = [path] if path.is_file() else sorted(file for file in path.rglob("*") if file.is_file())
    return [(str(file), file.stat().st_size, file.stat().st_mtime_ns) for file in found]


def provenance(
    settings: InputSettings, data: Data, step: int, errors: Mapping[str, float] | None
) -> dict[str, Any]:
    """Where a model comes from, for its file.

    Args:
        settings: of the training.
        data: that it was trained on.
        step: steps done.
        errors: on the validation data, if they were evaluated: eV/atom and eV/Å.
    """
    return {
        "dpax": dpax.__version__,
        "jax": jax.__version__,
        "written": datetime.now(UTC).isoformat(timespec="seconds"),
        "step": step,
        "trained_on": {system.name: len(system) for system in data.systems},
        "validation_errors": dict(errors or {}),
        "input": settings.resolved(),
    }
