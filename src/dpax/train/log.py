"""The learning curve on disk: DeePMD-kit's `lcurve.out`, and JSON lines for machines."""

import json
import math
from collections.abc import Collection, Mapping
from contextlib import suppress
from pathlib import Path
from typing import Any, Self, TextIO

from dpax.data.quantities import TERMS
from dpax.files import write_text, writing
from dpax.train.error_sums import error_name
from dpax.train.learning_settings import LossSettings


class LearningCurve:
    """Appends records of a training to both files.

    Args:
        lcurve: file in DeePMD-kit's columns.
        jsonl: file of one JSON object a line.
        errors: the names of the errors that have columns.
        validation: whether errors on validation data have columns too.
        after: keep what the files hold up to this step and drop later lines; 0 starts a new file.
    """

    def __init__(self, lcurve: Path, jsonl: Path, errors: tuple[str, ...], validation: bool, after: int = 0):
        self._columns = [
            f"{error}_{kind}" for error in errors for kind in (("val", "trn") if validation else ("trn",))
        ]
        earlier = lines_up_to(lcurve, after, lambda line: int(line.split()[0]) if line[0] != "#" else 0)
        if not earlier:
            earlier = [
                f"#  {'step':>5s}" + "".join(f" {name:>14s}" for name in self._columns) + f" {'lr':>10s}\n"
            ]
        write_text(lcurve, "".join(earlier))
        lines = lines_up_to(jsonl, after, lambda line: json.loads(line)["step"])
        write_text(jsonl, "".join(lines))
        self._lcurve = lcurve.open("a", encoding="utf-8")
        self._jsonl = jsonl.open("a", encoding="utf-8")

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        # Every line was flushed: a disk that is full now has been complained about already.
        with suppress(OSError):
            self._lcurve.close()
        with suppress(OSError):
            self._jsonl.close()

    def add(self, step: int, record: Mapping[str, Any]) -> None:
        """Write a record: `lr` and the errors in training (`rmse_f_trn`) and validation (`rmse_f_val`).

        Raises:
            MachineError: it cannot be written.
        """
        values = "".join(f" {record.get(name, math.nan):14.4e}" for name in self._columns)
        _append(self._lcurve, f"{step:8d}{values} {record['lr']:10.2e}\n")
        self.note({"step": step, **record})

    def note(self, record: Mapping[str, Any]) -> None:
        """Write a line to the machine-readable log alone; NaN becomes null, as JSON has none."""
        clean = {
            key: None if isinstance(value, float) and not math.isfinite(value) else value
            for key, value in record.items()
        }
        _append(self._jsonl, json.dumps(clean) + "\n")


def _append(file: TextIO, line: str) -> None:
    with writing(Path(file.name)):
        file.write(line)
        file.flush()


def shown_errors(loss: LossSettings, labels: Collection[str]) -> tuple[str, ...]:
    """The errors that have columns: of energy and forces, and of what else is weighed and labelled."""
    shown = [
        name for name, label in TERMS.items() if name in "ef" or (loss.weighs(name) and label.name in labels)
    ]
    return ("rmse", *(error_name(term, loss) for term in shown))


def lines_up_to(path: Path, step: int, step_of: Any) -> list[str]:
    """The leading lines of a log that are not beyond a step; a broken last line is dropped."""
    lines: list[str] = []
    if step == 0 or not path.exists():
        return lines
    for line in path.read_text(encoding="utf-8").splitlines(keepends=True):
        try:
            if not line.endswith("\n") or step_of(line) > step:
                break
        except (ValueError, KeyError, IndexError):
            break
        lines.append(line)
    return lines
