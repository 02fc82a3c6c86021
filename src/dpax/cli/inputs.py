"""Input files on the command line."""

import warnings
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Callable

    from dpax.train.settings import InputSettings


def load_settings(
    path: Path, change: "Callable[[dict[str, Any]], dict[str, Any]] | None" = None
) -> "InputSettings":
    """Read an input file, and show its author what is deprecated in it.

    Python hides deprecation warnings from everyone but programmers; here the user is the one to act.

    Args:
        path: of the file.
        change: what the command line changes of its content.

    Raises:
        InputError: the file cannot be read, or anything in it is wrong.
    """
    from dpax.train.settings import read_settings

    with warnings.catch_warnings():
        warnings.simplefilter("default", DeprecationWarning)
        return read_settings(path, change)
