"""A trace of a few steps of a training, by JAX's profiler."""

from pathlib import Path
from typing import Self

import jax

_FIRST, _LAST = 17, 19
"""Steps that are traced: late enough that everything is compiled and warm."""


class Profile:
    """Traces steps 17 to 19 of a training into a folder, for TensorBoard, Perfetto or xprof.

    Args:
        folder: None traces nothing.
    """

    def __init__(self, folder: Path | None):
        self._folder = folder
        self._running = False

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self._stop()

    def before(self, step: int) -> None:
        """A step is about to be taken."""
        if self._folder is not None and step == _FIRST:
            jax.profiler.start_trace(self._folder)
            self._running = True

    def after(self, step: int) -> None:
        """A step is done."""
        if step == _LAST:
            self._stop()

    def _stop(self) -> None:
        if self._running:
            jax.profiler.stop_trace()
            self._running = False
