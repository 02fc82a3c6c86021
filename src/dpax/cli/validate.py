"""`dpax validate`: everything about an input file and its data that can be known before training."""

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from dpax.cli.failures import say
from dpax.cli.start import Devices, start_jax
from dpax.errors import InputError

if TYPE_CHECKING:
    from dpax.cli.survey import Survey
    from dpax.train.probe import StepProbe
    from dpax.train.settings import InputSettings


def validate(
    input_file: Annotated[Path, typer.Argument(metavar="INPUT", help="Input file (.json, .yaml or .toml).")],
    time_step: Annotated[
        bool, typer.Option("--step/--no-step", help="Time one training step for an estimate.")
    ] = True,
    devices: Devices = None,
) -> None:
    """Check an input file and all of its data, and estimate time and memory, without training."""
    from dpax.cli.inputs import load_settings

    settings = load_settings(input_file)
    start_jax(devices)
    typer.echo(f"{input_file}: every key is known and every value makes sense")
    training, validation = _survey_all(settings, input_file.absolute().parent)
    print_surveys(training + validation)
    for warning in _warnings(settings, training, validation):
        say("warning", warning)
    problems = [problem for one in training + validation for problem in described_problems(one)]
    if problems:
        raise InputError("; ".join(problems))
    from dpax.train.probe import prepared, time_steps

    with prepared(settings, input_file.absolute().parent) as (run, batch):
        if time_step:
            _print_estimate(time_steps(run, batch))
    typer.echo("ready to train")


def _survey_all(settings: "InputSettings", base: Path) -> "tuple[list[Survey], list[Survey]]":
    from dpax.cli.survey import survey
    from dpax.data import ParameterWidths, open_systems

    rcut, type_map = settings.model.descriptor.rcut, settings.model.type_map
    parts = (settings.training.training_data, settings.training.validation_data)
    systems = [
        open_systems(part.systems, type_map, base, part.rglob_patterns or (), part.reading) if part else []
        for part in parts
    ]
    net = settings.model.fitting_net
    told = ParameterWidths(net.numb_fparam, net.numb_aparam, net.default_fparam)
    training, validation = ([survey(system, rcut, told) for system in part] for part in systems)
    return training, validation


def described_problems(one: "Survey") -> list[str]:
    """Why a system cannot be used."""
    more = one.bad_frames - len(one.problems)
    return one.problems + ([f"{one.name}: the same or worse in {more} more frames"] if more else [])


def _warnings(settings: "InputSettings", training: "list[Survey]", validation: "list[Survey]") -> list[str]:
    """What in the data is suspicious or will not be used as hoped."""
    from dpax.train.checks import data_warnings, label_warnings, sel_warnings

    surveys = [*training, *validation]
    texts = data_warnings(
        settings,
        [one.system for one in surveys],
        [one.seen for one in training],
        [one.seen for one in validation],
    )
    for one in surveys:
        texts += label_warnings(settings, one.name, one.frames - one.bad_frames, one.labels)
    return texts + sel_warnings(settings.model.descriptor.fixed_sel, [one.seen for one in surveys])


def print_surveys(surveys: "list[Survey]") -> None:
    """A table of what the data hold."""
    from rich.table import Table

    from dpax.cli.console import PlainConsole

    titles = ("system", "frames", "atoms", "labels", "neighbours max", "mean", "closest / Å")
    table = Table(*titles)
    table.columns[0].overflow = "fold"
    for column in (1, 2, 4, 5, 6):
        table.columns[column].justify = "right"
    for one in surveys:
        same = one.fewest_atoms == one.most_atoms
        atoms = f"{one.most_atoms}" if same else f"{one.fewest_atoms}-{one.most_atoms}"
        labels = ", ".join(one.labels) or "none"
        numbers = (f"{one.most_neighbors}", f"{one.mean_neighbors:.1f}", f"{one.closest:.3f}")
        table.add_row(one.name, f"{one.frames}", atoms, labels, *numbers)
    PlainConsole().print(table)


def _print_estimate(probe: "StepProbe") -> None:
    from dpax.cli.progress import duration

    whole = probe.seconds_compile + probe.seconds_step * probe.total_steps
    typer.echo(
        f"one step: {probe.seconds_step:.3g} s for {probe.n_atoms} atoms of {probe.n_slots} slots, after "
        f"{probe.seconds_compile:.0f} s of compilation; memory {probe.peak_memory_bytes / 2**30:.2f} GiB; "
        f"{probe.total_steps} steps take about {duration(whole)}, validation not included"
    )
