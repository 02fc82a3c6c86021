"""Commands of dpax in processes of their own, and the faults that can befall them."""

import os
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from tempfile import mkdtemp
from typing import Literal

import pytest

PATIENCE = 300.0
"""Seconds until something has to happen: a start, a compilation, and other work on the machine."""
SOURCE = Path(__file__).with_name("preload.c")
COMPILER = shutil.which("gcc") or shutil.which("cc") or shutil.which("clang")
needs_preload = pytest.mark.skipif(
    COMPILER is None or sys.platform != "linux",
    reason="faults at a chosen call need Linux and a C compiler",
)


@cache
def library() -> Path:
    """The compiled library of preload.c."""
    made = Path(mkdtemp(prefix="dpax-faults-")) / "preload.so"
    subprocess.run([str(COMPILER), "-O2", "-shared", "-fPIC", str(SOURCE), "-o", str(made)], check=True)
    return made


@dataclass(frozen=True)
class Fault:
    """What befalls a process at its n-th call that changes a file of certain names."""

    action: Literal["kill", "tear", "full", "readonly"]
    """Death before the call or in the middle of a write, or a disk that is full or read-only from then on."""
    target: str
    """Patterns of paths below the disk, separated by colons."""
    at: int
    """The number of the call, from 1."""

    def environment(self, disk: Path) -> dict[str, str]:
        """How the preloaded library is told."""
        patterns = ":".join(f"{disk}/{pattern}" for pattern in self.target.split(":"))
        return {"FAULT_ACTION": self.action, "FAULT_TARGET": patterns, "FAULT_AT": str(self.at)}


@dataclass(frozen=True)
class Ended:
    """How a process ended."""

    code: int
    out: str
    err: str
    seconds: float

    @property
    def killed(self) -> bool:
        """By SIGKILL."""
        return self.code == -signal.SIGKILL

    @property
    def words(self) -> str:
        """All that it said, for messages."""
        return f"exit code {self.code}\n{self.out[-2000:]}\n{self.err[-4000:]}"

    def error(self) -> str:
        """The one line of an error that a user can mend; anything else fails."""
        assert self.code == 2, self.words
        *others, last = self.err.splitlines()
        assert last.startswith("dpax: error: "), self.words
        assert all(line.startswith("dpax: warning: ") for line in others), self.words
        assert "Traceback" not in self.out + self.err, self.words
        return last.removeprefix("dpax: error: ")


def heed_signals() -> None:
    """For a new process: the campaign may run in the background or under nohup, where these are ignored."""
    for number in (signal.SIGINT, signal.SIGHUP):
        signal.signal(number, signal.SIG_DFL)


class Process:
    """A command of dpax under way.

    Args:
        words: what stands after `dpax`.
        folder: where it is started.
        fault: what befalls it.
        disk: the folder that the fault concerns.
        notes: a file that gets a line for each call that changes the disk.
        stdout: a file for its output, instead of keeping it.
        before: called in the new process before the command starts.
    """

    def __init__(
        self,
        words: Sequence[object],
        folder: Path,
        *,
        fault: Fault | None = None,
        disk: Path | None = None,
        notes: Path | None = None,
        stdout: int | None = None,
        before: Callable[[], None] | None = None,
    ):
        environment = dict(os.environ)
        if fault is not None or notes is not None:
            assert disk is not None
            environment |= {"LD_PRELOAD": str(library()), "FAULT_DISK": str(disk)}
        if fault is not None and disk is not None:
            environment |= fault.environment(disk)
        if notes is not None:
            environment["FAULT_NOTES"] = str(notes)
        command = [sys.executable, "-c", "from dpax.cli import main; main()", *map(str, words)]
        self._begin = time.monotonic()
        self._process = subprocess.Popen(
            command,
            cwd=folder,
            env=environment,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE if stdout is None else stdout,
            stderr=subprocess.PIPE,
            text=True,
            encoding="utf-8",
            preexec_fn=before or heed_signals,
        )
        self.pid = self._process.pid

    @property
    def runs(self) -> bool:
        """Whether it has not ended yet."""
        return self._process.poll() is None

    @property
    def seconds(self) -> float:
        """Since it was started."""
        return time.monotonic() - self._begin

    def wait_for(self, sign: Callable[[], bool]) -> bool:
        """Wait for a sign; False if the process ended before."""
        while not sign():
            if not self.runs:
                return sign()
            assert self.seconds < PATIENCE, "nothing has happened"
            time.sleep(0.005)
        return True

    def send(self, number: int) -> None:
        """Send a signal; one that comes too late does no harm."""
        self._process.send_signal(number)

    def end(self) -> Ended:
        """Wait for its end."""
        try:
            out, err = self._process.communicate(timeout=PATIENCE)
        except subprocess.TimeoutExpired:
            self._process.kill()
            out, err = self._process.communicate()
            pytest.fail(f"the process hangs: {out[-2000:]}\n{err[-4000:]}")
        return Ended(self._process.returncode, out or "", err, self.seconds)


def run(words: Sequence[object], folder: Path, **options: object) -> Ended:
    """Run a command to its end; see `Process`."""
    return Process(words, folder, **options).end()  # type: ignore[arg-type]
