"""`dpax freeze`: a model file from a checkpoint of a run."""

from functools import partial
from pathlib import Path
from typing import Annotated

import typer

from dpax.cli.failures import say
from dpax.cli.outputs import refuse_inputs
from dpax.cli.start import start_jax
from dpax.computing import computing
from dpax.files import check_output


def freeze(
    run: Annotated[Path, typer.Argument(help="Folder of the run.")],
    output: Annotated[Path, typer.Option("--output", "-o", help="Model file to write (.dpax).")],
    step: Annotated[int | None, typer.Option(help="Step of the checkpoint; default: the last one.")] = None,
    ema: Annotated[
        bool, typer.Option("--ema", help="The moving average of the weights (training.enable_ema).")
    ] = False,
    overwrite: Annotated[bool, typer.Option("--overwrite", help="Replace the output if it exists.")] = False,
) -> None:
    """Write the model of any checkpoint of a run as a model file."""
    check_output(output, overwrite=overwrite)
    refuse_inputs(output, run / "input.json")
    start_jax(devices=1)
    from dpax.model.file import save_model
    from dpax.train.model_of_run import model_of_run
    from dpax.train.run import RunFolder

    folder = RunFolder(run)
    with computing(folder.read_settings().model.needs_x64):
        model, facts = model_of_run(folder, step, averaged=ema, warn=partial(say, "warning"))
        save_model(output, model, facts)
    typer.echo(f"{output}: the model of step {facts['step']}")
