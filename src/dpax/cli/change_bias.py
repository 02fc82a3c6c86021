"""`dpax change-bias`: the energy bias of a model, adjusted to data or given."""

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Literal

import typer

from dpax.cli.outputs import refuse_inputs
from dpax.cli.sources import (
    KeepUnconvergedOption,
    KeysOption,
    ListOption,
    SystemOption,
    listed_systems,
    only_one,
    reading,
)
from dpax.cli.start import Devices, start_jax
from dpax.errors import InputError
from dpax.files import check_output

if TYPE_CHECKING:
    from collections.abc import Sequence

    import numpy as np

    from dpax.data import System
    from dpax.model.energy_model import EnergyModel


def change_bias(
    model: Annotated[Path, typer.Argument(help="Model file in any format, or folder of a run.")],
    system: SystemOption = None,
    datafile: ListOption = None,
    bias_value: Annotated[
        list[float] | None,
        typer.Option(
            "--bias-value", "-b", help="Instead of data: the bias of each type, eV: -b -93.6 -187.1"
        ),
    ] = None,
    mode: Annotated[
        Literal["change", "set"],
        typer.Option("--mode", "-m", help="Fit the errors of the model (change), or the energies (set)."),
    ] = "change",
    numb_batch: Annotated[
        int, typer.Option("--numb-batch", "-n", min=0, help="Frames of each system; 0: all.")
    ] = 0,
    output: Annotated[
        Path | None,
        typer.Option("--output", "-o", help="Model file to write. Default: MODEL_updated.dpax."),
    ] = None,
    model_branch: Annotated[
        str | None, typer.Option("--model-branch", help="Branch of a multi-task model.")
    ] = None,
    keys: KeysOption = None,
    keep_unconverged: KeepUnconvergedOption = False,
    overwrite: Annotated[bool, typer.Option("--overwrite", help="Replace the output if it exists.")] = False,
    devices: Devices = None,
) -> None:
    """Change the energy bias of a model's types by a least-squares fit to labelled data."""
    only_one(system=system, datafile=datafile, bias_value=bias_value)
    if output is None:
        whole = model if model.name else model.absolute()
        output = whole.with_name(f"{whole.stem}_updated.dpax")
    check_output(output, overwrite=overwrite)
    refuse_inputs(output, model, *([datafile] if datafile is not None else []))
    start_jax(devices)
    from dpax.cli.trained_model import read_trained_model
    from dpax.data import open_systems
    from dpax.interfaces.model_files import write_model

    trained, facts = read_trained_model(model, model_branch)
    if bias_value:
        bias, how = _given(trained, bias_value), "given"
    else:
        paths = (system or ["."]) if datafile is None else listed_systems(datafile)
        systems = open_systems(paths, trained.type_map, reading=reading(keys, keep_unconverged))
        refuse_inputs(output, *(opened.path for opened in systems))
        bias, how = _fitted(trained, systems, mode, numb_batch), mode
    changed = trained.with_bias(bias)
    write_model(output, changed, {**facts, "bias_changed": {"mode": how, "from": list(trained.bias)}})
    for element, old, new in zip(trained.type_map, trained.bias, changed.bias, strict=True):
        typer.echo(f"{element}: {old:.6f} eV -> {new:.6f} eV")
    typer.echo(f"{output}: written")


def _given(model: "EnergyModel", values: "Sequence[float]") -> "np.ndarray":
    import numpy as np

    if len(values) != len(model.type_map):
        raise InputError(
            f"--bias-value: got {len(values)} numbers; the model has the types {' '.join(model.type_map)}"
        )
    return np.array(values)


def _fitted(
    model: "EnergyModel", systems: "Sequence[System]", mode: Literal["change", "set"], frames: int
) -> "np.ndarray":
    from dpax.model.blocks import make_mesh
    from dpax.train.bias import adjusted_bias
    from dpax.train.statistics import sampled_frames

    most = frames or max(map(len, systems))
    return adjusted_bias(model, sampled_frames(systems, [1] * len(systems), most), mode, make_mesh())
