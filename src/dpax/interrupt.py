"""Ctrl-C, SIGTERM and SIGHUP as a request that is met between two steps."""

import os
import signal
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from types import FrameType


@dataclass
class Interrupt:
    """Whether the work should stop."""

    signal: int | None = None
    """The signal that came, if any."""


@contextmanager
def listening() -> Iterator[Interrupt]:
    """Note SIGINT, SIGTERM and SIGHUP; a second SIGINT raises KeyboardInterrupt.

    A SIGHUP that is ignored, as under `nohup`, stays ignored. Outside the main thread, where Python does not
    allow handlers, nothing is noted.
    """
    interrupt = Interrupt()
    if threading.current_thread() is not threading.main_thread():
        yield interrupt
        return
    terminals = [descriptor for descriptor in (1, 2) if os.isatty(descriptor)]

    def note(number: int, frame: FrameType | None) -> None:
        del frame
        if interrupt.signal == signal.SIGINT == number:
            raise KeyboardInterrupt
        interrupt.signal = number
        _leave_closed(terminals)

    before = {number: signal.signal(number, note) for number in _signals()}
    try:
        yield interrupt
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


def _signals() -> list[signal.Signals]:
    """The signals that are handled; Windows has no SIGHUP."""
    noted = [signal.SIGINT, signal.SIGTERM]
    if sys.platform != "win32" and signal.getsignal(signal.SIGHUP) is not signal.SIG_IGN:
        noted.append(signal.SIGHUP)
    return noted


def _leave_closed(terminals: list[int]) -> None:
    """Write no more to a closed terminal: every write would fail."""
    for descriptor in terminals:
        if not os.isatty(descriptor):
            nowhere = os.open(os.devnull, os.O_WRONLY)
            os.dup2(nowhere, descriptor)
            os.close(nowhere)
