"""The learning curve of a run: errors and learning rate against steps."""

import json
from pathlib import Path
from typing import Any

from matplotlib.figure import Figure

from dpax.errors import InputError

LOG = "log.jsonl"
_PANELS = (
    ("rmse_e", "energy RMSE / meV atom⁻¹", 1e3),
    ("rmse_f", "force RMSE / meV Å⁻¹", 1e3),
    ("rmse_v", "virial RMSE / meV atom⁻¹", 1e3),
    ("lr", "learning rate", 1.0),
)
"""Key in the log, label of the axis, factor from the log's unit to the axis'."""


def read_log(run_dir: str | Path) -> list[dict[str, Any]]:
    """The records of a run, one for each displayed step.

    Raises:
        InputError: there is no log, or it holds no record.
    """
    path = Path(run_dir) / LOG
    try:
        lines = path.read_text(encoding="utf-8").splitlines()
    except OSError as error:
        raise InputError(
            f"{path}: cannot be read: {error.strerror}; is {run_dir} the folder of a run?"
        ) from None
    records = []
    for number, line in enumerate(lines, 1):
        try:
            record = json.loads(line)
        except json.JSONDecodeError as error:
            # A run that was killed may have left half a line, at the end only.
            if number == len(lines):
                break
            raise InputError(f"{path}: line {number} is not JSON ({error.msg})") from None
        if "step" in record:
            records.append(record)
    if not records:
        raise InputError(f"{path}: no step has been logged yet")
    return records


def plot_learning_curve(run_dir: str | Path, out: str | Path) -> None:
    """Draw the learning curve of a run.

    Args:
        run_dir: folder of the run.
        out: image file; its ending says the format.

    Raises:
        InputError: the run has logged nothing.
    """
    records = read_log(run_dir)
    panels = [panel for panel in _PANELS if any(_has(record, panel[0]) for record in records)]
    figure = Figure(figsize=(4.2 * len(panels), 3.4), layout="constrained")
    axes = figure.subplots(1, len(panels), squeeze=False)[0]
    for axis, (key, label, factor) in zip(axes, panels, strict=True):
        for name, title in ((key, "training"), (f"{key}_val", "validation")):
            points = [(record["step"], factor * record[name]) for record in records if _has(record, name)]
            if points:
                axis.plot(*zip(*points, strict=True), label=title, linewidth=1.2)
        axis.set(xlabel="step", ylabel=label, yscale="log")
        if len(axis.lines) > 1:
            axis.legend(frameon=False)
    figure.savefig(out, dpi=150)


def _has(record: dict[str, Any], key: str) -> bool:
    value = record.get(key)
    return isinstance(value, (int, float)) and value > 0
