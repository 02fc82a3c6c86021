"""What a training shows: a live line on a terminal, plain lines in a log file."""

import math
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TaskID, TextColumn, TimeRemainingColumn

if TYPE_CHECKING:
    from dpax.train.settings import InputSettings

_QUANTITIES = (("e", "E", "meV/atom"), ("f", "F", "meV/Å"), ("v", "V", "meV/atom"))
"""Stem of the keys in the record (eV/atom or eV/Å), letter and unit shown; shown a thousandfold."""


class TrainReporter:
    """Tells of a training's progress; the trainer calls it and does not know what it does.

    Args:
        console: where to write; by default standard output.
    """

    def __init__(self, console: Console | None = None):
        self._console = console or Console(highlight=False)
        self._progress: Progress | None = None
        self._task = TaskID(0)
        self._total = 0
        self._shows_errors = self._shows_speed = True

    def start(self, settings: "InputSettings", total_steps: int, first_step: int) -> None:
        """A training begins, or goes on, after `first_step` steps of `total_steps`."""
        self._total = total_steps
        self._shows_errors = settings.training.disp_training
        self._shows_speed = settings.training.time_training
        verb = f"training goes on from step {first_step}" if first_step else "training begins"
        self.message(f"{verb}; {total_steps} steps in all")
        if self._console.is_terminal:
            left = [TimeRemainingColumn(compact=True)] if self._shows_speed else []
            self._progress = Progress(
                TextColumn("step"),
                MofNCompleteColumn(),
                BarColumn(bar_width=None),
                TextColumn("{task.fields[errors]}"),
                *left,
                console=self._console,
            )
            self._task = self._progress.add_task(
                "training", total=total_steps, completed=first_step, errors=""
            )
            self._progress.start()

    def tick(self, step: int) -> None:
        """A step is done."""
        if self._progress is not None:
            self._progress.update(self._task, completed=step)

    def step(self, step: int, record: Mapping[str, Any]) -> None:
        """A step whose errors are known.

        Args:
            step: its number.
            record: `loss`; `rmse_e`, `rmse_v` in eV/atom and `rmse_f` in eV/Å, the same with `_val` for the
                validation data (`mae_…` where the loss is one of absolute errors); `lr`;
                `steps_per_second`. Any of them may be absent.
        """
        if not self._shows_errors:
            return
        if not self._shows_speed:
            record = {key: value for key, value in record.items() if key != "steps_per_second"}
        if self._progress is not None:
            self._progress.update(self._task, completed=step, errors=summary(record))
            return
        speed = record.get("steps_per_second")
        left = f", {duration((self._total - step) / speed)} left" if speed else ""
        self._console.print(f"step {step}/{self._total}: {summary(record)}{left}", soft_wrap=True)

    def message(self, text: str) -> None:
        """Anything worth a line: a checkpoint, a best model, a warning."""
        self._console.print(text, markup=False, highlight=False, soft_wrap=True)

    def finish(self, text: str = "") -> None:
        """The training is over, for whatever reason."""
        if self._progress is not None:
            self._progress.stop()
            self._progress = None
        if text:
            self.message(text)


def summary(record: Mapping[str, Any]) -> str:
    """One line of loss, errors (training, then validation) and speed."""
    parts = [f"loss {record['loss']:.3g}"] if _known(record, "loss") else []
    for stem, letter, unit in _QUANTITIES:
        for key in (f"rmse_{stem}", f"mae_{stem}"):
            shown = [f"{1e3 * record[name]:.1f}" for name in (key, f"{key}_val") if _known(record, name)]
            if shown:
                parts.append(f"{letter} {' | '.join(shown)} {unit}")
    if _known(record, "lr"):
        parts.append(f"lr {record['lr']:.1e}")
    if _known(record, "steps_per_second"):
        parts.append(f"{record['steps_per_second']:.3g} steps/s")
    return ", ".join(parts)


def _known(record: Mapping[str, Any], key: str) -> bool:
    return record.get(key) is not None and math.isfinite(record[key])


def duration(seconds: float) -> str:
    """Hours, minutes and seconds."""
    minutes, rest = divmod(round(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours}:{minutes:02}:{rest:02}"
