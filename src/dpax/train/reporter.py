"""What a training tells, and to whom."""

from collections.abc import Mapping
from typing import Any, Protocol

from dpax.train.settings import InputSettings


class Reporter(Protocol):
    """Told of a training's progress; a terminal's progress bar, for example."""

    def start(self, settings: InputSettings, total_steps: int, first_step: int) -> None:
        """A training run begins or continues after `first_step` steps."""

    def tick(self, step: int) -> None:
        """A step is done."""

    def step(self, step: int, record: Mapping[str, Any]) -> None:
        """A line of the learning curve is known.

        Args:
            step: number of steps done.
            record: `lr`, `steps_per_second` (1/s), `loss`, `rmse_e` (eV/atom), `rmse_f` (eV/Å), `rmse_v`
                (eV/atom); the same with `_val` on validation data.
        """

    def message(self, text: str) -> None:
        """Anything worth a line."""

    def finish(self, text: str = "") -> None:
        """The training run has ended, for any reason."""


class Silent:
    """A reporter that tells nobody."""

    def start(self, settings: InputSettings, total_steps: int, first_step: int) -> None:
        """Nothing."""

    def tick(self, step: int) -> None:
        """Nothing."""

    def step(self, step: int, record: Mapping[str, Any]) -> None:
        """Nothing."""

    def message(self, text: str) -> None:
        """Nothing."""

    def finish(self, text: str = "") -> None:
        """Nothing."""
