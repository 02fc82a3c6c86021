"""What a training shows."""

import math
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from rich.console import Console

from dpax.cli.live import LiveLine

if TYPE_CHECKING:
    from dpax.train.settings import InputSettings

_QUANTITIES = (("e", "E", "meV/atom"), ("f", "F", "meV/Å"), ("v", "V", "meV/atom"))
"""Stem of the keys in the record (eV/atom or eV/Å), letter and unit shown; shown times 1,000."""


class TrainReporter:
    """Shows the progress of a training run, which calls it.

    Args:
        console: where to write; by default standard output.
    """

    def __init__(self, console: Console | None = None):
        self._line = LiveLine(console)
        self._total = 0
        self._shows_errors = self._shows_speed = True
        self.tick, self.message, self.finish = self._line.tick, self._line.message, self._line.finish

    def start(self, settings: "InputSettings", total_steps: int, first_step: int) -> None:
        """A training run begins or continues after `first_step` steps of `total_steps`."""
        self._total = total_steps
        self._shows_errors = settings.training.disp_training
        self._shows_speed = settings.training.time_training
        verb = f"training continues from step {first_step}" if first_step else "training begins"
        self.message(f"{verb}; {total_steps} steps in all")
        self._line.start(total_steps, first_step, shows_time=self._shows_speed)

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
        text, speed = summary(record), record.get("steps_per_second")
        if speed and not self._line.is_live:
            text += f", {duration((self._total - step) / speed)} left"
        self._line.show(step, text)


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
