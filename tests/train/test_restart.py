"""A training that was stopped and resumed gives, bit for bit, what an uninterrupted one gives."""

import json
import os
import signal
from pathlib import Path

import numpy as np
import pytest

from dpax import load
from dpax.errors import InputError
from dpax.train import train
from dpax.train.checkpoints import Checkpoints
from dpax.train.reporter import Silent

from .support import settings, write_data

TIMING = {"steps_per_second"}
# Two systems of different sizes, validation at every third step, and a rate that falls on the way.
BASIC = {
    "training.validation_data": {"systems": "valid", "batch_size": 2},
    "dpax.valid_freq": 3,
    "training.max_ckpt_keep": 3,
}
PRECISIONS = {
    "float64": {},
    "float32": {"model.descriptor.precision": "float32", "model.fitting_net.precision": "float32"},
}


class Stops(Silent):
    """Something happens after a step."""

    def __init__(self, step, action):
        self.at, self.action = step, action
        self.messages = []

    def tick(self, step):
        if step == self.at:
            self.action()

    def message(self, text):
        self.messages.append(text)

    def finish(self, text=""):
        self.messages.append(text)


def terminate():
    os.kill(os.getpid(), signal.SIGTERM)


def crash():
    raise KeyboardInterrupt


def state_of(run: Path, step: int) -> tuple[dict, dict]:
    with Checkpoints(run / "checkpoints", read_only=True) as checkpoints:
        checkpoint = checkpoints.restore(step)
    return checkpoint.arrays, checkpoint.meta


def records_of(run: Path) -> list[dict]:
    records = [json.loads(line) for line in (run / "log.jsonl").read_text().splitlines()]
    return [{key: value for key, value in record.items() if key not in TIMING} for record in records]


def weights_of(path: Path) -> dict:
    model = load(path).model.serialize()
    return json.loads(json.dumps(model, default=lambda array: [array.dtype.name, array.tolist()]))


def assert_same_run(run: Path, other: Path, step: int) -> None:
    (arrays, meta), (expected, expected_meta) = state_of(run, step), state_of(other, step)
    assert meta == expected_meta
    assert arrays.keys() == expected.keys()
    for name, array in arrays.items():
        assert array.dtype == expected[name].dtype
        np.testing.assert_array_equal(array, expected[name], err_msg=name)
    assert (run / "lcurve.out").read_text() == (other / "lcurve.out").read_text()
    assert records_of(run) == records_of(other)
    for name in ("model.dpax", "best.dpax"):
        assert weights_of(run / name) == weights_of(other / name)


@pytest.fixture(scope="module")
def base(tmp_path_factory):
    folder = tmp_path_factory.mktemp("data")
    write_data(folder)
    return folder


@pytest.fixture(scope="module")
def uninterrupted(base):
    """Runs to the end, by precision; made when first asked for."""
    runs = {}

    def get(precision) -> Path:
        if precision not in runs:
            runs[precision] = base / f"whole-{precision}"
            result = train(settings(BASIC | PRECISIONS[precision]), runs[precision], base=base)
            assert (result.step, result.signal) == (8, None)
        return runs[precision]

    return get


@pytest.mark.parametrize("precision", [pytest.param("float32", marks=pytest.mark.slow), "float64"])
def test_stopped_by_a_signal(base, uninterrupted, tmp_path, precision):
    chosen, run = settings(BASIC | PRECISIONS[precision]), tmp_path / "run"
    reporter = Stops(5, terminate)
    result = train(chosen, run, base=base, reporter=reporter)
    assert (result.step, result.signal) == (5, signal.SIGTERM)
    assert "SIGTERM: stopped at step 5 after a checkpoint; go on with --restart" in reporter.messages
    assert not (run / "model.dpax").exists()
    result = train(chosen, run, base=base, restart=True)
    assert (result.step, result.signal) == (8, None)
    assert_same_run(run, uninterrupted(precision), 8)


def test_crashed_between_checkpoints(base, uninterrupted, tmp_path):
    """What was logged after the last checkpoint is taken back, and done again."""
    chosen, run = settings(BASIC), tmp_path / "run"
    with pytest.raises(KeyboardInterrupt):
        train(chosen, run, base=base, reporter=Stops(7, crash))
    assert [record["step"] for record in records_of(run)][-1] == 6
    train(chosen, run, base=base, restart=True)
    assert_same_run(run, uninterrupted("float64"), 8)


def test_crashed_before_the_first_checkpoint(base, uninterrupted, tmp_path):
    """The run has nothing but its settings and its seed: it begins again with these."""
    drawn, run = settings(BASIC | {"training.seed": None}), tmp_path / "run"
    with pytest.raises(KeyboardInterrupt):
        train(drawn, run, base=base, reporter=Stops(2, crash))
    seed = json.loads((run / "input.json").read_text())["training"]["seed"]
    assert isinstance(seed, int)
    (run / "input.json").write_text((uninterrupted("float64") / "input.json").read_text())
    train(drawn, run, base=base, restart=True)
    assert_same_run(run, uninterrupted("float64"), 8)


def test_a_finished_run_may_be_restarted_and_does_nothing(base, uninterrupted):
    run = uninterrupted("float64")
    before = records_of(run), weights_of(run / "model.dpax"), (run / "lcurve.out").read_text()
    assert train(settings(BASIC), run, base=base, restart=True).step == 8
    assert (records_of(run), weights_of(run / "model.dpax"), (run / "lcurve.out").read_text()) == before


def test_only_the_latest_checkpoints_are_kept(uninterrupted):
    with Checkpoints(uninterrupted("float64") / "checkpoints", read_only=True) as checkpoints:
        assert checkpoints.steps() == [4, 8]


def test_damaged_checkpoint_is_passed_over_and_written_again(base, uninterrupted, tmp_path):
    chosen, run = settings(BASIC | {"training.save_freq": 2}), tmp_path / "run"
    train(chosen, run, base=base, reporter=Stops(7, terminate))
    data = max((run / "checkpoints" / "6").rglob("*"), key=lambda path: path.stat().st_size)
    for path in (run / "checkpoints" / "7").rglob("d/*"):
        path.write_bytes(b"")
    data.write_bytes(data.read_bytes()[: data.stat().st_size // 2])
    reporter = Stops(0, terminate)
    train(chosen, run, base=base, restart=True, reporter=reporter)
    told = [text for text in reporter.messages if "damaged checkpoint" in text]
    assert len(told) == 2
    assert "checkpoints/7: damaged checkpoint" in told[0]
    assert "checkpoints/6: damaged checkpoint" in told[1]
    arrays, _ = state_of(run, 8)
    expected, _ = state_of(uninterrupted("float64"), 8)
    for name, array in arrays.items():
        np.testing.assert_array_equal(array, expected[name], err_msg=name)
    assert state_of(run, 6)[1]["progress"]["step"] == 6


def test_another_model_is_refused_and_nothing_is_changed(base, uninterrupted):
    run = uninterrupted("float64")
    before = {path: path.stat().st_mtime_ns for path in run.rglob("*")}
    other = settings(BASIC | {"model.descriptor.axis_neuron": 4})
    with pytest.raises(InputError, match=r"model\.descriptor\.axis_neuron was 2 and is now 4"):
        train(other, run, base=base, restart=True)
    assert {path: path.stat().st_mtime_ns for path in run.rglob("*")} == before


def test_changed_data_are_refused(base, tmp_path, uninterrupted):
    write_data(tmp_path)
    energies = tmp_path / "small" / "set.000" / "energy.npy"
    for path in energies.parent.iterdir():
        np.save(path, np.load(path)[:-1])
    with pytest.raises(InputError, match="systems of 6, 5 frames, but the data now has 5, 5"):
        train(settings(BASIC), uninterrupted("float64"), base=tmp_path, restart=True)


def test_same_seed_same_run_and_another_seed_another(base, uninterrupted, tmp_path):
    train(settings(BASIC), tmp_path / "same", base=base)
    assert_same_run(tmp_path / "same", uninterrupted("float64"), 8)
    train(settings(BASIC | {"training.seed": 4}), tmp_path / "other", base=base)
    other, _ = state_of(tmp_path / "other", 8)
    expected, _ = state_of(uninterrupted("float64"), 8)
    moved = [name for name in other if name.startswith("params")]
    assert all(np.any(other[name] != expected[name]) for name in moved)
