"""What a simulation shows: a live line on a terminal, plain lines in a log file."""

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TaskID, TextColumn, TimeRemainingColumn

from dpax.simulate.md import Thermo
from dpax.simulate.settings import MDSettings


class MDReporter:
    """Tells of a simulation's progress; the simulation calls it and does not know what it does.

    Args:
        console: where to write; by default standard output.
    """

    def __init__(self, console: Console | None = None):
        self._console = console or Console(highlight=False)
        self._progress: Progress | None = None
        self._task = TaskID(0)
        self._total = 0

    def start(self, settings: MDSettings, first_step: int, text: str) -> None:
        """A simulation begins, or goes on, after `first_step` steps."""
        self._total = settings.steps
        verb = f"goes on from step {first_step}" if first_step else "begins"
        self._print(f"{text}: the simulation {verb}; {settings.steps} steps in all")
        if self._console.is_terminal:
            self._progress = Progress(
                TextColumn("step"),
                MofNCompleteColumn(),
                BarColumn(bar_width=None),
                TextColumn("{task.fields[state]}"),
                TimeRemainingColumn(compact=True),
                console=self._console,
            )
            self._task = self._progress.add_task(
                "simulation", total=settings.steps, completed=first_step, state=""
            )
            self._progress.start()

    def tick(self, step: int) -> None:
        """A step is done."""
        if self._progress is not None:
            self._progress.update(self._task, completed=step)

    def line(self, thermo: Thermo, drift: float | None, ns_per_day: float | None) -> None:
        """A line was logged."""
        text = summary(thermo, drift, ns_per_day)
        if self._progress is not None:
            self._progress.update(self._task, state=text)
        else:
            self._print(f"step {thermo.step}/{self._total}: {text}")

    def finish(self, text: str = "") -> None:
        """The simulation is over, for whatever reason."""
        if self._progress is not None:
            self._progress.stop()
            self._progress = None
        if text:
            self._print(text)

    def _print(self, text: str) -> None:
        self._console.print(text, markup=False, highlight=False, soft_wrap=True)


def summary(thermo: Thermo, drift: float | None, ns_per_day: float | None) -> str:
    """One line of temperature, energy, drift and speed."""
    parts = [f"{thermo.temperature:.0f} K", f"E {thermo.total:.4f} eV"]
    if drift is not None:
        parts.append(f"drift {1e3 * drift:+.4f} meV/atom")
    if ns_per_day is not None:
        parts.append(f"{ns_per_day:.3g} ns/day")
    return ", ".join(parts)
