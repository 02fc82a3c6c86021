"""`dpax freeze`: a model file from a checkpoint of a run."""

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from dpax.cli.failures import say
from dpax.cli.outputs import refuse_inputs
from dpax.cli.start import start_jax
from dpax.computing import computing
from dpax.errors import InputError

if TYPE_CHECKING:
    from dpax.model.energy_model import EnergyModel
    from dpax.train.run import RunFolder


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
    if output.exists() and not overwrite:
        raise InputError(f"{output} exists already; give another name, or --overwrite to replace it")
    if not output.absolute().parent.is_dir():
        raise InputError(f"{output}: the folder {output.parent} does not exist")
    refuse_inputs(output, run / "input.json")
    start_jax(devices=1)
    from dpax.model.file import save_model
    from dpax.train.run import RunFolder

    folder = RunFolder(run)
    with computing(folder.read_settings().model.needs_x64):
        model, facts = checkpointed_model(folder, step, averaged=ema)
        save_model(output, model, facts)
    typer.echo(f"{output}: the model of step {facts['step']}")


def checkpointed_model(
    folder: "RunFolder", step: int | None, *, averaged: bool = False
) -> "tuple[EnergyModel, dict[str, Any]]":
    """The model of a checkpoint, and where it comes from.

    Args:
        folder: of the run.
        step: of the checkpoint; None takes the last one that is not damaged.
        averaged: the moving average of its weights.

    Raises:
        InputError: no run, or no such checkpoint.
    """
    from dpax.model.energy_model import initial_model, spec_of
    from dpax.train.checkpoints import Checkpoints, restored_model
    from dpax.train.setup import Data, provenance

    settings = folder.read_settings()
    if not folder.checkpoints.is_dir():
        raise InputError(
            f"{folder.path}: the run has no checkpoint yet; wait for one, or train with --restart"
        )
    with Checkpoints(folder.checkpoints, read_only=True) as checkpoints:
        checkpoint = checkpoints.latest(_warn) if step is None else checkpoints.restore(step)
    fresh = initial_model(spec_of(settings.model, checkpoint.meta["sel"]), seed=0)
    model = restored_model(fresh, checkpoint, averaged=averaged)
    facts = provenance(settings, Data([], []), checkpoint.meta["progress"]["step"], None)
    # The data may have moved since; its paths are in the input.
    del facts["trained_on"]
    return model, facts


def _warn(text: str) -> None:
    say("warning", text)
