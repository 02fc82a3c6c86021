"""From the settings of a user to those of a run, in which nothing is left to choose."""

import secrets
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from dpax.data import NeighborStatistics, absolute_path
from dpax.descriptor.settings import automatic_sel
from dpax.train.checks import check_labels, check_names
from dpax.train.data_settings import DataSettings
from dpax.train.origin import Origin
from dpax.train.settings import InputSettings, StartedFromSettings
from dpax.train.setup import Data, open_data, statistics_files, system_files, total_steps
from dpax.train.statistics import fingerprint, read_count


@dataclass(frozen=True)
class Counted:
    """The most neighbours of any atom in all frames of the training data."""

    neighbors: int
    fingerprint: str
    """Of the data and the cutoff."""


@dataclass(frozen=True)
class Resolved:
    """What a run is made from. With these settings alone it could be repeated."""

    settings: InputSettings
    """With a seed, `sel` as a number, and what the run started from."""
    base: Path | None
    """Folder that relative paths in them start from."""
    data: Data
    valid_data: Data | None
    total_steps: int
    counted: Counted | None
    """Where `sel` was chosen from the data."""

    def portable(self) -> InputSettings:
        """The settings with paths that hold in any folder."""

        def moved(section: DataSettings | None) -> Any:
            if section is None:
                return None
            patterns = section.rglob_patterns or ()
            systems = tuple(absolute_path(path, self.base, patterns) for path in section.systems)
            return section.model_copy(update={"systems": systems})

        training, changes = self.settings.training, {}
        changes["training_data"] = moved(training.training_data)
        changes["validation_data"] = moved(training.validation_data)
        if training.stat_file is not None:
            changes["stat_file"] = str(((self.base or Path()) / training.stat_file).absolute())
        return self.settings.model_copy(update={"training": training.model_copy(update=changes)})


def resolve(
    settings: InputSettings,
    base: Path | None,
    *,
    origin: Origin | None = None,
    before: InputSettings | None = None,
    caches: Sequence[Path] = (),
) -> Resolved:
    """Choose everything that settings leave open.

    Args:
        settings: a whole input.
        base: folder that relative paths in the settings start from.
        origin: a trained model to start from.
        before: the settings of the restarted run, from which its own record is taken.
        caches: files of statistics of the same data, perhaps.

    Raises:
        InputError: data that are not there, cannot be read, or do not fit the settings.
    """
    settings = _with_absolute_table(settings, base)
    settings = _with_record(settings, origin) if before is None else _going_on(settings, before)
    data = open_data(settings.training.training_data, settings.model.type_map, base)
    check_labels(settings, data)
    section = settings.training.validation_data
    valid_data = None if section is None else open_data(section, settings.model.type_map, base)
    if valid_data is not None:
        check_names(settings, valid_data)
    counted = None
    if settings.model.descriptor.fixed_sel is None:
        if origin is None:
            counted = _count(settings, data, [*caches, *statistics_files(settings, base)])
        settings = _with_sel(settings, origin, counted)
    return Resolved(settings, base, data, valid_data, total_steps(settings.training, data), counted)


def _with_absolute_table(settings: InputSettings, base: Path | None) -> InputSettings:
    """The settings with the path of a short-range table that holds in any folder."""
    if settings.model.use_srtab is None:
        return settings
    path = ((base or Path()) / settings.model.use_srtab).absolute()
    return settings.model_copy(update={"model": settings.model.model_copy(update={"use_srtab": str(path)})})


def _with_record(settings: InputSettings, origin: Origin | None) -> InputSettings:
    """The settings of a new run: with a seed, and a record of what it starts from."""
    training, dpax = settings.training, settings.dpax.model_copy(update={"restarts": ()})
    if training.seed is None:
        training = training.model_copy(update={"seed": secrets.randbelow(2**31)})
    if origin is not None and dpax.started_from is None:
        dpax = dpax.model_copy(update={"started_from": StartedFromSettings(how=origin.how)})
    return settings.model_copy(update={"training": training, "dpax": dpax})


def _going_on(settings: InputSettings, before: InputSettings) -> InputSettings:
    """The settings of a restart with what belongs to the run: its seed, what it started from, its `sel`."""
    model = settings.model.model_copy(update={"finetune_head": before.model.finetune_head})
    if model.descriptor.fixed_sel is None:
        descriptor = model.descriptor.model_copy(update={"sel": before.model.descriptor.sel})
        model = model.model_copy(update={"descriptor": descriptor})
    record = {"started_from": before.dpax.started_from, "restarts": before.dpax.restarts}
    return settings.model_copy(
        update={
            "model": model,
            "training": settings.training.model_copy(update={"seed": before.training.seed}),
            "dpax": settings.dpax.model_copy(update=record),
        }
    )


def _count(settings: InputSettings, data: Data, caches: Sequence[Path]) -> Counted:
    """The most neighbours in all frames, counted unless a file of statistics knows them."""
    rcut = settings.model.descriptor.rcut
    name = fingerprint({"rcut": rcut, "systems": [system_files(system) for system in data.systems]})
    known = next((count for path in caches if (count := read_count(path, name)) is not None), None)
    if known is not None:
        return Counted(known, name)
    neighbors = NeighborStatistics(len(settings.model.type_map), rcut)
    for system in data.systems:
        neighbors.add_system(system)
    return Counted(neighbors.max_neighbors, name)


def _with_sel(settings: InputSettings, origin: Origin | None, counted: Counted | None) -> InputSettings:
    """The settings with `sel` as a number: that of the trained model, or by the rule from the data."""
    descriptor = settings.model.descriptor
    if origin is not None:
        sel = origin.sel
    else:
        assert counted is not None
        sel = automatic_sel(counted.neighbors, str(descriptor.sel))
    model = settings.model.model_copy(update={"descriptor": descriptor.model_copy(update={"sel": sel})})
    return settings.model_copy(update={"model": model})
