"""Ctrl-C and SIGTERM as a wish that is granted between two steps."""

import signal
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from types import FrameType


@dataclass
class Interrupt:
    """Whether somebody wants the work to stop."""

    signal: int | None = None
    """The signal that came, if any."""


@contextmanager
def listening() -> Iterator[Interrupt]:
    """Note SIGINT and SIGTERM instead of dying of them; a second SIGINT does raise KeyboardInterrupt.

    Outside the main thread, where Python does not allow handlers, nothing is noted.
    """
    interrupt = Interrupt()
    if threading.current_thread() is not threading.main_thread():
        yield interrupt
        return

    def note(number: int, frame: FrameType | None) -> None:
        del frame
        if interrupt.signal == signal.SIGINT == number:
            raise KeyboardInterrupt
        interrupt.signal = number

    before = {number: signal.signal(number, note) for number in (signal.SIGINT, signal.SIGTERM)}
    try:
        yield interrupt
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
