"""Full validation: when the whole validation set is evaluated, which models are the best, and their files."""

from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from dpax.files import write_text, writing
from dpax.train.error_sums import ErrorMeans, validation_error
from dpax.train.log import lines_up_to
from dpax.train.run import RunFolder
from dpax.train.settings import InputSettings

_COLUMNS = (
    ("E_MAE(eV/atom)", "e", "mae"),
    ("E_RMSE(eV/atom)", "e", "rmse"),
    ("F_MAE(eV/Å)", "f", "mae"),
    ("F_RMSE(eV/Å)", "f", "rmse"),
    ("V_MAE(eV/atom)", "v", "mae"),
    ("V_RMSE(eV/atom)", "v", "rmse"),
)


@dataclass(frozen=True, order=True)
class Best:
    """A model that was among the best when it was validated."""

    error: float
    step: int


class FullValidation:
    """Ranks the models of a training run by their errors on the whole validation set.

    Args:
        settings: of the training.
        total_steps: of the training.
        folder: of the run.
        averaged: of the averaged weights instead of those that are trained.
    """

    def __init__(self, settings: InputSettings, total_steps: int, folder: RunFolder, *, averaged: bool):
        chosen = settings.validating
        self._settings, self._total = settings, total_steps
        self.averaged = averaged
        self.name = "ema_full_validation" if averaged else "full_validation"
        self.best: list[Best] = []
        self._kept = chosen.max_best_ckpt if chosen.scheduled else 1
        self._folder, self._suffix = folder, "_ema" if averaged else ""
        self.log = folder.path / chosen.log_name(averaged=averaged)

    def due(self, step: int) -> bool:
        """Whether this is a step after which to validate."""
        chosen = self._settings.validating
        if not chosen.scheduled:
            return step % self._settings.valid_freq == 0 or step == self._total
        if chosen.full_val_start == 1:
            return False
        ratio = chosen.full_val_start < 1
        start = int(self._total * chosen.full_val_start) if ratio else int(chosen.full_val_start)
        return step >= start and (step - start) % chosen.validation_freq == 0

    def rank(self, step: int, means: ErrorMeans) -> int | None:
        """Note the errors of a step.

        Returns:
            The place among the best, 0 for the best of all; None if it is not among them.
        """
        candidate = Best(self._error(means), step)
        ranked = sorted([*(best for best in self.best if best.step != step), candidate])[: self._kept]
        if candidate not in ranked:
            return None
        self.best = ranked
        return ranked.index(candidate)

    def _error(self, means: ErrorMeans) -> float:
        if not self._settings.validating.scheduled:
            return validation_error(means, self._settings.loss)
        term, _, kind = self._settings.validating.validation_metric.lower().partition(":")
        value = means.mae(term) if kind == "mae" else means.rmse(term)
        return float("inf") if value is None else value

    def keep(self, step: int, rank: int, write: Callable[[Path], None]) -> None:
        """Write the files of a model that is among the best; remove those of models that no longer are."""
        if not self._settings.validating.save_best:
            return
        if rank == 0:
            write(self._folder.path / f"best{self._suffix}.dpax")
        if self._kept > 1:
            write(self._numbered(step))
            valid = {self._numbered(best.step) for best in self.best}
            for path in self._folder.path.glob(f"best{self._suffix}-*.dpax"):
                if path not in valid:
                    path.unlink()

    def _numbered(self, step: int) -> Path:
        return self._folder.path / f"best{self._suffix}-{step}.dpax"

    def open_log(self, step: int) -> None:
        """Keep what the file of errors holds up to a step and drop later lines; 0 starts a new file."""
        header = "# step " + " ".join(f"{name:>15s}" for name, _, _ in _COLUMNS) + "\n"
        lines = lines_up_to(self.log, step, lambda line: int(line.split()[0]) if line[0] != "#" else 0)
        write_text(self.log, "".join(lines or [header]))

    def write_log(self, step: int, means: ErrorMeans) -> None:
        """Add a line to the file of errors; nan where nothing was labelled."""
        values = (means.mae(term) if kind == "mae" else means.rmse(term) for _, term, kind in _COLUMNS)
        numbers = " ".join(f"{float('nan') if value is None else value:15.5e}" for value in values)
        with writing(self.log), self.log.open("a", encoding="utf-8") as file:
            file.write(f"{step:6d} {numbers}\n")

    def state(self) -> list[dict[str, Any]]:
        """The best so far, as plain JSON types."""
        return [asdict(best) for best in self.best]

    def restore(self, state: list[Mapping[str, Any]]) -> None:
        """Go on from a state."""
        self.best = [Best(**best) for best in state][: self._kept]


def full_validations(settings: InputSettings, total_steps: int, folder: RunFolder) -> list[FullValidation]:
    """The full validations of a training: of the weights, of their average, or of both; none without data."""
    if settings.training.validation_data is None:
        return []
    averaged = settings.validating.ema_full_validation
    live = settings.validating.full_validation or not averaged
    chosen = [False] * live + [True] * averaged
    return [FullValidation(settings, total_steps, folder, averaged=kind) for kind in chosen]
