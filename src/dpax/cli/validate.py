"""`dpax validate`: everything that can be checked in an input file and its data before training."""

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from dpax.cli.failures import say
from dpax.cli.start import Devices, start_jax
from dpax.errors import InputError

if TYPE_CHECKING:
    from dpax.train.probe import StepProbe
    from dpax.train.survey import Survey


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
    from dpax.train.survey import survey

    data = survey(settings, input_file.absolute().parent)
    _print_survey(data)
    for warning in data.warnings():
        say("warning", warning)
    if data.problems:
        raise InputError("; ".join(data.problems))
    from dpax.train.probe import prepared, time_steps

    with prepared(settings, input_file.absolute().parent) as (run, batch):
        if time_step:
            _print_estimate(time_steps(run, batch))
    typer.echo("ready to train")


def _print_survey(data: "Survey") -> None:
    """A table of what the data hold."""
    from rich.table import Table

    from dpax.cli.console import PlainConsole

    titles = ("system", "frames", "atoms", "labels", "neighbours max", "mean", "closest / Å")
    table = Table(*titles)
    table.columns[0].overflow = "fold"
    for column in (1, 2, 4, 5, 6):
        table.columns[column].justify = "right"
    for seen in data.systems:
        same, near = seen.fewest_atoms == seen.most_atoms, seen.neighbors
        atoms = f"{seen.most_atoms}" if same else f"{seen.fewest_atoms}-{seen.most_atoms}"
        labels = ", ".join(seen.labels) or "none"
        numbers = (f"{near.max_neighbors}", f"{near.mean_neighbors:.1f}", f"{near.min_distance:.3f}")
        table.add_row(seen.system.name, f"{seen.frames}", atoms, labels, *numbers)
    PlainConsole().print(table)


def _print_estimate(probe: "StepProbe") -> None:
    from dpax.cli.progress import duration

    whole = probe.seconds_compile + probe.seconds_step * probe.total_steps
    typer.echo(
        f"one step: {probe.seconds_step:.3g} s for {probe.n_atoms} atoms of {probe.n_slots} slots, after "
        f"{probe.seconds_compile:.0f} s of compilation; memory {probe.peak_memory_bytes / 2**30:.2f} GiB; "
        f"{probe.total_steps} steps take about {duration(whole)}, validation not included"
    )
