"""`dpax model-devi`: how much several models disagree, or how wrong they are, frame by frame."""

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, TextIO

import typer

from dpax.cli.outputs import refuse_inputs
from dpax.cli.sources import (
    KeepUnconvergedOption,
    KeysOption,
    SetPrefixOption,
    SystemOption,
    no_set_prefix,
    reading,
)
from dpax.cli.start import Branch, Devices, start_jax
from dpax.errors import InputError
from dpax.files import check_output, replacing

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from dpax.data import Frame, System
    from dpax.infer import Deviation, Evaluation, Potential

_COLUMNS = [f"{extent}_devi_{quantity}" for quantity in "vf" for extent in ("max", "min", "avg")] + ["devi_e"]


def model_devi(
    models: Annotated[
        list[Path],
        typer.Option("--models", "-m", help="Model files, two or more: -m A B C."),
    ],
    system: SystemOption = None,
    output: Annotated[Path, typer.Option("--output", "-o", help="File to write.")] = Path("model_devi.out"),
    frequency: Annotated[
        int, typer.Option("--frequency", "-f", min=1, help="Steps of the trajectory between two frames.")
    ] = 1,
    real_error: Annotated[
        bool,
        typer.Option("--real_error", "--real-error", help="Errors against the data's labels instead."),
    ] = False,
    atomic: Annotated[
        bool, typer.Option("--atomic", help="Write the deviation of each atom's force too.")
    ] = False,
    relative: Annotated[
        float | None,
        typer.Option(min=0, help="Level in eV/Å: deviations of forces relative to their size plus this."),
    ] = None,
    relative_v: Annotated[
        float | None,
        typer.Option(
            "--relative_v", "--relative-v", min=0, help="Level in eV: the same for virials, per atom."
        ),
    ] = None,
    keys: KeysOption = None,
    keep_unconverged: KeepUnconvergedOption = False,
    overwrite: Annotated[bool, typer.Option("--overwrite", help="Replace the output if it exists.")] = False,
    set_prefix: SetPrefixOption = None,
    branch: Branch = None,
    devices: Devices = None,
) -> None:
    """Model deviation: the disagreement of several models about the structures of systems.

    A line for each frame, as `dp model-devi` writes: its step; the largest, smallest and average deviation of
    the virial (eV per atom) and of the forces (eV/Å); and the deviation of the energy (eV per atom).
    """
    from dpax.data import open_systems
    from dpax.infer import model_deviation

    no_set_prefix(set_prefix)
    if len(models) < 2 and not real_error:
        raise InputError("one model alone has no deviation: give several after -m, or --real_error")
    check_output(output, overwrite=overwrite)
    potentials = _load_alike(models, devices, branch)
    how = reading(keys, keep_unconverged or not real_error)
    systems = open_systems(system or ["."], potentials[0].type_map, reading=how)
    refuse_inputs(output, *models, *(opened.path for opened in systems))
    with replacing(output) as partial, partial.open("w", encoding="utf-8", errors="backslashreplace") as file:
        for opened in systems:
            write_header(file, opened.name, atomic)
            for number, (frame, evaluations) in enumerate(_evaluated(potentials, opened)):
                labels = frame if real_error else None
                deviation = model_deviation(evaluations, labels, relative=relative, relative_v=relative_v)
                write_row(file, number * frequency, deviation, atomic)
    frames = sum(len(opened) for opened in systems)
    typer.echo(f"{frames} frame{'s' * (frames != 1)} compared: {output}")


def _load_alike(paths: "Sequence[Path]", devices: int | None, branch: str | None) -> "list[Potential]":
    """Several models that know the same elements in the same order."""
    start_jax(devices)
    from dpax.interfaces.model_files import load

    potentials = [load(path, branch=branch) for path in paths]
    for path, potential in zip(paths, potentials, strict=True):
        if potential.type_map != potentials[0].type_map:
            raise InputError(
                f"{path}: its elements are {' '.join(potential.type_map)}, those of {paths[0]} are "
                f"{' '.join(potentials[0].type_map)}; models to be compared need the same type_map"
            )
    return potentials


def _evaluated(
    potentials: "Sequence[Potential]", system: "System"
) -> "Iterator[tuple[Frame, list[Evaluation]]]":
    """The frames of a system, each with the evaluations of all models."""
    from dpax.infer import evaluate_with_all, frame_groups

    for group in frame_groups(system, range(len(system))):
        yield from evaluate_with_all(potentials, group)


def write_header(file: TextIO, system: str, atomic: bool) -> None:
    """Write the two lines that come before a system's numbers."""
    titles = [*_COLUMNS, *(["atm_devi_f(N)"] * atomic)]
    file.write(f"# {system}\n# {'step':10s}{''.join(f'{title:19s}' for title in titles)}\n")


def write_row(file: TextIO, step: int, deviation: "Deviation", atomic: bool) -> None:
    """Write the numbers of one frame."""
    numbers = "".join(f"{value:19.6e}" for value in deviation.row(atomic=atomic))
    file.write(f"{step:12d}{numbers}\n")
