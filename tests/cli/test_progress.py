"""What a training shows."""

import io
import math

import pytest
from rich.console import Console

from dpax.cli.progress import TrainReporter, duration, summary
from dpax.train.settings import InputSettings

RECORD = {
    "loss": 12.3456,
    "lr": 1e-3,
    "rmse_e": 0.0021,
    "rmse_e_val": 0.0034,
    "rmse_f": 0.25,
    "rmse_v": math.nan,
    "steps_per_second": 2.0,
}


def run(terminal: bool, **training: bool) -> str:
    data = {"training_data": {"systems": "data"}, "numb_steps": 100, **training}
    model = {"type_map": ["O"], "descriptor": {"type": "se_atten"}}
    settings = InputSettings.model_validate({"model": model, "training": data})
    stream = io.StringIO()
    reporter = TrainReporter(Console(file=stream, force_terminal=terminal, width=150))
    reporter.start(settings, 100, 40)
    reporter.tick(41)
    reporter.step(50, RECORD)
    reporter.message("a checkpoint [not markup]")
    reporter.finish("done")
    return stream.getvalue()


def test_summary_leaves_out_what_is_unknown():
    assert summary(RECORD) == "loss 12.3, E 2.1 | 3.4 meV/atom, F 250.0 meV/Å, lr 1.0e-03, 2 steps/s"
    assert summary({}) == ""


def test_plain_lines_in_a_log_file():
    lines = run(terminal=False).splitlines()
    assert lines[0] == "training continues from step 40; 100 steps in all"
    assert lines[1].startswith("step 50/100: loss 12.3, E 2.1 | 3.4 meV/atom, F 250.0 meV/Å")
    assert lines[1].endswith("2 steps/s, 0:00:25 left")
    assert lines[2:] == ["a checkpoint [not markup]", "done"]


def test_live_line_on_a_terminal():
    shown = run(terminal=True)
    assert "50/100" in shown
    assert "F 250.0 meV/Å" in shown
    assert "a checkpoint [not markup]" in shown


def test_errors_and_speed_can_be_switched_off():
    assert "loss" not in run(terminal=False, disp_training=False)
    quiet = run(terminal=False, time_training=False)
    assert "loss" in quiet
    assert "left" not in quiet
    assert "steps/s" not in quiet


@pytest.mark.parametrize(("seconds", "text"), [(0.4, "0:00:00"), (59.6, "0:01:00"), (3725, "1:02:05")])
def test_duration(seconds, text):
    assert duration(seconds) == text
