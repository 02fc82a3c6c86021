"""`dpax inspect`: what is in a model file."""

from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from dpax.cli.start import Branch, load_potential

if TYPE_CHECKING:
    import numpy as np

    from dpax.model.energy_model import EnergyModel


def inspect(
    model: Annotated[Path, typer.Argument(help="Model file of any kind.")], branch: Branch = None
) -> None:
    """Show a model file: format, settings, elements, number of parameters, statistics, provenance."""
    potential = load_potential(model, 1, branch)
    _heading(f"{model}: {_format(model)}")
    typer.echo(f"elements: {' '.join(potential.type_map)}")
    for heading, part in _settings(potential.model):
        _heading(heading)
        for key, value in plain_values(part):
            typer.echo(f"{key}: {value}")
    _heading("parameters")
    counts = potential.model.parameter_counts()
    for part, count in counts.items():
        typer.echo(f"{part}: {count}")
    typer.echo(f"all: {sum(counts.values())}")
    _heading("statistics")
    _print_statistics(potential.model)
    _heading("provenance")
    for key, value in flattened(potential.provenance):
        typer.echo(f"{key}: {value}")


def _settings(model: "EnergyModel") -> Iterator[tuple[str, Mapping[str, Any]]]:
    """What each part of a model is called here, and its settings."""
    tree = model.spec.model_dump(mode="json")
    yield "descriptor", tree["descriptor"]
    yield "fitting net", tree["fitting"]
    if tree["short_range"] is not None:
        yield "short-range table", tree["short_range"]


def _format(path: Path) -> str:
    from dpax.deepmd.model_files import is_foreign
    from dpax.model.file import read_header

    if is_foreign(path):
        return f"model file of DeePMD-kit, {path.suffix}"
    header = read_header(path)
    digest = "no digest" if header.digest is None else "digest as it should be"
    return f"dpax model file, format {header.version}, {digest}"


def _heading(text: str) -> None:
    typer.echo(typer.style(f"\n{text}", bold=True))


def plain_values(part: Mapping[str, Any]) -> Iterator[tuple[str, Any]]:
    """The settings of a serialised part: neither arrays nor inner parts nor what is not set."""
    for key, value in part.items():
        if (
            not key.startswith("@")
            and key != "type_map"
            and value is not None
            and not isinstance(value, dict)
        ):
            yield key, value


def _print_statistics(model: "EnergyModel") -> None:
    from rich.table import Table

    from dpax.cli.console import PlainConsole

    # All neighbour slots of a type have the same statistics; the angular columns share mean and deviation.
    mean, deviation = (_first_slot(model, name) for name in ("mean", "stddev"))
    table = Table("element", "energy bias / eV", "mean", "deviation: radial", "angular")
    for column in range(1, 5):
        table.columns[column].justify = "right"
    for number, element in enumerate(model.type_map):
        numbers = (mean[number, 0], deviation[number, 0], deviation[number, 1])
        table.add_row(element, f"{model.bias[number]:.6f}", *(f"{value:.6g}" for value in numbers))
    PlainConsole().print(table)


def _first_slot(model: "EnergyModel", name: str) -> "np.ndarray":
    import numpy as np

    return np.asarray(model.arrays[f"descriptor/{name}"])[:, 0]


def flattened(tree: Mapping[str, Any], path: str = "") -> Iterator[tuple[str, Any]]:
    """The values of nested dictionaries with their dotted paths."""
    for key, value in tree.items():
        if isinstance(value, Mapping) and value:
            yield from flattened(value, f"{path}{key}.")
        else:
            yield f"{path}{key}", value
