"""A real `dpax train` that is stopped, killed and resumed, and whose checkpoints are spoilt."""

import json
import os
import random
import re
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from .support import content, write_data

ENDLESS = 1_000_000
SAVE_FREQ = 3
CHANGES = {
    "training.numb_steps": ENDLESS,
    "training.disp_freq": 1,
    "training.save_freq": SAVE_FREQ,
    "learning_rate.decay_steps": 10_000,
    "model.descriptor.precision": "float32",
    "model.fitting_net.precision": "float32",
}
PATIENCE = 300
"""Seconds until a step has to be done: the start, the compilation, and other work on the machine."""


class Dpax:
    """A `dpax train` under way in a process of its own."""

    def __init__(self, input_file: Path, run: Path, *options: str):
        cache = {
            "JAX_COMPILATION_CACHE_DIR": str(input_file.parent / "programs"),
            "JAX_PERSISTENT_CACHE_MIN_COMPILE_TIME_SECS": "0",
            "JAX_PLATFORMS": "cpu",
        }
        code = "from dpax.cli import main; main()"
        command = [sys.executable, "-c", code, "train", str(input_file), "-o", str(run), *options]
        self.run = run
        self.process = subprocess.Popen(
            [*command, "--devices", "2"],
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
            encoding="utf-8",
            env=os.environ | cache,
        )

    def wait_for_steps(self, count: int) -> None:
        """Until so many steps more than now are in the learning curve."""
        target, deadline = last_step(self.run) + count, time.monotonic() + PATIENCE
        while last_step(self.run) < target:
            assert self.process.poll() is None, self.process.communicate()
            assert time.monotonic() < deadline
            time.sleep(0.02)

    def end(self, number: int | None = None) -> tuple[int, str, str]:
        """Exit code, standard output and standard error, after a signal if one is given."""
        if number is not None:
            self.process.send_signal(number)
        out, err = self.process.communicate(timeout=PATIENCE)
        return self.process.returncode, out, err


def last_step(run: Path) -> int:
    """Of the lines that are complete in the learning curve."""
    curve = run / "lcurve.out"
    lines = curve.read_text().splitlines(keepends=True) if curve.exists() else []
    steps = [line.split()[0] for line in lines if line.endswith("\n")]
    return int(steps[-1]) if steps and steps[-1] != "#" else 0


def checkpoints_of(run: Path) -> list[int]:
    return sorted(int(path.name) for path in (run / "checkpoints").iterdir() if path.name.isdecimal())


def until(input_file: Path, step: int) -> Path:
    """The same input with an end."""
    settings = json.loads(input_file.read_text())
    settings["training"]["numb_steps"] = step
    ended = input_file.with_name(f"until-{step}.json")
    ended.write_text(json.dumps(settings))
    return ended


@pytest.fixture(scope="module")
def interrupted(tmp_path_factory):
    """Input, folder of a run that Ctrl-C has stopped, and how it ended."""
    folder = tmp_path_factory.mktemp("interrupted")
    write_data(folder)
    input_file = folder / "input.json"
    input_file.write_text(json.dumps(content(CHANGES)))
    training = Dpax(input_file, folder / "run")
    training.wait_for_steps(5)
    return input_file, folder / "run", training.end(signal.SIGINT)


@pytest.fixture
def copy(interrupted, tmp_path):
    """Input, and a copy of the run to go on with."""
    input_file, run, _ = interrupted
    return input_file, shutil.copytree(run, tmp_path / "run")


def test_ctrl_c_saves_and_says_so(interrupted):
    _, run, (code, out, err) = interrupted
    assert code == 130
    assert err == ""
    step = int(re.search(r"SIGINT: stopped at step (\d+) after a checkpoint; go on with --restart", out)[1])
    assert step >= 5
    assert checkpoints_of(run)[-1] == last_step(run) == step
    assert not (run / "model.dpax").exists()


def test_sigterm_saves_and_says_so(copy):
    input_file, run = copy
    before = last_step(run)
    training = Dpax(input_file, run, "--restart")
    training.wait_for_steps(4)
    code, out, err = training.end(signal.SIGTERM)
    assert (code, err) == (143, "")
    assert f"training continues from step {before}" in out
    assert "SIGTERM: stopped at step" in out
    assert checkpoints_of(run)[-1] == last_step(run) >= before + 4


def test_kill_loses_no_more_than_a_checkpoint_interval(copy):
    input_file, run = copy
    chance = random.Random()
    for _ in range(2):
        before = checkpoints_of(run)[-1]
        training = Dpax(input_file, run, "--restart")
        training.wait_for_steps(2)
        time.sleep(chance.uniform(0.0, 0.5))
        code, out, _ = training.end(signal.SIGKILL)
        assert code == -signal.SIGKILL
        assert f"training continues from step {before};" in out
        assert checkpoints_of(run)[-1] >= last_step(run) - SAVE_FREQ
    reached, saved = last_step(run), checkpoints_of(run)[-1]
    code, out, err = Dpax(until(input_file, reached + 2), run, "--restart").end()
    assert (code, err) == (0, "")
    assert f"training continues from step {saved};" in out
    assert (run / "model.dpax").is_file()
    curve = [line.split()[0] for line in (run / "lcurve.out").read_text().splitlines()[1:]]
    assert curve == [str(step) for step in range(1, reached + 3)]


def spoil(checkpoint: Path) -> None:
    largest = max(checkpoint.rglob("*"), key=lambda path: path.stat().st_size)
    content = bytearray(largest.read_bytes())
    content[len(content) // 4] ^= 0xFF  # the end of the file holds what orbax no longer refers to
    largest.write_bytes(content)


def test_spoilt_checkpoint_is_passed_over(copy):
    input_file, run = copy
    *_, before, last = checkpoints_of(run)
    spoil(run / "checkpoints" / str(last))
    code, out, err = Dpax(until(input_file, last + 1), run, "--restart").end()
    assert (code, err) == (0, "")
    assert re.search(rf"checkpoints/{last}: damaged checkpoint .*; trying the one before", out)
    assert f"training continues from step {before};" in out
    assert checkpoints_of(run)[-1] == last + 1


def test_nothing_but_spoilt_checkpoints_is_an_error_of_one_line(copy):
    input_file, run = copy
    for step in checkpoints_of(run):
        spoil(run / "checkpoints" / str(step))
    before = {path: path.read_bytes() for path in run.rglob("*") if path.is_file()}
    code, out, err = Dpax(input_file, run, "--restart").end()
    assert code == 2
    assert "damaged checkpoint" in out
    (line,) = err.splitlines()
    assert line.startswith(
        f"dpax: error: {run / 'checkpoints'}: no usable checkpoint; start the training anew"
    )
    assert {path: path.read_bytes() for path in run.rglob("*") if path.is_file()} == before
