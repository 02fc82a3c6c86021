"""`dpax test`: the errors of a model on labelled data."""

import json
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from dpax.cli.start import Devices, load_potential
from dpax.errors import InputError

if TYPE_CHECKING:
    from dpax.data import Errors, Frame, System, SystemErrors
    from dpax.infer import Evaluation

_ATOMS_AT_ONCE = 4096
_KEYS = {
    "energy": ("energy", "ev"),
    "energy_per_atom": ("energy_per_atom", "ev"),
    "forces": ("force", "ev_per_angstrom"),
    "virial": ("virial", "ev"),
    "virial_per_atom": ("virial_per_atom", "ev"),
}
"""Of each quantity, the beginning and the end of its keys in the JSON report."""
_TITLES = {"forces": "force component", "virial": "virial component", "virial_per_atom": "virial per atom"}


def compare(
    model: Annotated[Path, typer.Option("--model", "-m", help="Model file.")],
    system: Annotated[
        list[str], typer.Option("--system", "-s", help="System or folder of systems; repeatable.")
    ],
    detail: Annotated[
        str | None,
        typer.Option("--detail", "-d", help="Write labels and predictions to PREFIX.e.out, PREFIX.f.out, …"),
    ] = None,
    json_file: Annotated[Path | None, typer.Option("--json", help="Write the errors to this file.")] = None,
    frames: Annotated[int, typer.Option("--frames", "-n", min=0, help="Frames per system; 0: all.")] = 0,
    devices: Devices = None,
) -> None:
    """Compare a model with labelled data: MAE and RMSE of energies, forces and virials."""
    from dpax.data import SystemErrors, open_systems
    from dpax.report.details import DetailFiles

    if json_file is not None and not json_file.absolute().parent.is_dir():
        raise InputError(f"--json {json_file}: the folder {json_file.parent} does not exist")
    potential = load_potential(model, devices)
    systems = open_systems(system, potential.type_map)
    errors, counts = SystemErrors(), {}
    with DetailFiles(detail) as details:
        for one in systems:
            counts[one.name] = min(frames or len(one), len(one))
            for group in _groups(one, counts[one.name]):
                for frame, evaluation in zip(group, potential.evaluate(group), strict=True):
                    _add(errors[one.name], frame, evaluation)
                    details.add(frame, evaluation)
    _print_tables(errors, counts)
    if json_file is not None:
        report = {name: {"frames": counts[name]} | flat(errors[name]) for name in errors}
        report["all"] = {"frames": sum(counts.values())} | flat(errors.total())
        json_file.write_text(json.dumps(report, indent=2) + "\n", encoding="utf-8")


def _groups(system: "System", frames: int) -> Iterator[list["Frame"]]:
    """The first frames of a system, as many at a time as are worth evaluating together."""
    group: list[Frame] = []
    for index in range(frames):
        group.append(system.frame(index))
        if sum(len(frame.types) for frame in group) >= _ATOMS_AT_ONCE:
            yield group
            group = []
    if group:
        yield group


def _add(errors: "Errors", frame: "Frame", evaluation: "Evaluation") -> None:
    for quantity in ("energy", "forces", "virial"):
        label = getattr(frame, quantity)
        if label is not None:
            errors.update(quantity, label, getattr(evaluation, quantity), len(frame.types))


def flat(errors: "Errors") -> dict[str, float]:
    """MAE and RMSE of every quantity that was compared, with units in the keys."""
    found = {}
    for quantity, (stem, unit) in _KEYS.items():
        for kind, values in (("mae", errors.mae), ("rmse", errors.rmse)):
            if quantity in values:
                found[f"{stem}_{kind}_{unit}"] = values[quantity]
    return found


def _print_tables(errors: "SystemErrors", counts: dict[str, int]) -> None:
    from rich.box import SIMPLE
    from rich.console import Console
    from rich.table import Table

    from dpax.data.metrics import UNITS

    console = Console(highlight=False)
    rows = {name: (counts[name], errors[name]) for name in errors}
    for name, (count, found) in {**rows, "all": (sum(counts.values()), errors.total())}.items():
        console.print(
            f"{name}: {count} frame{'s' * (count != 1)}", style="bold", markup=False, soft_wrap=True
        )
        table = Table("quantity", "unit", "MAE", "RMSE", box=SIMPLE)
        table.columns[2].justify = table.columns[3].justify = "right"
        for quantity, rmse in found.rmse.items():
            title = _TITLES.get(quantity, quantity.replace("_", " "))
            table.add_row(title, UNITS[quantity], f"{found.mae[quantity]:.6g}", f"{rmse:.6g}")
        console.print(table)
