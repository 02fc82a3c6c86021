"""`dpax test`: the errors of a model on labelled data."""

import json
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from dpax.cli.outputs import refuse_inputs
from dpax.cli.sources import (
    KeepUnconvergedOption,
    KeysOption,
    ListOption,
    SetPrefixOption,
    SystemOption,
    data_of_input,
    listed_systems,
    no_set_prefix,
    only_one,
    reading,
    report_unread,
)
from dpax.cli.start import Branch, Devices, load_potential
from dpax.errors import WRONG_CONTENTS, InputError
from dpax.files import check_output, write_json

if TYPE_CHECKING:
    from dpax.data import Reading, SystemErrors


def compare(
    model: Annotated[Path, typer.Option("--model", "-m", help="Model file.")],
    system: SystemOption = None,
    datafile: ListOption = None,
    train_data: Annotated[
        Path | None, typer.Option("--train-data", help="Instead of -s: input file; its training data.")
    ] = None,
    valid_data: Annotated[
        Path | None, typer.Option("--valid-data", help="Instead of -s: input file; its validation data.")
    ] = None,
    frames: Annotated[
        int, typer.Option("--numb-test", "--frames", "-n", min=0, help="Frames per system; 0: all.")
    ] = 0,
    shuffle: Annotated[
        bool, typer.Option("--shuffle-test", help="Take the frames of a system in random order.")
    ] = False,
    seed: Annotated[
        int | None,
        typer.Option("--rand-seed", "-r", min=0, help="Seed of that order."),
    ] = None,
    atomic: Annotated[
        bool, typer.Option("--atomic", "-a", help="Also compare atomic energies; all data need them.")
    ] = False,
    hessian: Annotated[
        bool, typer.Option("--hessian", help="Also compare Hessians, where the data have them.")
    ] = False,
    detail: Annotated[
        str | None,
        typer.Option(
            "--detail-file",
            "--detail",
            "-d",
            help="Write labels and predictions to PREFIX.e.out, .f.out, …",
        ),
    ] = None,
    keys: KeysOption = None,
    keep_unconverged: KeepUnconvergedOption = False,
    json_file: Annotated[Path | None, typer.Option("--json", help="Write the errors to this file.")] = None,
    set_prefix: SetPrefixOption = None,
    branch: Branch = None,
    devices: Devices = None,
) -> None:
    """Compare a model with labelled data: MAE and RMSE of energies, forces and virials."""
    import numpy as np

    from dpax.data import SystemErrors, open_systems
    from dpax.infer import compare_frames
    from dpax.report.details import DetailFiles

    no_set_prefix(set_prefix)
    only_one(system=system, datafile=datafile, train_data=train_data, valid_data=valid_data)
    if json_file is not None:
        check_output(json_file, overwrite=True)
    paths, base, patterns, how = _named_data(system, datafile, train_data, valid_data)
    if keys or keep_unconverged:
        options = reading(keys, keep_unconverged)
        how = options if how is None else how.with_options(options)
    potential = load_potential(model, devices, branch)
    systems = open_systems(paths, potential.type_map, base, patterns, how)
    if json_file is not None:
        lists = (path for path in (datafile, train_data, valid_data) if path is not None)
        refuse_inputs(json_file, model, *lists, *(opened.path for opened in systems))
        if json_file.is_file() and not _is_report(json_file):
            raise InputError(f"{json_file} exists and is not a report of dpax test; give another name")
    rng = np.random.default_rng(seed)
    errors, counts = SystemErrors(), {}
    with DetailFiles(detail) as details:
        for opened in systems:
            report_unread(opened, opened.labels)
            order = rng.permutation(len(opened)) if shuffle else np.arange(len(opened))
            order = order[: frames or len(opened)]
            counts[opened.name] = len(order)
            for compared in compare_frames(potential, opened, order, atomic=atomic, hessian=hessian):
                details.add(opened.name, compared)
                for error, label, prediction, weights in compared:
                    errors[opened.name].update(error, label, prediction, weights)
    _print_tables(errors, counts)
    if json_file is not None:
        report = {name: {"frames": counts[name]} | errors[name].report() for name in errors}
        report["all"] = {"frames": sum(counts.values())} | errors.total().report()
        write_json(json_file, report)


def _is_report(path: Path) -> bool:
    try:
        return "frames" in json.loads(path.read_text(encoding="utf-8"))["all"]
    except (OSError, *WRONG_CONTENTS):
        return False


def _named_data(
    system: list[str] | None, datafile: Path | None, train_data: Path | None, valid_data: Path | None
) -> tuple[list[str], Path | None, tuple[str, ...], "Reading | None"]:
    """The paths of the data, the folder from which they start, the patterns that choose among them, and how
    they are read."""
    if datafile is not None:
        return listed_systems(datafile), None, (), None
    for path, section in ((train_data, "training_data"), (valid_data, "validation_data")):
        if path is not None:
            data = data_of_input(path, section)
            return list(data.systems), path.absolute().parent, data.rglob_patterns or (), data.reading
    return system or ["."], None, (), None


def _print_tables(errors: "SystemErrors", counts: dict[str, int]) -> None:
    from rich.box import SIMPLE
    from rich.table import Table

    from dpax.cli.console import PlainConsole
    from dpax.data.quantities import ERRORS

    console = PlainConsole()
    rows = {name: (counts[name], errors[name]) for name in errors}
    for name, (count, totals) in {**rows, "all": (sum(counts.values()), errors.total())}.items():
        console.print(f"{name}: {count} frame{'s' * (count != 1)}", style="bold", soft_wrap=True)
        table = Table("quantity", "unit", "MAE", "RMSE", box=SIMPLE)
        table.columns[2].justify = table.columns[3].justify = "right"
        for quantity, rmse in totals.rmse.items():
            kind = ERRORS[quantity]
            table.add_row(kind.title, kind.unit, f"{totals.mae[quantity]:.6g}", f"{rmse:.6g}")
        console.print(table)
