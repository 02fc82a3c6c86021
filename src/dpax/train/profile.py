"""A trace of a few steps of a training, by JAX's profiler."""

from pathlib import Path

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

    def before(self, step: int) -> None:
        """A step is about to be taken."""
        if self._folder is not None and step == _FIRST:
            jax.profiler.start_trace(self._folder)
            self._running = True

    def after(self, step: int) -> None:
        """A step is done."""
        if step == _LAST:
            self.stop()

    def stop(self) -> None:
        """End the trace, if one is under way."""
        if self._running:
            jax.profiler.stop_trace()
            self._running = False
