"""`dpax convert-data`: data from one format to another."""

from collections.abc import Sequence
from enum import StrEnum
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from dpax.cli.sources import KeepUnconvergedOption, KeysOption, TypeMapOption, reading, report_unread
from dpax.errors import InputError
from dpax.files import check_output, replacing

if TYPE_CHECKING:
    from dpax.data import Frame, Reading

_SUFFIXES = {".h5": "hdf5", ".hdf5": "hdf5", ".xyz": "extxyz", ".extxyz": "extxyz", "": "npy"}


class Format(StrEnum):
    """What can be written."""

    npy = "npy"
    mixed = "mixed"
    hdf5 = "hdf5"
    extxyz = "extxyz"


def convert_data(
    inputs: Annotated[list[str], typer.Argument(help="Data in any form that an input file may name.")],
    output: Annotated[Path, typer.Option("--output", "-o", help="Folder or file to write; must not exist.")],
    form: Annotated[
        Format | None,
        typer.Option("--format", help="By default from the suffix: .h5, .hdf5, .xyz, .extxyz; npy without."),
    ] = None,
    type_map: TypeMapOption = None,
    dpdata_format: Annotated[
        str | None, typer.Option(help="Read through dpdata, in this format of it: vasp/outcar, for example.")
    ] = None,
    keys: KeysOption = None,
    keep_unconverged: KeepUnconvergedOption = False,
) -> None:
    """Convert data, with all labels and all digits, between DeePMD-kit's formats and extended XYZ.

    npy is one system for each composition, mixed one for each number of atoms. Anything that ASE reads can be
    converted; the outputs of more codes with --dpdata-format.
    """
    from dpax.data.quantities import LABELS, labels_of

    kind = form or Format(_from_suffix(output))
    check_output(output, overwrite=None)
    if keys and dpdata_format is not None:
        raise InputError("--keys is for files that ASE reads; dpdata knows the labels of each of its formats")
    how = reading(keys, keep_unconverged, type_map)
    frames, copies, names = (
        _read(inputs, type_map, how)
        if dpdata_format is None
        else _from_dpdata(inputs, dpdata_format, type_map, how)
    )
    with replacing(output) as partial:
        _write(partial, kind, frames, copies, names)
    labels = sorted(labels_of(frames), key=list(LABELS).index)
    described = f"with {', '.join(labels)}" if labels else "without labels"
    typer.echo(f"{len(frames)} frames of {' '.join(names)} written, {described}: {output} ({kind})")


def _from_suffix(output: Path) -> str:
    file_format = _SUFFIXES.get(output.suffix.lower())
    if file_format is None:
        raise InputError(
            f"the format of {output} is not clear from its suffix; give --format "
            f"{'|'.join(Format)}, or a name that ends with {', '.join(filter(None, _SUFFIXES))}"
        )
    return file_format


def _read(
    inputs: Sequence[str], type_map: Sequence[str] | None, how: "Reading"
) -> tuple[list["Frame"], list[int] | None, list[str]]:
    """All frames, how often each is to be taken, and the names of their types."""
    from dpax.data import open_systems, type_names

    names = list(type_map or type_names(inputs))
    frames, copies = [], []
    systems = open_systems(inputs, names, reading=how)
    for system in systems:
        report_unread(system)
        frames += [system.frame(index) for index in range(len(system))]
        copies += [1] * len(system) if system.copies is None else system.copies.tolist()
    return frames, copies if any(s.copies is not None for s in systems) else None, names


def _from_dpdata(
    inputs: Sequence[str], form: str, type_map: Sequence[str] | None, how: "Reading"
) -> tuple[list["Frame"], None, list[str]]:
    from dpax.data.dpdata_io import DpdataSystem

    systems = [DpdataSystem(Path(path), form, how) for path in inputs]
    for system in systems:
        report_unread(system)
    names = list(type_map or sorted({name for system in systems for name in system.names}))
    return [s.frame(index, names) for s in systems for index in range(len(s))], None, names


def _write(
    path: Path, kind: Format, frames: Sequence["Frame"], copies: Sequence[int] | None, names: Sequence[str]
) -> None:
    from dpax.data import write_deepmd_npy, write_extxyz, write_hdf5

    if kind is Format.extxyz:
        if copies is not None:
            raise InputError(
                "extended XYZ cannot store how often a frame is taken (numb_copy.npy in the data); choose "
                "another format, or leave out these files"
            )
        write_extxyz(path, frames, names)
    elif kind is Format.hdf5:
        write_hdf5(path, frames, names, copies=copies)
    else:
        write_deepmd_npy(path, frames, names, mixed=kind is Format.mixed, copies=copies)
