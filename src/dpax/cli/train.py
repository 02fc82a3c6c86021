"""`dpax train`: learn a model from data."""

from pathlib import Path
from typing import Annotated

import typer

from dpax.cli.failures import guarded
from dpax.cli.start import Devices, start_jax


def train(
    input_file: Annotated[Path, typer.Argument(metavar="INPUT", help="Input file (.json, .yaml or .toml).")],
    output: Annotated[Path, typer.Option("--output", "-o", help="Folder of the run.")],
    restart: Annotated[bool, typer.Option("--restart", help="Go on from the run's last checkpoint.")] = False,
    overwrite: Annotated[bool, typer.Option("--overwrite", help="Replace a run that is there.")] = False,
    devices: Devices = None,
) -> None:
    """Train a model; Ctrl-C stops after a checkpoint, and --restart goes on from it.

    The exit code after Ctrl-C is 130, after SIGTERM 143, as shells have it.
    """
    from dpax.cli.inputs import load_settings
    from dpax.cli.progress import TrainReporter

    settings = load_settings(input_file)
    start_jax(devices)
    from dpax.train.loop import train as run_training

    with guarded(output):
        result = run_training(
            settings,
            output,
            base=input_file.absolute().parent,
            restart=restart,
            overwrite=overwrite,
            reporter=TrainReporter(),
        )
    if result.signal is not None:
        raise typer.Exit(128 + result.signal)
