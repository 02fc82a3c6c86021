"""`dpax test`: the errors of a model on labelled data."""

import json
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from dpax.cli.start import Devices, load_potential
from dpax.errors import InputError

if TYPE_CHECKING:
    from dpax.data import Frame, System
    from dpax.infer import Evaluation, Potential
    from dpax.report.details import DetailFiles
    from dpax.report.metrics import ErrorSums

_ATOMS_AT_ONCE = 4096


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
    from dpax.data import open_systems
    from dpax.report.details import DetailFiles
    from dpax.report.metrics import ErrorSums

    if json_file is not None and not json_file.absolute().parent.is_dir():
        raise InputError(f"--json {json_file}: the folder {json_file.parent} does not exist")
    potential = load_potential(model, devices)
    systems = open_systems(system, potential.type_map)
    overall, report = ErrorSums(), {}
    with DetailFiles(detail) as details:
        for one in systems:
            errors = _system_errors(potential, one, frames or len(one), details)
            overall.merge(errors)
            report[one.name] = errors
    report["all"] = overall
    _print_table(report)
    if json_file is not None:
        content = {name: errors.report() for name, errors in report.items()}
        json_file.write_text(json.dumps(content, indent=2) + "\n", encoding="utf-8")


def _system_errors(
    potential: "Potential", system: "System", frames: int, details: "DetailFiles"
) -> "ErrorSums":
    from dpax.report.metrics import ErrorSums

    errors = ErrorSums()
    batch: list[Frame] = []
    for index in range(min(frames, len(system))):
        batch.append(system.frame(index))
        if index + 1 == min(frames, len(system)) or sum(len(f.types) for f in batch) >= _ATOMS_AT_ONCE:
            for frame, evaluation in zip(batch, potential.evaluate(batch), strict=True):
                errors.add(differences(frame, evaluation))
                details.add(frame, evaluation)
            batch = []
    return errors


def differences(frame: "Frame", evaluation: "Evaluation") -> dict:
    """Prediction minus label of one frame, for what has a label, by the keys of `report.metrics`."""
    import numpy as np

    found, atoms = {}, len(frame.types)
    if frame.energy is not None:
        found["energy"] = np.asarray(evaluation.energy - frame.energy)
        found["energy_per_atom"] = found["energy"] / atoms
    if frame.forces is not None:
        found["force"] = evaluation.forces - frame.forces
    if frame.virial is not None:
        found["virial"] = evaluation.virial - frame.virial
        found["virial_per_atom"] = found["virial"] / atoms
    return found


def _print_table(report: "dict[str, ErrorSums]") -> None:
    from rich.console import Console
    from rich.table import Table

    from dpax.report.metrics import QUANTITIES

    table = Table("system", "frames", "quantity", "unit", "MAE", "RMSE")
    for column in (1, 4, 5):
        table.columns[column].justify = "right"
    for name, errors in report.items():
        for quantity in QUANTITIES:
            if errors.count(quantity.key):
                mae, rmse = errors.mae(quantity.key), errors.rmse(quantity.key)
                table.add_row(
                    name, str(errors.frames), quantity.title, quantity.unit, f"{mae:.6g}", f"{rmse:.6g}"
                )
        table.add_section()
    Console(highlight=False).print(table)
