"""How a long job shows its progress: a live line on a terminal, plain lines in a log file."""

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TaskID, TextColumn, TimeRemainingColumn

from dpax.cli.console import PlainConsole


class LiveLine:
    """Steps done of a total, and a text about the last one.

    Args:
        console: where to write; by default standard output.
    """

    def __init__(self, console: Console | None = None):
        self._console = console or PlainConsole()
        self._progress: Progress | None = None
        self._task = TaskID(0)
        self._total = self._done = 0

    @property
    def is_live(self) -> bool:
        """Whether the line is shown now, so that the remaining time need not be printed."""
        return self._progress is not None

    def start(self, total: int, done: int, *, shows_time: bool = True) -> None:
        """A job of `total` steps begins, or continues after `done` of them."""
        self._total, self._done = total, done
        if self._console.is_terminal:
            self._progress = Progress(
                TextColumn("step"),
                MofNCompleteColumn(),
                BarColumn(bar_width=None),
                TextColumn("{task.fields[text]}", markup=False),
                *([TimeRemainingColumn(compact=True)] if shows_time else []),
                console=self._console,
            )
            self._task = self._progress.add_task("", total=total, completed=done, text="")
            self._progress.start()

    def tick(self, step: int) -> None:
        """A step is done."""
        self._done = max(self._done, step)
        if self._progress is not None:
            self._progress.update(self._task, completed=self._done)

    def show(self, step: int, text: str) -> None:
        """A step with something to report."""
        self.tick(step)
        if self._progress is not None:
            self._progress.update(self._task, text=text)
        else:
            self.message(f"step {step}/{self._total}: {text}")

    def message(self, text: str) -> None:
        """A message on a line of its own."""
        self._console.print(text, markup=False, highlight=False, soft_wrap=True)

    def finish(self, text: str = "") -> None:
        """The job has ended, for any reason."""
        if self._progress is not None:
            self._progress.stop()
            self._progress = None
        if text:
            self.message(text)
