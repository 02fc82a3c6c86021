"""A lock on what a process writes: other processes are refused until it ends.

The lock is the system's own (flock, or LockFileEx on Windows), which ends with the process, however that
ends; a lock file that a killed process leaves behind locks nothing. What the file says is for the message.
"""

import json
import os
import socket
import warnings
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from datetime import datetime
from pathlib import Path
from typing import NamedTuple

from filelock import lock_descriptor

from dpax.errors import WRONG_CONTENTS, InputError
from dpax.files import writing

_READ_AT_MOST = 4096
_BEGINNING = b'{"process": '


class _Holder(NamedTuple):
    """Who holds a lock, or held it last."""

    process: int
    host: str
    since: str

    def __str__(self) -> str:
        return f"process {self.process} on {self.host}"


@contextmanager
def locked(path: Path, what: str, advice: str) -> Iterator[None]:
    """Hold a lock file while something is written; it is removed afterwards.

    Where the file system has no locks, a warning says so and work continues.

    Args:
        path: of the lock file, in the folder that is written to.
        what: is locked, for messages.
        advice: what to do when it is in use.

    Raises:
        InputError: another process, or another thread of this one, holds the lock; the lock file cannot be
            written; or the file is something else.
    """
    descriptor = _acquire(path, what, advice)
    try:
        yield
    finally:
        with suppress(OSError):
            # Before the lock ends: afterwards the file may be another process's.
            if _is_at(path, descriptor):
                path.unlink()
        os.close(descriptor)


def _acquire(path: Path, what: str, advice: str) -> int:
    """A descriptor of the lock file; the lock ends when it is closed."""
    while True:
        with writing(path):
            descriptor = os.open(path, os.O_RDWR | os.O_CREAT, 0o666)
        try:
            if _try(descriptor, path, what, advice):
                return descriptor
        except BaseException:
            os.close(descriptor)
            raise
        os.close(descriptor)


def _try(descriptor: int, path: Path, what: str, advice: str) -> bool:
    """Lock the open file and write into it who holds it; False if its last holder has just removed it."""
    last, here = _read(descriptor), socket.gethostname()
    if last is None and not _is_ours(descriptor):
        raise InputError(f"{path} is not a lock file of dpax; move it away, because dpax needs the name")
    try:
        free = lock_descriptor(descriptor, blocking=False)
    except OSError as error:
        warnings.warn(
            f"{what} cannot be locked: its file system has no locks ({error.strerror}). Make sure that no "
            "other process writes there",
            stacklevel=2,
        )
        return True
    if not free:
        holder = _read(descriptor)
        who = "another process" if holder is None else f"{holder}, since {holder.since}"
        raise InputError(f"{what} is in use by {who}; {advice}")
    if not _is_at(path, descriptor):
        return False
    if last is not None and last.host != here:
        warnings.warn(
            f"{last} ended without removing {path}, or still runs: not all file systems share their locks "
            "between machines",
            stacklevel=2,
        )
    _write(descriptor, _Holder(os.getpid(), here, f"{datetime.now():%Y-%m-%d %H:%M:%S}"))
    return True


def _is_at(path: Path, descriptor: int) -> bool:
    """Whether an open file is still the one at a path."""
    try:
        return os.path.samestat(os.fstat(descriptor), os.stat(path))
    except FileNotFoundError:
        return False


def _content(descriptor: int) -> bytes:
    """The file without its first byte: Windows lets nobody else read what is locked."""
    os.lseek(descriptor, 1, os.SEEK_SET)
    return os.read(descriptor, _READ_AT_MOST)


def _is_ours(descriptor: int) -> bool:
    """Whether a file is a lock file, or what a full disk or a loss of power has left of one."""
    content = _content(descriptor).rstrip(b"\0")
    return _BEGINNING.startswith(content[: len(_BEGINNING)])


def _read(descriptor: int) -> _Holder | None:
    """Who wrote the lock file; None if it is empty or something else."""
    try:
        holder = json.loads(_content(descriptor))
        return _Holder(int(holder["process"]), str(holder["host"]), str(holder["since"]))
    except (OSError, *WRONG_CONTENTS):
        return None


def _write(descriptor: int, holder: _Holder) -> None:
    """Write who holds the lock; on a full disk it is held all the same."""
    os.lseek(descriptor, 0, os.SEEK_SET)
    with suppress(OSError):
        written = os.write(descriptor, b"\n" + json.dumps(holder._asdict()).encode() + b"\n")
        os.ftruncate(descriptor, written)
        os.fsync(descriptor)  # for readers on other machines
