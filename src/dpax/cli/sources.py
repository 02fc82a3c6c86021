"""The options by which commands are told their data, with DeePMD-kit's letters, and the systems they name."""

from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from dpax.cli.failures import say
from dpax.errors import InputError

if TYPE_CHECKING:
    from dpax.data import Frame, System
    from dpax.train.settings import DataSettings

_ATOMS_AT_ONCE = 4096

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
SetPrefixOption = Annotated[str | None, typer.Option("--set-prefix", "-S", hidden=True)]
"""DeePMD-kit's deprecated option; it has no meaning there any more either."""


def listed_systems(datafile: Path) -> list[str]:
    """The paths in a file with one in each line, as they stand there; empty lines are skipped.

    Raises:
        InputError: the file cannot be read, or names nothing.
    """
    try:
        lines = datafile.read_text(encoding="utf-8").splitlines()
    except (OSError, UnicodeDecodeError) as error:
        reason = error.strerror if isinstance(error, OSError) else "it is not text"
        raise InputError(f"--datafile {datafile}: cannot be read ({reason})") from None
    paths = [line if Path(line).exists() else line.strip() for line in lines if line.strip()]
    if not paths:
        raise InputError(f"--datafile {datafile}: names no system; write one path into each line")
    return paths


def only_one(**options: object) -> None:
    """Check that at most one of several ways to name the data is used.

    Raises:
        InputError: more than one option is given.
    """
    given = [f"--{name.replace('_', '-')}" for name, value in options.items() if value]
    if len(given) > 1:
        raise InputError(f"{' and '.join(given)} each say which data; keep one of them")


def no_set_prefix(value: str | None) -> None:
    """Tell the user of DeePMD-kit's old option that it does nothing."""
    if value is not None:
        say("warning", "--set-prefix has no effect, as in DeePMD-kit: the folders are called set.*")


def frame_groups(system: "System", order: Iterable[int]) -> Iterator[list["Frame"]]:
    """Frames of a system in a given order, as many at a time as are worth evaluating together."""
    group: list[Frame] = []
    for index in order:
        group.append(system.frame(int(index)))
        if sum(len(frame.types) for frame in group) >= _ATOMS_AT_ONCE:
            yield group
            group = []
    if group:
        yield group


def data_of_input(path: Path, section: str) -> "DataSettings":
    """The systems of an input file; what else is in it does not matter here, and may be of another model.

    Args:
        path: of the input file.
        section: training_data or validation_data.

    Raises:
        InputError: no such section, or mistakes in it.
    """
    from dpax.settings import read_input
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
