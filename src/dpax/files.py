"""Files that are written completely or not at all, and the errors where they cannot be written."""

import hashlib
import json
import os
import re
import secrets
import shutil
from collections.abc import Collection, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

from dpax.errors import InputError
from dpax.faults import machine_error

_MARK = ".dpax-"
"""The beginning of temporary names, by which they differ from other hidden files."""
_SHOWN = 40
"""Characters of a name that its temporary name shows; a name of full length has no room for more."""
_TEMPORARY = re.compile(rf"{re.escape(_MARK)}.*\.(?P<digest>[0-9a-f]{{8}})[0-9a-f]{{8}}(\..*)?", re.DOTALL)


def check_output(path: Path, *, overwrite: bool | None) -> None:
    """Check that a file or folder may be written.

    Args:
        path: of the file or folder.
        overwrite: whether one that is there may be replaced; None where there is no such option.

    Raises:
        InputError: the folder around it is missing, or it is there and not to be replaced.
    """
    if not path.absolute().parent.is_dir():
        raise InputError(f"{path}: the folder {path.parent} does not exist; make it first")
    if path.exists() and not overwrite:
        remedy = "remove it" if overwrite is None else "--overwrite to replace it"
        raise InputError(f"{path} exists already; give another name, or {remedy}")


@contextmanager
def writing(path: Path) -> Iterator[None]:
    """Name the file that could not be written in failures of the machine.

    Raises:
        MachineError: a full disk, a read-only folder and so on.
    """
    try:
        yield
    except InputError:
        raise
    except Exception as error:
        known = machine_error(error, path)
        if known is None:
            raise
        raise known from error


@contextmanager
def replacing(path: Path, *, durable: bool = False) -> Iterator[Path]:
    """A temporary path for what replaces a file or folder in one step once it is complete.

    What is neither file nor folder, such as /dev/stdout, is written to directly.

    Args:
        path: what is to be written; a file that is there is replaced.
        durable: have it on the disk before it takes the place, so that it survives a loss of power.

    Raises:
        MachineError: a full disk, a read-only folder and so on; what was there before is kept.
    """
    # Unlike those of pathlib, these say no of a name that is too long.
    if os.path.exists(path) and not (os.path.isfile(path) or os.path.isdir(path)):
        with writing(path):
            yield path
        return
    unique = _digest(path.name) + secrets.token_hex(4)
    temporary = path.with_name(f"{_MARK}{path.stem[:_SHOWN]}.{unique}{path.suffix}")
    with writing(path):
        try:
            yield temporary
            if durable:
                _to_disk(temporary)
            temporary.replace(path)
        except InputError as error:
            raise type(error)(str(error).replace(str(temporary), str(path))) from error
        except OSError as error:
            if error.filename is not None and Path(error.filename) == temporary:
                error.filename = str(path)
            raise
        finally:
            with suppress(OSError):
                _remove(temporary)


def write_text(path: Path, text: str) -> None:
    """Write a text file in UTF-8, completely or not at all.

    Raises:
        MachineError: as `replacing`.
    """
    with replacing(path) as temporary:
        temporary.write_text(text, encoding="utf-8")


def write_json(path: Path, content: Any, indent: int | None = 2) -> None:
    """Write a JSON file, completely or not at all.

    Raises:
        MachineError: as `replacing`.
    """
    write_text(path, json.dumps(content, indent=indent) + "\n")


def remove_temporaries(folder: Path, names: Collection[str] | None = None) -> None:
    """Remove what a killed `replacing` has left behind; no other process may be writing there.

    Args:
        folder: where it was writing.
        names: of the files that it was writing; any by default.
    """
    digests = None if names is None else set(map(_digest, names))
    for path in list(folder.iterdir()):
        temporary = _TEMPORARY.fullmatch(path.name)
        if temporary and (digests is None or temporary["digest"] in digests):
            with suppress(OSError):
                _remove(path)


def is_temporary(path: Path) -> bool:
    """Whether `replacing` gives such names to what is not whole yet."""
    return _TEMPORARY.fullmatch(path.name) is not None


def _digest(name: str) -> str:
    """Tells the temporary names of files whose names begin alike."""
    return hashlib.sha256(os.fsencode(name)).hexdigest()[:8]


def _to_disk(path: Path) -> None:
    with path.open("rb") as file:
        os.fsync(file.fileno())


def _remove(path: Path) -> None:
    shutil.rmtree(path, ignore_errors=True) if path.is_dir() else path.unlink(missing_ok=True)
