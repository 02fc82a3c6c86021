"""What the user sees when something goes wrong: one line, never a traceback on the screen."""

import os
import re
import sys
import tempfile
import traceback
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import datetime
from functools import cache
from pathlib import Path
from typing import Any

from dpax.errors import InputError
from dpax.faults import machine_error

MISTAKE, FAILURE, UNREAD = 2, 1, 141
"""Exit codes: the user can mend it; dpax has to; nobody reads the output any more (as after SIGPIPE)."""
_CACHE_TROUBLE = re.compile(r"Error \w+ persistent compilation cache entry for '.*': (\w+)", re.DOTALL)
"""What JAX says of each program, which may be hundreds."""


@contextmanager
def guarded(directory: Path | None = None) -> Iterator[None]:
    """Turn exceptions into one line on stderr and an exit code.

    A closed standard output (`dpax ... | head`) ends the command silently.

    Args:
        directory: where the traceback of an unexpected failure is written; by default the folder for
            temporary files.
    """
    try:
        yield
    except InputError as error:
        say("error", str(error))
        raise SystemExit(MISTAKE) from None
    except BrokenPipeError:
        raise SystemExit(UNREAD) from None
    except Exception as error:
        known = machine_error(error)
        if known is not None:
            say("error", str(known))
            raise SystemExit(MISTAKE) from None
        reason = str(error).strip().partition("\n")[0] or "no message"
        path = _write_traceback(error, directory)
        say("error", f"{type(error).__name__}: {reason} (full traceback: {path})")
        raise SystemExit(FAILURE) from None
    finally:
        _give_up_broken_output()


def show_warning(message: Warning | str, category: type[Warning], *_: Any, **__: Any) -> None:
    """A stand-in for `warnings.showwarning`: one line, without file name and source."""
    del category
    trouble = _CACHE_TROUBLE.match(str(message))
    if trouble is None:
        say("warning", str(message))
    else:
        _say_once(
            "warning",
            f"the folder of compiled programs cannot be used ({trouble[1]}), so all programs are compiled "
            "again; empty it, or choose another one with DPAX_CACHE",
        )


@cache
def _say_once(kind: str, text: str) -> None:
    say(kind, text)


def say(kind: str, text: str) -> None:
    """Print one line to stderr: `dpax: kind: text`."""
    print(f"dpax: {kind}: {' '.join(text.split())}", file=sys.stderr, flush=True)


def _give_up_broken_output() -> None:
    """What standard output could not take must not raise again when Python ends."""
    try:
        sys.stdout.flush()
    except OSError:
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())


def _write_traceback(error: Exception, directory: Path | None) -> Path:
    name = f"dpax-error-{datetime.now():%Y%m%d-%H%M%S}.log"
    text = "".join(traceback.format_exception(error))
    for folder in (directory, Path(tempfile.gettempdir())):
        if folder is not None and folder.is_dir():
            try:
                (folder / name).write_text(text, encoding="utf-8")
            except OSError:
                continue
            return folder / name
    sys.stderr.write(text)
    return Path("above")
