"""Files that are whole or not there, and what is said where they cannot be written."""

import os
import re
import secrets
import shutil
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from dpax.errors import InputError
from dpax.faults import machine_error

_SHOWN = 40
"""Characters of a name that its temporary name begins with; a name of full length has no room for more."""


@contextmanager
def writing(path: Path) -> Iterator[None]:
    """Let failures of the machine say which file could not be written.

    Raises:
        MachineError: a full disk, a read-only folder and so on.
    """
    try:
        yield
    except Exception as error:
        known = machine_error(error, path)
        if known is None or known is error:
            raise
        raise known from error


@contextmanager
def replacing(path: Path, *, durable: bool = False) -> Iterator[Path]:
    """A temporary path for what takes the place of a file or folder at once when it is whole, or not at all.

    Args:
        path: what is to be written; a file that is there is replaced.
        durable: have it on the disk before it takes the place, so that it survives a loss of power.

    Raises:
        MachineError: a full disk, a read-only folder and so on; what was there before is kept.
    """
    temporary = path.with_name(f".{path.stem[:_SHOWN]}.{secrets.token_hex(4)}{path.suffix}")
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


def remove_temporaries(folder: Path, stem: str = "") -> None:
    """Take away what `replacing` has left behind where it was killed; nobody may be writing there.

    Args:
        folder: where it was writing.
        stem: of the files that it was writing; any by default.
    """
    name = re.compile(rf"\.{re.escape(stem[:_SHOWN]) or '.*'}\.[0-9a-f]{{8}}(\..*)?")
    for path in [path for path in folder.glob(".*") if name.fullmatch(path.name)]:
        with suppress(OSError):
            _remove(path)


def _to_disk(path: Path) -> None:
    with path.open("rb") as file:
        os.fsync(file.fileno())


def _remove(path: Path) -> None:
    shutil.rmtree(path, ignore_errors=True) if path.is_dir() else path.unlink(missing_ok=True)
