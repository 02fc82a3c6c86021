"""A survey of all frames of the data: their contents, and what would spoil a training run."""

from collections import Counter
from dataclasses import dataclass, field
from pathlib import Path

from dpax.data import Frame, NeighborStatistics, ParameterWidths, System, open_systems
from dpax.data.quantities import LABELS
from dpax.errors import InputError
from dpax.train.checks import Seen, data_warnings, label_warnings, sel_warnings
from dpax.train.data_settings import DataSettings
from dpax.train.settings import InputSettings

_MOST_PROBLEMS = 3
"""Frames of a system, at most, of which problems are reported one by one."""


@dataclass
class SystemSurvey:
    """What was seen in a system."""

    system: System
    neighbors: NeighborStatistics
    frames: int = 0
    fewest_atoms: int = 0
    most_atoms: int = 0
    labels: Counter[str] = field(default_factory=Counter)
    """Number of frames that have each label."""
    types: set[int] = field(default_factory=set)
    """Of the atoms."""
    bad_frames: list[str] = field(default_factory=list)
    """Why frames cannot be used."""

    @property
    def seen(self) -> Seen:
        """What the checks of a training run ask for."""
        near = self.neighbors
        return Seen(
            frozenset(self.types), near.max_neighbors, near.crowded, near.min_distance, near.closest_in
        )

    @property
    def problems(self) -> list[str]:
        """Why the system cannot be used."""
        more = len(self.bad_frames) - _MOST_PROBLEMS
        rest = [f"{self.system.name}: the same or worse in {more} more frames"] if more > 0 else []
        return self.bad_frames[:_MOST_PROBLEMS] + rest

    def look(self, frame: Frame) -> None:
        """Count a frame.

        Raises:
            InputError: two of its atoms are at the same place.
        """
        n_atoms = len(frame.types)
        self.fewest_atoms = min(self.fewest_atoms or n_atoms, n_atoms)
        self.most_atoms = max(self.most_atoms, n_atoms)
        self.labels.update(name for name in LABELS if getattr(frame, name) is not None)
        self.types.update(map(int, frame.types))
        self.neighbors.add(frame)


@dataclass(frozen=True)
class Survey:
    """What was seen in the data of an input file."""

    settings: InputSettings
    training: list[SystemSurvey]
    validation: list[SystemSurvey]

    @property
    def systems(self) -> list[SystemSurvey]:
        """All of them."""
        return [*self.training, *self.validation]

    @property
    def problems(self) -> list[str]:
        """Why data cannot be used."""
        return [problem for system in self.systems for problem in system.problems]

    def warnings(self) -> list[str]:
        """What is suspicious in the data, or will not be used as expected."""
        texts = data_warnings(
            self.settings,
            [system.system for system in self.systems],
            [system.seen for system in self.training],
            [system.seen for system in self.validation],
        )
        for system in self.systems:
            usable = system.frames - len(system.bad_frames)
            texts += label_warnings(self.settings, system.system.name, usable, system.labels)
        return texts + sel_warnings(
            self.settings.model.descriptor.fixed_sel, [system.seen for system in self.systems]
        )


def survey(settings: InputSettings, base: Path) -> Survey:
    """Read every frame of the data of an input file once.

    Args:
        settings: a whole input.
        base: folder that relative paths in the settings start from.

    Raises:
        InputError: data that are not there, or cannot be opened.
    """
    model, net = settings.model, settings.model.fitting_net
    parameters = ParameterWidths(net.numb_fparam, net.numb_aparam, net.default_fparam)

    def look_at(section: DataSettings | None) -> list[SystemSurvey]:
        if section is None:
            return []
        patterns = section.rglob_patterns or ()
        systems = open_systems(section.systems, model.type_map, base, patterns, section.reading)
        return [survey_system(system, model.descriptor.rcut, parameters) for system in systems]

    return Survey(
        settings, look_at(settings.training.training_data), look_at(settings.training.validation_data)
    )


def survey_system(system: System, rcut: float, parameters: ParameterWidths) -> SystemSurvey:
    """Read every frame of a system once.

    Args:
        system: the data.
        rcut: cutoff radius within which neighbours are counted, Å.
        parameters: the frame and atomic parameters that the model takes.
    """
    result = SystemSurvey(system, NeighborStatistics(len(system.type_map), rcut), frames=len(system))
    for index in range(len(system)):
        try:
            frame = system.frame(index)
            parameters.of(frame)
            result.look(frame)
        except InputError as error:
            result.bad_frames.append(str(error))
    return result
