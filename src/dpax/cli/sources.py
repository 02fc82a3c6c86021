"""The options that select data, with DeePMD-kit's letters, and the systems that they name."""

import os
from collections.abc import Collection, Iterable
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from dpax.cli.failures import say
from dpax.errors import InputError

if TYPE_CHECKING:
    from dpax.data import Reading, System
    from dpax.data.dpdata_io import DpdataSystem
    from dpax.train.data_settings import DataSettings

SYSTEM = ("--system", "-s")
"""The flags of `SystemOption`, after which several values may stand."""
SystemOption = Annotated[
    list[str] | None,
    typer.Option(
        *SYSTEM,
        help="System, folder of systems, file that ASE reads, or pattern; one or more. Default: this folder.",
    ),
]
"""The option `-s` of every command that reads systems."""
ListOption = Annotated[
    Path | None,
    typer.Option("--datafile", "-f", help="Instead of -s: file with the path of a system in each line."),
]
"""The option `-f` of commands that take a list of systems."""
TYPE_MAP = ("--type-map", "-t")
"""The flags of `TypeMapOption`, after which several values may stand."""
TypeMapOption = Annotated[
    list[str] | None,
    typer.Option(*TYPE_MAP, help="Element names, one or more. Default: those of the data."),
]
"""The option `-t` of commands that count or write types."""
KEYS = "--keys"
"""The flag of `KeysOption`, after which several values may stand."""
KeysOption = Annotated[
    list[str] | None,
    typer.Option(
        KEYS,
        metavar="QUANTITY=KEY",
        help="Keys of labels that go by another name in files that ASE reads: energy=REF_energy "
        "forces=REF_forces.",
    ),
]
"""The option `--keys` of commands that read labels."""
KeepUnconvergedOption = Annotated[
    bool,
    typer.Option("--keep-unconverged", help="Take frames whose electronic loop did not converge, too."),
]
"""The option `--keep-unconverged` of commands that read labels."""
LAMMPS_TYPES = "--type-map"
"""The flag of `LammpsTypesOption`, after which several values may stand."""
LammpsTypesOption = Annotated[
    list[str] | None,
    typer.Option(LAMMPS_TYPES, help="Elements of the types 1, 2, … of a LAMMPS file that names none."),
]
"""The option `--type-map` of commands that start from a structure."""
SetPrefixOption = Annotated[str | None, typer.Option("--set-prefix", "-S", hidden=True)]
"""DeePMD-kit's deprecated option, without effect there too."""


def reading(
    keys: Iterable[str] | None = None,
    keep_unconverged: bool = False,
    lammps_types: Iterable[str] | None = None,
) -> "Reading":
    """How files of other programs are read, according to the options.

    Raises:
        InputError: `keys` of another form than QUANTITY=KEY.
    """
    from dpax.data import Reading
    from dpax.data.label_keys import parsed_keys

    return Reading(parsed_keys(keys or ()), keep_unconverged, tuple(lammps_types or ()))


def report_unread(system: "System | DpdataSystem", labels: Collection[str] = ()) -> None:
    """Warn about what looks like a label and is not read.

    Args:
        system: the data.
        labels: those that are read all the same, so that nothing is missed.
    """
    from dpax.data.dpdata_io import DpdataSystem
    from dpax.data.label_keys import unread_note
    from dpax.data.lmdb_file import is_lmdb

    keyed = not (isinstance(system, DpdataSystem) or is_lmdb(system.path))
    for quantity, keys in system.unread.items():
        if quantity not in labels:
            say("warning", unread_note(system.name, quantity, keys, keyed))


def listed_systems(datafile: Path) -> list[str]:
    """The paths in a file with one per line; empty lines are skipped.

    Raises:
        InputError: the file cannot be read, or names nothing.
    """
    try:
        lines = datafile.read_text(encoding="utf-8-sig").splitlines()
    except (OSError, UnicodeDecodeError) as error:
        reason = error.strerror if isinstance(error, OSError) else "it is not text"
        raise InputError(f"--datafile {datafile}: cannot be read ({reason})") from None
    # os.path.exists says no of a name that is too long; that of pathlib raises.
    paths = [line if os.path.exists(line) else line.strip() for line in lines if line.strip()]
    if not paths:
        raise InputError(f"--datafile {datafile}: names no system; write one path into each line")
    return paths


def only_one(**options: object) -> None:
    """Check that at most one of several ways to name the data is used.

    Raises:
        InputError: more than one option is given.
    """
    flags = [f"--{name.replace('_', '-')}" for name, value in options.items() if value]
    if len(flags) > 1:
        raise InputError(f"{' and '.join(flags)} each select data; keep one of them")


def no_set_prefix(value: str | None) -> None:
    """Warn that DeePMD-kit's old option has no effect."""
    if value is not None:
        say("warning", "--set-prefix has no effect, as in DeePMD-kit: the folders are called set.*")


def data_of_input(path: Path, section: str) -> "DataSettings":
    """The systems of an input file; what else is in it does not matter here, and may be of another model.

    Args:
        path: of the input file.
        section: training_data or validation_data.

    Raises:
        InputError: no such section, or mistakes in it.
    """
    from dpax.input_file import read_input
    from dpax.train.settings import TrainingDataSettings, ValidationDataSettings

    training = read_input(path).get("training")
    data = training.get(section) if isinstance(training, dict) else None
    if not data:
        raise InputError(f"{path}: has no training.{section}; name the data with -s")
    kind = TrainingDataSettings if section == "training_data" else ValidationDataSettings
    try:
        return kind.model_validate(data)
    except InputError as error:
        raise InputError(f"{path}: training.{section}.{error}") from None
