"""From settings to data, statistics and an initial model."""

import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import jax
import numpy as np

from dpax.data import (
    BatchOrder,
    Frame,
    LabelWidths,
    ParameterWidths,
    System,
    batch_sizes,
    filter_systems,
    is_mixed,
    label_widths,
    open_systems,
    without_close_pairs,
)
from dpax.data.quantities import LABELS
from dpax.descriptor import initial as descriptor_arrays
from dpax.descriptor.describe import kept_pairs
from dpax.descriptor.statistics import EnvironmentStatistics
from dpax.errors import InputError
from dpax.model import fitting as fitting_arrays
from dpax.model.energy_model import EnergyModel, initial_model, spec_of
from dpax.nn.arrays import placed
from dpax.train.data_settings import DataSettings, TrainingDataSettings
from dpax.train.learning_settings import LossSettings
from dpax.train.probabilities import system_probabilities
from dpax.train.settings import InputSettings, TrainingSettings
from dpax.train.statistics import (
    Statistics,
    compute_statistics,
    fingerprint,
    is_statistics,
    read_statistics,
    sampled_frames,
)
from dpax.version import __version__


@dataclass(frozen=True)
class Data:
    """Systems with the size of their batches."""

    systems: list[System]
    batch_sizes: list[int]
    probabilities: Sequence[float] = ()
    """Relative probability of each system, not necessarily normalised."""
    mixed: bool = False
    """Whether a batch is drawn from all systems."""

    @property
    def n_batches(self) -> list[int]:
        """Batches of each system in one pass over it, at least 1."""
        return passes(self.systems, self.batch_sizes)

    def order(self, seed: int) -> BatchOrder:
        """The order in which its batches are drawn."""
        return BatchOrder(self.systems, self.batch_sizes, seed, self.probabilities, mixed=self.mixed)

    @property
    def labels(self) -> frozenset[str]:
        """Labels that any of the systems has."""
        return frozenset().union(*(system.labels for system in self.systems))


def passes(systems: Sequence[System], sizes: Sequence[int]) -> list[int]:
    """Batches of each system in one pass over it, at least 1."""
    return [max(1, len(system) // size) for system, size in zip(systems, sizes, strict=True)]


def open_data(settings: DataSettings, type_map: Sequence[str], base: Path | None) -> Data:
    """Open the systems of a data section.

    Raises:
        InputError: nothing is found, or data do not fit the settings.
    """
    systems = open_systems(settings.systems, type_map, base, settings.rglob_patterns or (), settings.reading)
    systems = filter_systems(systems, settings.batch_size)
    if isinstance(settings, TrainingDataSettings):
        systems = without_close_pairs(systems, settings.min_pair_dist)
    sizes = batch_sizes(systems, settings.batch_size)
    drawn = system_probabilities(passes(systems, sizes), settings.auto_prob, settings.sys_probs)
    return Data(systems, sizes, drawn, is_mixed(settings.batch_size))


def weighed_labels(loss: LossSettings, data: Data) -> LabelWidths:
    """The labels that batches need room for: the rarer ones if the data have them and the loss uses them."""
    widths = label_widths(data.systems)
    return {name: width for name, width in widths.items() if not LABELS[name].rare or loss.takes(name)}


def total_steps(settings: TrainingSettings, data: Data) -> int:
    """Steps of the training, given or from epochs.

    An epoch ends when every system is expected to have been seen: the largest number of batches over
    probability, as in DeePMD-kit.
    """
    if settings.numb_epoch is None:
        assert settings.numb_steps is not None
        return settings.numb_steps
    drawn = np.asarray(data.probabilities)
    needed = [n * drawn.sum() / p for n, p in zip(data.n_batches, drawn, strict=True) if p > 0]
    return math.ceil(settings.numb_epoch * math.ceil(max(needed)))


def data_statistics(settings: InputSettings, data: Data, caches: Sequence[Path] = ()) -> Statistics:
    """Statistics of the training data.

    Args:
        settings: as resolved.
        data: to be looked at.
        caches: files of statistics; the first of the same data and settings is used instead.

    Raises:
        InputError: a frame that cannot be read or used, or no statistics of these data where they are only
            to be read (`training.stat_file_mode`).
    """
    model, descriptor, net = settings.model, settings.model.descriptor, settings.model.fitting_net
    parameters = ParameterWidths(net.numb_fparam, net.numb_aparam, net.default_fparam)
    environment = EnvironmentStatistics(
        len(model.type_map),
        descriptor.rcut,
        descriptor.rcut_smth,
        descriptor.env_protection,
        ~kept_pairs(descriptor.exclude_types + model.pair_exclude_types, len(model.type_map)),
    )
    facts = {
        "environment": [descriptor.rcut, descriptor.rcut_smth, descriptor.sel, descriptor.env_protection],
        "excluded": [descriptor.exclude_types, model.pair_exclude_types, model.atom_exclude_types],
        "type_map": model.type_map,
        "systems": [system_files(system) for system in data.systems],
        "sample": [model.data_stat_nbatch, data.batch_sizes],
        "bias": [net.rcond, model.fixed_bias],
        "parameters": [*parameters, model.data_stat_protect],
    }
    name = fingerprint(facts)
    if settings.training.stat_file_mode == "read":
        caches = caches[-1:]
    known = next(filter(None, (read_statistics(cache, name) for cache in caches)), None)
    if known is not None:
        return known
    if settings.training.stat_file_mode == "read":
        raise InputError(
            f"{caches[-1]}: no statistics of these data and settings, and training.stat_file_mode is 'read'; "
            "train once with 'update', which writes them"
        )
    assert descriptor.fixed_sel is not None
    frames = statistics_sample(settings, data)
    statistics = compute_statistics(
        frames,
        environment,
        descriptor.fixed_sel,
        net.rcond,
        model.fixed_bias,
        model.atom_exclude_types,
        parameters,
        model.data_stat_protect,
    )
    return replace(statistics, fingerprint=name)


def statistics_sample(settings: InputSettings, data: Data) -> Iterator[Frame]:
    """The frames that enter statistics."""
    return sampled_frames(data.systems, data.batch_sizes, settings.model.data_stat_nbatch)


def statistics_files(settings: InputSettings, base: Path | None) -> list[Path]:
    """The file of statistics that training runs share, if there is one.

    Raises:
        InputError: another file is there, which must not be overwritten.
    """
    if settings.training.stat_file is None:
        return []
    path = (base or Path()) / settings.training.stat_file
    if path.exists() and not is_statistics(path):
        raise InputError(
            f"{path}: is not a statistics file of dpax (those of DeePMD-kit have another format); give "
            "training.stat_file another name, or leave it out"
        )
    return [path]


def fresh_model(settings: InputSettings, statistics: Statistics, seed: int) -> EnergyModel:
    """A model with random weights and the statistics of the data.

    Args:
        settings: of the training.
        statistics: of the data.
        seed: of the weights, where the model's settings give none.
    """
    section = settings.model
    seeds = section.descriptor.seed, section.fitting_net.seed
    model = initial_model(spec_of(section), seed, settings.dpax.init, seeds)
    descriptor = descriptor_arrays.with_statistics(
        model.spec.descriptor, model.descriptor, statistics.mean, statistics.stddev
    )
    fitting = fitting_arrays.with_statistics(
        model.spec.fitting, model.fitting, statistics.parameter_mean, statistics.parameter_deviation
    )
    arrays = {**placed(descriptor, "descriptor"), **placed(fitting, "fitting")}
    return model.with_arrays(arrays).with_bias(statistics.bias)


def system_files(system: System) -> tuple[str, str, int, list[tuple[str, int, int]]]:
    """What identifies a system: its path, group and length; names, sizes and times of its files."""
    path, group = system.path, system.name.partition("#")[2]
    return str(path.absolute()), group, len(system), _files(path)


def _files(path: Path) -> list[tuple[str, int, int]]:
    files = [path] if path.is_file() else sorted(file for file in path.rglob("*") if file.is_file())
    return [(str(file), file.stat().st_size, file.stat().st_mtime_ns) for file in files]


def provenance(
    settings: InputSettings,
    step: int,
    errors: Mapping[str, float] | None,
    observed: Sequence[int] = (),
    min_distance: float = math.inf,
) -> dict[str, Any]:
    """Where a model comes from, for its file.

    Args:
        settings: of the training.
        step: steps done.
        errors: on the validation data, if they were evaluated: eV/atom and eV/Å.
        observed: the types that its statistics have seen, where that is known.
        min_distance: the smallest between two atoms that they have seen, Å, where that is known.
    """
    seen = [settings.model.type_map[number] for number in observed]
    return {
        "dpax": __version__,
        "jax": jax.__version__,
        "written": datetime.now(UTC).isoformat(timespec="seconds"),
        "step": step,
        **({"observed_type": seen} if seen else {}),
        **({"min_nbor_dist": min_distance} if math.isfinite(min_distance) else {}),
        "validation_errors": dict(errors or {}),
        "input": settings.resolved(),
    }
