"""Where tables and progress are printed: file names appear as they are."""

from typing import Any

from rich.console import Console


class PlainConsole(Console):
    """A console that takes nothing in a text for markup, and leaves a closed pipe to `guarded`."""

    def __init__(self, **options: Any):
        super().__init__(markup=False, emoji=False, highlight=False, **options)

    def on_broken_pipe(self) -> None:
        """Called by rich while it handles the error, which it would otherwise turn into exit code 1."""
        raise BrokenPipeError
