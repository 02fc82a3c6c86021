"""Where a training run begins: from scratch, or at its last checkpoint."""

from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path

from jax.sharding import Mesh

from dpax.errors import InputError
from dpax.model.energy_model import EnergyModel
from dpax.train.bias import with_adjusted_bias
from dpax.train.checkpoints import Checkpoint, Checkpoints, restored_model
from dpax.train.checks import Seen, data_warnings, sel_warnings
from dpax.train.data_record import Sections, check_sizes, describe, read
from dpax.train.origin import Origin, started
from dpax.train.resolve import Resolved, resolve
from dpax.train.restart import Changes
from dpax.train.run import RunFolder
from dpax.train.settings import InputSettings
from dpax.train.setup import data_statistics, fresh_model, statistics_files, statistics_sample, total_steps
from dpax.train.statistics import Statistics

Tell = Callable[[str], None]


@dataclass(frozen=True)
class Beginning:
    """What a training run takes its first step from."""

    resolved: Resolved
    statistics: Statistics
    model: EnergyModel
    record: Sections
    """What the data are now."""
    checkpoint: Checkpoint | None = None
    """The restored checkpoint; None at step 0."""
    reranked: bool = False
    """Whether errors on the validation data cannot be compared with those from before."""
    is_new: bool = True
    """Whether it is a new run; a restart, even from step 0, is not."""


def new_run(
    settings: InputSettings,
    folder: RunFolder,
    base: Path | None,
    origin: Origin | None,
    mesh: Mesh,
    tell: Tell,
) -> Beginning:
    """The beginning of a new run; nothing is written.

    Args:
        settings: a whole input.
        folder: of the run.
        base: folder that relative paths in the settings start from.
        origin: a trained model to start from.
        mesh: devices.
        tell: called with each line worth showing.

    Raises:
        InputError: settings, data or the trained model do not fit each other.
    """
    resolved = resolve(settings, base, origin=origin, caches=[folder.statistics])
    for system in _all_systems(resolved):
        folder.check_data(system)
    statistics = _statistics(resolved, folder)
    model = _fresh(resolved, statistics)
    if origin is not None:
        model = started(model, origin, tell)
        if origin.how == "finetune" and not origin.random_fitting and "energy" in resolved.data.labels:
            model = adjusted(model, resolved, mesh, tell)
    _warn(resolved, statistics, tell)
    return Beginning(resolved, statistics, model, _record(resolved))


def restarted_run(
    settings: InputSettings, folder: RunFolder, base: Path | None, allow_changes: bool, tell: Tell
) -> Beginning:
    """A run restored from its last good checkpoint; a new one if it has none yet. Nothing is written.

    Args:
        settings: a whole input.
        folder: of the run.
        base: folder that relative paths in the settings start from.
        allow_changes: of data and settings, even those that make the restart another experiment.
        tell: called with each line worth showing.

    Raises:
        InputError: there is no run, or the restart would be another experiment.
    """
    before = folder.read_settings()
    resolved = resolve(settings, base, before=before, caches=[folder.statistics])
    if before.model.descriptor.fixed_sel is None:  # version 0.1 noted the rule
        before = before.model_copy(update={"model": resolved.settings.model})
    folder.check_model(before.model, resolved.settings.model)
    record = _record(resolved)
    checkpoint = _last_checkpoint(folder, before, tell)
    changes = _changes(before, settings, resolved, folder, record, checkpoint)
    # A run without a checkpoint may become any experiment.
    if checkpoint is not None and not allow_changes:
        changes.check()
    for text in changes.texts:
        tell(f"warning: --restart: {text}")
    done = 0 if checkpoint is None else checkpoint.meta["progress"]["step"]
    notes = tuple(f"step {done}: {text}" for text in changes.texts)
    dpax = resolved.settings.dpax.model_copy(update={"restarts": before.dpax.restarts + notes})
    resolved = replace(resolved, settings=resolved.settings.model_copy(update={"dpax": dpax}))
    statistics = _statistics(resolved, folder)
    model = _fresh(resolved, statistics)
    if checkpoint is not None:
        model = restored_model(model, checkpoint)
    _warn(resolved, statistics, tell)
    return Beginning(resolved, statistics, model, record, checkpoint, changes.reranked, is_new=False)


def adjusted(model: EnergyModel, resolved: Resolved, mesh: Mesh, tell: Tell) -> EnergyModel:
    """The model with its energy bias refitted to its errors on the training data."""
    return with_adjusted_bias(model, statistics_sample(resolved.settings, resolved.data), mesh, tell)


def _all_systems(resolved: Resolved) -> list:
    return resolved.data.systems + ([] if resolved.valid_data is None else resolved.valid_data.systems)


def _record(resolved: Resolved) -> Sections:
    valid = [] if resolved.valid_data is None else resolved.valid_data.systems
    return describe({"training_data": resolved.data.systems, "validation_data": valid})


def _statistics(resolved: Resolved, folder: RunFolder) -> Statistics:
    """Statistics of the training data, from a file or computed."""
    shared = statistics_files(resolved.settings, resolved.base)
    for path in shared:
        folder.check_shared("training.stat_file", path, resolved.settings)
    statistics = data_statistics(resolved.settings, resolved.data, [folder.statistics, *shared])
    if resolved.counted is None:
        return statistics
    neighbors, fingerprint = resolved.counted.neighbors, resolved.counted.fingerprint
    return replace(statistics, counted=neighbors, counted_in=fingerprint)


def _fresh(resolved: Resolved, statistics: Statistics) -> EnergyModel:
    seed = resolved.settings.training.seed
    assert seed is not None
    return fresh_model(resolved.settings, statistics, seed)


def _last_checkpoint(folder: RunFolder, before: InputSettings, tell: Tell) -> Checkpoint | None:
    """The last good checkpoint of a run; None if it has none yet."""
    if folder.checkpoints.is_dir():
        with Checkpoints(folder.checkpoints, read_only=True) as checkpoints:
            if checkpoints.steps():
                return checkpoints.latest(tell)
    if before.dpax.started_from is not None:
        raise InputError(
            f"{folder.path}: the run started from a trained model and has no checkpoint yet; repeat "
            f"--{before.dpax.started_from.how} with --overwrite"
        )
    return None


def _changes(
    before: InputSettings,
    settings: InputSettings,
    resolved: Resolved,
    folder: RunFolder,
    record: Sections,
    checkpoint: Checkpoint | None,
) -> Changes:
    """What has changed since the run was last started."""
    changes, recorded = Changes(), read(folder.data)
    if checkpoint is not None and recorded is not None:
        check_sizes(recorded["training_data"], record["training_data"])
    # A run that was killed at once has not written a record yet.
    if checkpoint is not None or recorded is not None:
        changes.compare_data(recorded, record)
    changes.compare_settings(before, resolved.settings)
    done = 0 if checkpoint is None else checkpoint.meta["progress"]["step"]
    totals = total_steps(before.training, resolved.data), resolved.total_steps
    changes.compare_rates(before, resolved.settings, totals, done)
    changes.compare_seeds(before.training.seed, settings.training.seed)
    return changes


def _warn(resolved: Resolved, statistics: Statistics, tell: Tell) -> None:
    """Report what is suspicious about the frames that the statistics are taken of."""
    seen = Seen(
        frozenset(statistics.observed),
        statistics.max_neighbors,
        statistics.crowded,
        statistics.min_distance,
        "the training data",
    )
    texts = data_warnings(resolved.settings, _all_systems(resolved), [seen])
    for text in texts + sel_warnings(statistics.sel, [seen]):
        tell(f"warning: {text}")
