"""Failures of the machine that a user can fix, as opposed to bugs of dpax.

Every library reports them in its own way: Python by an error number, NumPy without it, the storage
libraries (HDF5, safetensors, tensorstore) by a number somewhere in the text, JAX by the name of a status.
"""

import errno
import os
import re
from collections.abc import Callable, Iterator
from contextlib import contextmanager

from dpax.errors import InputError, MachineError

_REASONS = {
    errno.ENOSPC: "the disk is full; make room and try again",
    errno.EDQUOT: "your disk quota is used up; make room and try again",
    errno.EFBIG: "the file would be larger than this system allows; raise the limit (`ulimit -f`)",
    errno.EROFS: "the file system is read-only; choose another folder, or have it mounted writable",
    errno.EACCES: "permission denied; change the permissions, or choose another place",
    errno.EPERM: "the system does not permit it; change the permissions, or choose another place",
    errno.ENOENT: "no such file or folder; put it back, or correct the path",
    errno.ESTALE: "the file was removed or replaced on its server while in use; put it back and try again",
    errno.ENOTDIR: "a part of this path is a file, not a folder; correct the path",
    errno.EISDIR: "this is a folder, where a file is needed; correct the path",
    errno.EEXIST: "a file of this name is in the way; remove it, or choose another name",
    errno.ENAMETOOLONG: "the name is too long for the file system; choose a shorter one",
    errno.ELOOP: "the links of this path form a circle; correct them",
    errno.EMFILE: "this process has too many files open; raise the limit (`ulimit -n`)",
    errno.ENFILE: "this machine has too many files open; close other programs",
    errno.EIO: "the disk, or the connection to it, has failed; check it and try again",
    errno.ETXTBSY: "another program is using the file; wait for it to end",
    errno.EBUSY: "another program is using the file; wait for it to end",
}
"""What an error number means and what to do."""
_AMBIGUOUS = {errno.ENOENT, errno.ENOTDIR, errno.EISDIR, errno.EEXIST, errno.EPERM, errno.ELOOP}
"""Numbers that say something about the user's files only where a path comes with them."""
_NUMBER_IN_TEXT = re.compile(r"(?:errno|os[ _]error(?:[ _]code)?)[ =:'\"]*(\d+)", re.IGNORECASE)
_CUT_SHORT = re.compile(r"\d+ requested and \d+ written|disk is full")
"""How NumPy and SQLite say that a disk is full."""
_OUT_OF_MEMORY = "RESOURCE_EXHAUSTED"
"""JAX's name for it."""

_HOST_MEMORY = (
    "this machine has too little memory; use smaller batches, fewer or smaller structures, or a machine with "
    "more memory"
)
_DEVICE_MEMORY = (
    "the device that computes has too little memory{detail}; use smaller batches, smaller structures, more "
    "devices, or a model in float32"
)


@contextmanager
def naming_checkpoint(step: Callable[[], int | None]) -> Iterator[None]:
    """Let errors that stop a run name the checkpoint from which it can continue.

    Args:
        step: of the last checkpoint by then; None if there is none.
    """
    try:
        yield
    except Exception as error:
        known = error if isinstance(error, InputError) else machine_error(error)
        if known is None:
            raise
        last = step()
        advice = (
            "There is no checkpoint yet"
            if last is None
            else f"The last checkpoint is that of step {last}, from which --restart continues"
        )
        raise type(known)(f"{known}. {advice}") from error


def machine_error(error: BaseException, path: str | os.PathLike | None = None) -> MachineError | None:
    """What an exception says of the machine, in plain words; None if it is something else.

    Args:
        error: any exception.
        path: the file that was being written, for exceptions that do not name one.
    """
    if isinstance(error, MachineError):
        return error
    number = error_number(error)
    if number in _REASONS:
        named = getattr(error, "filename", None) or path
        if named is not None:
            name = os.fsdecode(named)
            written = path is not None and name == os.fspath(path)
            return MachineError(f"{name}{' cannot be written' * written}: {_REASONS[number]}")
        return None if number in _AMBIGUOUS else MachineError(_REASONS[number])
    if isinstance(error, MemoryError) or number == errno.ENOMEM:
        return MachineError(_HOST_MEMORY)
    if _OUT_OF_MEMORY in str(error):
        size = re.search(r"allocat\w+ ([\d.]+ ?\w*)", str(error))
        return MachineError(_DEVICE_MEMORY.format(detail=f" ({size[1].strip()} more)" if size else ""))
    return None


def error_number(error: BaseException) -> int | None:
    """The system's number of an error, wherever the exception keeps it; None if it has none."""
    if isinstance(error, OSError) and error.errno is not None:
        return error.errno
    text = str(error)
    if _CUT_SHORT.search(text):
        return errno.ENOSPC
    match = _NUMBER_IN_TEXT.search(text)
    return int(match[1]) if match else None
