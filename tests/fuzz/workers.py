"""Processes that read damaged inputs, and what became of each reading.

A reading may end its process: by a signal from a C library, or because it goes over the limits of time and
memory, which the operating system enforces. The parent then notes it and starts another process behind that
input.
"""

import faulthandler
import math
import multiprocessing
import os
import resource
import shutil
import signal
import tempfile
import traceback
import warnings
from collections.abc import Iterator
from dataclasses import dataclass
from multiprocessing.connection import Connection, wait
from pathlib import Path
from time import monotonic

from dpax.errors import InputError

from .target import Target, inputs_in, write_input
from .targets import target_named

VALID, REFUSED = "valid", "InputError"
LONGEST_MESSAGE = 6000
"""Characters of a message, which may spell out ten mistakes."""
_SLEEPING = 60
"""Seconds after which a reading that takes no processor time counts as one that hangs."""
_AT_ONCE = 500
"""Inputs that one process reads: some libraries keep all programs that they have read."""
_TELL = signal.SIGUSR1
"""Asks a process that hangs where it does."""


@dataclass(frozen=True)
class Outcome:
    """What became of the reading of one input."""

    number: int
    kind: str
    """`VALID`, `REFUSED`, or what went wrong."""
    detail: str = ""

    @property
    def sound(self) -> bool:
        """Whether it is one of the two outcomes that are promised."""
        return self.kind in (VALID, REFUSED)


def read_one(target: Target, path: Path, number: int = 0) -> Outcome:
    """Read an input in this process."""
    try:
        target.read(path)
    except InputError as error:
        return _refused(number, error)
    except MemoryError:
        return Outcome(number, f"over {target.gigabytes:g} GB", traceback.format_exc())
    except BaseException as error:
        return Outcome(number, _kind(error), traceback.format_exc())
    return Outcome(number, VALID)


def _refused(number: int, error: InputError) -> Outcome:
    message = str(error)
    cause: BaseException | None = error
    while cause is not None:
        if isinstance(cause, MemoryError):
            return Outcome(number, "InputError after MemoryError", traceback.format_exc())
        cause = cause.__cause__ or cause.__context__
    if len(message) > LONGEST_MESSAGE or not message:
        return Outcome(number, "InputError, message too long or empty", message[:LONGEST_MESSAGE])
    return Outcome(number, REFUSED, message)


def _kind(error: BaseException) -> str:
    """The exception, and the last line of dpax's own on the way to it."""
    own = [f for f in traceback.extract_tb(error.__traceback__) if "/dpax/" in f.filename]
    where = f" in {Path(own[-1].filename).name}:{own[-1].lineno}" if own else ""
    return type(error).__name__ + where


def outcomes(name: str, seed: int, count: int, processes: int, start: int = 0) -> Iterator[Outcome]:
    """Read `count` damaged inputs of a target, and yield what became of each.

    Args:
        name: of the target.
        seed: with the number of an input, says what the damage is.
        count: of inputs.
        processes: that read at once.
        start: number of the first input.
    """
    with tempfile.TemporaryDirectory() as folder:
        sound = Path(folder) / "sound"
        sound.mkdir()
        target_named(name).make(sound)
        stop = start + count
        pool = [
            _Worker(name, seed, Path(folder), range(start + k, stop, processes)) for k in range(processes)
        ]
        try:
            while pool:
                ready = wait([worker.messages for worker in pool], timeout=1)
                for worker in list(pool):
                    yield from worker.news(worker.messages in ready)
                    if worker.finished:
                        pool.remove(worker)
        finally:
            for worker in pool:
                worker.end()


class _Worker:
    """A process that reads the inputs of some numbers, and its replacements."""

    def __init__(self, name: str, seed: int, folder: Path, numbers: range):
        self._task, self._numbers, self._limits = (name, seed, folder), numbers, target_named(name)
        self.finished = False
        self._begin()

    def _begin(self) -> None:
        context = multiprocessing.get_context("spawn")
        self.messages, theirs = context.Pipe(duplex=False)
        self._process = context.Process(target=_work, args=(*self._task, self._numbers, theirs), daemon=True)
        self._process.start()
        theirs.close()
        self._heard = math.inf  # to begin may take long on a busy machine

    def news(self, ready: bool) -> Iterator[Outcome]:
        if ready:
            try:
                outcome = self.messages.recv()
            except EOFError:
                yield from self._died()
                return
            self._heard = monotonic()
            if isinstance(outcome, str):
                raise RuntimeError(f"a process cannot begin to read:\n{outcome}")
            if outcome is True:  # it begins to read
                return
            if outcome is None:
                self._process.join()
                self._next()
            else:
                self._numbers = self._numbers[1:]
                yield outcome
        elif monotonic() - self._heard > _SLEEPING:
            assert self._process.pid is not None
            os.kill(self._process.pid, _TELL)
            self._process.join(1)  # time to write where it sleeps
            self._process.kill()
            yield from self._died()

    def _died(self) -> Iterator[Outcome]:
        self._process.join()
        code = self._process.exitcode or 0
        if code == -signal.SIGXCPU:
            kind = f"over {self._limits.seconds} s"
        elif code < 0:
            kind = f"killed by {signal.Signals(-code).name}"
        else:
            kind = f"exit with code {code}"
        stacks = _stacks(self._task[2], self._process.pid)
        yield Outcome(self._numbers[0], kind, stacks.read_text() if stacks.exists() else "")
        self._numbers = self._numbers[1:]
        self._next()

    def _next(self) -> None:
        """Go on with the inputs that are left, in a new process."""
        if self._numbers:
            self._begin()
        else:
            self.finished = True

    def end(self) -> None:
        self._process.kill()
        self._process.join()


def _work(name: str, seed: int, folder: Path, numbers: range, messages: Connection) -> None:
    nowhere = os.open(os.devnull, os.O_WRONLY)
    os.dup2(nowhere, 1)
    os.dup2(nowhere, 2)
    warnings.simplefilter("ignore")
    try:
        target = target_named(name)
        inputs = inputs_in(folder / "sound")
        # What libraries load and keep with the first file that they read is not counted.
        for entry in sorted((folder / "sound").iterdir()):
            target.read(entry)
    except BaseException:
        messages.send(traceback.format_exc())
        return
    faulthandler.register(_TELL, _stacks(folder, os.getpid()).open("w"))
    _limit_memory(target.gigabytes)
    messages.send(True)
    for number in numbers[:_AT_ONCE]:
        place = Path(tempfile.mkdtemp(dir=folder))
        path = write_input(place, target.damaged(inputs, seed, number))
        _limit_time(target.seconds)
        messages.send(read_one(target, path, number))
        shutil.rmtree(place, ignore_errors=True)
    messages.send(None)


def _stacks(folder: Path, process: int | None) -> Path:
    """Where a process writes what its threads do, when it is asked to."""
    return folder / f"stacks.{process}"


def _limit_memory(gigabytes: float) -> None:
    pages = int(Path("/proc/self/statm").read_text().split()[0])
    limit = pages * resource.getpagesize() + int(gigabytes * 2**30)
    resource.setrlimit(resource.RLIMIT_AS, (limit, resource.RLIM_INFINITY))


def _limit_time(seconds: int) -> None:
    """End the process by SIGXCPU after so many further seconds of processor time, or one more."""
    used = resource.getrusage(resource.RUSAGE_SELF)
    limit = math.ceil(used.ru_utime + used.ru_stime) + seconds
    resource.setrlimit(resource.RLIMIT_CPU, (limit, resource.RLIM_INFINITY))
