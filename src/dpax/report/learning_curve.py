"""The learning curve of a run: errors and learning rate against steps."""

import json
from pathlib import Path
from typing import Any

from matplotlib.figure import Figure

from dpax.errors import InputError
from dpax.files import replacing

LOG = "log.jsonl"
_PANELS = (
    ("rmse_e", "energy RMSE / meV atom⁻¹"),
    ("mae_e", "energy MAE / meV atom⁻¹"),
    ("rmse_f", "force RMSE / meV Å⁻¹"),
    ("mae_f", "force MAE / meV Å⁻¹"),
    ("rmse_v", "virial RMSE / meV atom⁻¹"),
    ("mae_v", "virial MAE / meV atom⁻¹"),
)
"""Stem of the keys in the log (eV/atom or eV/Å), and label of the axis."""


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
        out: image file; its suffix selects the format.

    Raises:
        InputError: the run has logged nothing.
    """
    records = read_log(run_dir)
    curves = {label: _curves(records, key) for key, label in _PANELS}
    drawn = {label: lines for label, lines in curves.items() if lines}
    figure = Figure(figsize=(4.2 * (len(drawn) + 1), 3.4), layout="constrained")
    axes = figure.subplots(1, len(drawn) + 1, squeeze=False)[0]
    for axis, (label, lines) in zip(axes, drawn.items(), strict=False):
        for name, (steps, errors) in lines.items():
            axis.plot(steps, errors, label=name, linewidth=1.2)
        axis.set(xlabel="step", ylabel=label, yscale="log")
        axis.legend(frameon=False)
    axes[-1].plot(*_points(records, "lr"), color="0.4", linewidth=1.2)
    axes[-1].set(xlabel="step", ylabel="learning rate", yscale="log")
    with replacing(Path(out)) as temporary:
        figure.savefig(temporary, dpi=150)


def _curves(records: list[dict[str, Any]], key: str) -> dict[str, tuple[list[int], list[float]]]:
    """Steps and errors, in thousandths, of training and validation as far as they were logged."""
    curves = {}
    for name, suffix in (("training", "trn"), ("validation", "val")):
        steps, errors = _points(records, f"{key}_{suffix}")
        if steps:
            curves[name] = (steps, [1e3 * error for error in errors])
    return curves


def _points(records: list[dict[str, Any]], key: str) -> tuple[list[int], list[float]]:
    known = [(record["step"], record[key]) for record in records if record.get(key)]
    return [step for step, _ in known], [value for _, value in known]
