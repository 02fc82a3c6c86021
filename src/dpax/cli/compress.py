"""`dpax compress`: tables replace the embedding nets of a trained model."""

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from dpax.cli.outputs import refuse_inputs
from dpax.cli.sources import data_of_input
from dpax.cli.start import Branch, start_jax
from dpax.errors import InputError
from dpax.files import check_output

if TYPE_CHECKING:
    from dpax.interfaces.compression import Compressed


def compress(
    model: Annotated[Path, typer.Argument(help="Model file of any kind.")],
    output: Annotated[Path, typer.Option("--output", "-o", help="Model file to write: .dpax, .dp or .yaml.")],
    training_script: Annotated[
        Path | None,
        typer.Option(
            "--training-script", "-t", help="Input file whose data give the smallest distance between atoms."
        ),
    ] = None,
    min_distance: Annotated[
        float | None,
        typer.Option(help="Smallest distance between atoms in the data, Å. Default: what the model says."),
    ] = None,
    stride: Annotated[
        float,
        typer.Option("--stride", "--step", "-s", help="Distance of the knots in the data's range."),
    ] = 0.01,
    extrapolate: Annotated[
        float,
        typer.Option("--extrapolate", "-e", help="The table ends at this multiple of the data's upper end."),
    ] = 5,
    error: Annotated[
        float | None,
        typer.Option(
            help="Largest deviation of the table, energies (eV/atom), forces (eV/Å) and virials (eV/atom). "
            "Default: 1e-8 for models in float64, else 1e-3."
        ),
    ] = None,
    branch: Branch = None,
    overwrite: Annotated[bool, typer.Option("--overwrite", help="Replace the output if it exists.")] = False,
) -> None:
    """Tabulate the radial net of a model in strip mode without attention: faster, and as exact as asked.

    The table is compared with the net, and the model with what it was; nothing is written if they differ.
    With attention layers the type pairs alone are tabulated, which dpax always does for itself.
    """
    check_output(output, overwrite=overwrite)
    refuse_inputs(output, model, *([training_script] if training_script is not None else []))
    if training_script is not None and min_distance is not None:
        raise InputError("--training-script and --min-distance both set the smallest distance; keep one")
    start_jax(devices=1)
    from dpax.interfaces.compression import compress as compress_file

    if training_script is not None:
        min_distance = _distance_in(training_script, model, branch)
        typer.echo(f"min_nbor_dist: {min_distance:f}")
    result = compress_file(
        model, output, min_distance, stride=stride, extrapolate=extrapolate, bound=error, branch=branch
    )
    typer.echo(f"{output}: written; {_described(result)}it agrees with {model}: {result.agreement}")


def _distance_in(path: Path, model: Path, branch: str | None) -> float:
    """The smallest distance in the training data of an input file, Å."""
    from dpax.data import NeighborStatistics, open_systems
    from dpax.interfaces.model_files import open_model

    potential, _ = open_model(model, branch)
    data = data_of_input(path, "training_data")
    statistics = NeighborStatistics(len(potential.type_map), potential.rcut)
    folder, patterns = path.absolute().parent, data.rglob_patterns or ()
    for system in open_systems(list(data.systems), potential.type_map, folder, patterns, data.reading):
        statistics.add_system(system)
    if statistics.min_distance == float("inf"):
        raise InputError(f"{path}: no atom of its data has a neighbour within {potential.rcut:g} Å")
    return statistics.min_distance


def _described(result: "Compressed") -> str:
    if result.table is None or result.knots is None:
        return "a table of type pairs, which dpax always uses; "
    knots, error = result.knots, result.table
    return (
        f"a table of {result.rows} rows from {knots.lower:g} over {knots.upper:g}, where the data end, to "
        f"{knots.top:g}; it deviates from the net by {error.within:.1e} up to there and {error.beyond:.1e} "
        "beyond; "
    )
