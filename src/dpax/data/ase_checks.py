"""Checks before ASE reads a file: numbers on which its readers would hang or fill the memory."""

import re
import sys
from collections.abc import Iterator
from itertools import islice
from pathlib import Path
from typing import IO

from dpax.errors import InputError

MOST_COLUMNS = 100_000
"""Most numbers of an atom in extended XYZ."""
_PROPERTIES = re.compile(r"Properties *= *[\"']?([^\s\"']*)")


def check_extxyz(path: Path, name: str, frames: int | None = None) -> None:
    """Check that the atoms of each frame of an extended XYZ file follow.

    Args:
        path: the file.
        name: for messages.
        frames: how many of the first frames matter; all by default.

    Raises:
        InputError: a number of atoms or columns that cannot be.
    """
    try:
        with path.open() as lines:
            _check_frames(lines, name, frames)
    except InputError:
        raise
    except (OSError, ValueError):
        return  # no number, or no text: ASE reports it when it reads the file


def _check_frames(lines: IO[str], name: str, frames: int | None) -> None:
    for number, count in islice(enumerate(_atom_counts(lines, name)), frames):
        atoms = int(count)
        comment = next(lines, "")
        following = sum(1 for _ in islice(lines, min(max(atoms, 0), sys.maxsize)))
        if following != atoms:
            raise InputError(
                f"{name} frame {number}: declares {count.strip()[:30]} atoms, but only {following} lines "
                "follow; correct the number, or restore the file"
            )
        columns = _PROPERTIES.search(comment)
        widths = columns[1].split(":")[2::3] if columns else []
        if any(len(width) > 9 or int(width) > MOST_COLUMNS for width in widths):
            raise InputError(
                f"{name} frame {number}: has Properties of more than {MOST_COLUMNS} columns; correct them"
            )


def _atom_counts(lines: IO[str], name: str) -> Iterator[str]:
    """The first lines of frames, as ASE finds them: after the atoms there may be lines of lattice vectors.

    Raises:
        InputError: more follows behind an empty line, where ASE stops reading.
    """
    for line in lines:
        if line.lstrip().startswith("VEC"):
            continue
        if not line.strip():
            if any(more.strip() for more in lines):
                raise InputError(
                    f"{name}: there is an empty line between two frames, and ASE reads nothing behind it; "
                    "remove the empty lines"
                )
            return
        yield line
