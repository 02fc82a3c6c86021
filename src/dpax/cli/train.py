"""`dpax train`: train a model on data."""

from functools import partial
from pathlib import Path
from typing import Annotated

import typer

from dpax.cli.failures import guarded
from dpax.cli.start import Devices, start_jax
from dpax.cli.trained_model import Start, continued, recorded_start
from dpax.errors import InputError


def train(
    input_file: Annotated[Path, typer.Argument(metavar="INPUT", help="Input file (.json, .yaml or .toml).")],
    output: Annotated[Path, typer.Option("--output", "-o", help="Folder of the run.")],
    restart: Annotated[
        bool, typer.Option("--restart", help="Continue from the run's last checkpoint.")
    ] = False,
    allow_changes: Annotated[
        bool,
        typer.Option(
            "--allow-changes",
            help="With --restart: continue even with other data, learning rate, loss and so on.",
        ),
    ] = False,
    init_model: Annotated[
        Path | None,
        typer.Option(
            "--init-model",
            "-i",
            "--init-frz-model",
            "-f",
            metavar="MODEL",
            help="Start from the weights of this model: a file in any format, or a run.",
        ),
    ] = None,
    finetune: Annotated[
        Path | None,
        typer.Option(
            "--finetune",
            "-t",
            metavar="MODEL",
            help="Start from this model with its types and its energy bias adjusted to the new data.",
        ),
    ] = None,
    model_branch: Annotated[
        str | None,
        typer.Option(
            help="Branch of a multi-task model; with --finetune also RANDOM, for a new fitting net."
        ),
    ] = None,
    use_pretrain_script: Annotated[
        bool,
        typer.Option(
            "--use-pretrain-script", help="Take descriptor and fitting_net from the model, not from INPUT."
        ),
    ] = False,
    overwrite: Annotated[bool, typer.Option("--overwrite", help="Replace an existing run.")] = False,
    skip_neighbor_stat: Annotated[
        bool,
        typer.Option(
            "--skip-neighbor-stat",
            help="Do not count neighbours before training; sel must then be a number.",
        ),
    ] = False,
    devices: Devices = None,
) -> None:
    """Train a model; Ctrl-C stops after a checkpoint, and --restart continues from it.

    The exit code after Ctrl-C is 130, after SIGTERM 143, after SIGHUP 129, as shells have it.
    """
    from dpax.cli.inputs import load_settings
    from dpax.cli.progress import TrainReporter
    from dpax.input_file import read_input

    start = _start(restart, init_model, finetune, model_branch, use_pretrain_script)
    if overwrite and not restart:
        _check_inputs(output, input_file)
    if start is None and not restart:
        start = recorded_start(read_input(input_file))
    if overwrite and start is not None:
        _check_inputs(output, start.path)
    if start is not None:
        start_jax(devices)
        settings = load_settings(input_file, start.change)
    else:
        settings = load_settings(input_file, partial(continued, output) if restart else None)
        start_jax(devices)
    from dpax.train.loop import train as run_training

    counted = settings.model.descriptor.fixed_sel is None and start is None
    if skip_neighbor_stat and counted:
        raise InputError(
            f'{input_file}: model.descriptor.sel: "{settings.model.descriptor.sel}" is found by counting '
            "neighbours, which --skip-neighbor-stat forbids; give a number"
        )
    with guarded(output):
        result = run_training(
            settings,
            output,
            base=input_file.absolute().parent,
            restart=restart,
            allow_changes=allow_changes,
            overwrite=overwrite,
            init_model=start.model if start is not None and start.how == "init-model" else None,
            finetune=start.model if start is not None and start.how == "finetune" else None,
            reporter=TrainReporter(),
        )
    if result.signal is not None:
        raise typer.Exit(128 + result.signal)


def _check_inputs(output: Path, path: Path) -> None:
    """Refuse a new run that would remove its own inputs.

    Raises:
        InputError: the input file or the trained model is a file of the run that lies there.
    """
    from dpax.train.run import RunFolder

    if RunFolder(output).owns(path):
        raise InputError(f"{path} belongs to the run {output}, which would be replaced; give another -o")


def _start(
    restart: bool, init_model: Path | None, finetune: Path | None, branch: str | None, whole: bool
) -> Start | None:
    """The starting model that the options name; None with random weights or in a restart.

    Raises:
        InputError: options that exclude each other, or that would have no effect.
    """
    ways = {"--restart": restart, "--init-model": init_model, "--finetune": finetune}
    chosen = [name for name, value in ways.items() if value]
    if len(chosen) > 1:
        raise InputError(f"{' and '.join(chosen)} each set the starting model; keep one of them")
    if finetune is not None:
        return Start("finetune", finetune, branch, whole)
    if init_model is not None:
        return Start("init-model", init_model, branch, whole)
    if branch is not None or (whole and not restart):
        option = "--use-pretrain-script" if branch is None else "--model-branch"
        raise InputError(f"{option} needs a trained model: give --finetune MODEL or --init-model MODEL too")
    return None
