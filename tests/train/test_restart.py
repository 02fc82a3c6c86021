"""A training that was stopped and resumed gives, bit for bit, what an uninterrupted one gives."""

import json
import os
import re
import shutil
import signal
import threading
import typing
from contextlib import suppress
from pathlib import Path

import ase.io
import numpy as np
import pytest
from ase import Atoms
from ase.calculators.singlepoint import SinglePointCalculator

from dpax import load
from dpax.deepmd.model_dictionary import model_dictionary
from dpax.errors import InputError
from dpax.files import replacing
from dpax.settings import Settings
from dpax.train import train
from dpax.train.checkpoints import Checkpoints
from dpax.train.reporter import Silent
from dpax.train.restart import EFFECTS, Changes, Difference, Effect
from dpax.train.run import RunFolder
from dpax.train.settings import InputSettings

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


def hang_up():
    os.kill(os.getpid(), signal.SIGHUP)


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
    model = model_dictionary(load(path).model)
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
    (run / "data.json").unlink()  # as where it was killed between the two
    reporter = Stops(0, terminate)
    train(drawn, run, base=base, restart=True, reporter=reporter)
    assert not any("warning" in text for text in reporter.messages)
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
    assert train(chosen, run, base=base, reporter=Stops(7, hang_up)).signal == signal.SIGHUP
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
    run = uninterrupted("float64")
    with pytest.raises(InputError, match="small had 6 frames and now has 5; a run continues with the frames"):
        train(settings(BASIC), run, base=tmp_path, restart=True, allow_changes=True)
    old = shutil.copytree(run, tmp_path / "old")
    (old / "data.json").unlink()
    with pytest.raises(InputError, match="systems of 6, 5 frames, but the data now has 5, 5"):
        train(settings(BASIC), old, base=tmp_path, restart=True)


def test_same_seed_same_run_and_another_seed_another(base, uninterrupted, tmp_path):
    train(settings(BASIC), tmp_path / "same", base=base)
    assert_same_run(tmp_path / "same", uninterrupted("float64"), 8)
    train(settings(BASIC | {"training.seed": 4}), tmp_path / "other", base=base)
    other, _ = state_of(tmp_path / "other", 8)
    expected, _ = state_of(uninterrupted("float64"), 8)
    moved = [name for name in other if name.startswith("params")]
    assert all(np.any(other[name] != expected[name]) for name in moved)


# What may change at a restart


def keys(section: type[Settings] = InputSettings, path: str = ""):
    """Every key of an input file, by dotted path."""
    for name, field in section.model_fields.items():
        candidates = (field.annotation, *typing.get_args(field.annotation))
        inner = [c for c in candidates if isinstance(c, type) and issubclass(c, Settings)]
        yield from keys(inner[0], f"{path}{name}.") if inner else [f"{path}{name}"]


def test_every_key_is_known_to_a_restart():
    """A key may only be left to its section where every change makes another experiment."""
    everything = set(keys())
    for key in everything:
        effect = Difference(key, None, 1).effect
        if key not in EFFECTS and not key.startswith("dpax.started_from."):
            assert effect is Effect.EXPERIMENT, f"say in EFFECTS what a change of {key} does to a restart"
    assert all(any(key == one or key.startswith(f"{one}.") for key in everything) for one in EFFECTS)


EXPERIMENTS = {
    "learning_rate.start_lr": 2e-3,
    "learning_rate.stop_lr": 1e-6,
    "learning_rate.decay_steps": 3,
    "loss.start_pref_f": 10.0,
    "loss.limit_pref_v": 0.0,
    "loss.loss_func": "mae",
    "optimizer.weight_decay": 0.1,
    "optimizer.adam_beta1": 0.5,
    "training.training_data.batch_size": [1, 1],
    "training.training_data.auto_prob": "prob_uniform",
    "training.training_data.min_pair_dist": 0.1,
    "training.gradient_max_norm": 1.0,
    "training.acc_freq": 2,
    "training.enable_ema": True,
}


@pytest.mark.parametrize("key", EXPERIMENTS)
def test_another_experiment_is_refused_and_nothing_is_changed(base, uninterrupted, key):
    run = uninterrupted("float64")
    before = {path: path.stat().st_mtime_ns for path in run.rglob("*")}
    with pytest.raises(InputError, match=rf"{key} was .* and is now .* with --allow-changes"):
        train(settings(BASIC | {key: EXPERIMENTS[key]}), run, base=base, restart=True)
    assert {path: path.stat().st_mtime_ns for path in run.rglob("*")} == before


@pytest.mark.parametrize("allow_changes", [False, True])
@pytest.mark.parametrize(
    ("key", "value"), [("rcut", 3.25), ("sel", 24), ("attn_layer", 0), ("type_one_side", True)]
)
def test_a_restart_keeps_the_model(base, uninterrupted, key, value, allow_changes):
    """Even where all its arrays have the same shapes: `sel` divides the descriptor."""
    changed = settings(BASIC | {f"model.descriptor.{key}": value})
    message = rf"another model section: .*descriptor\.{key} was .* and is now {value}"
    with pytest.raises(InputError, match=message):
        train(changed, uninterrupted("float64"), base=base, restart=True, allow_changes=allow_changes)


def test_other_labels_of_the_validation_data_rank_models_anew():
    changes = Changes()
    data = {"systems": "a.xyz", "batch_size": 1}
    before, now = (
        settings(BASIC | {"training.validation_data": data | more})
        for more in ({}, {"keys": {"energy": "E"}})
    )
    changes.compare_settings(before, now)
    assert "training.validation_data.keys" in changes.experiment[0]
    assert changes.reranked


def test_all_changes_are_listed_at_once(base, uninterrupted):
    changes = {"learning_rate.start_lr": 2e-3, "optimizer.type": "AdamW", "training.seed": 9}
    with pytest.raises(InputError) as caught:
        train(settings(BASIC | changes), uninterrupted("float64"), base=base, restart=True)
    assert "learning_rate.start_lr was 0.001 and is now 0.002; " in str(caught.value)
    assert "optimizer.type was 'Adam' and is now 'AdamW'" in str(caught.value)


def spoilt(base: Path, folder: Path, system: str) -> Path:
    """The data somewhere else, with other energies of one system."""
    for name in ("small", "large", "valid"):
        shutil.copytree(base / name, folder / name)
    energies = folder / system / "set.000" / "energy.npy"
    np.save(energies, np.load(energies) + 100)
    return folder


@pytest.mark.parametrize(
    ("system", "words"),
    [
        ("small", r"training data: small has changed \(set\.000/energy\.npy\)"),
        ("valid", r"validation data: valid has changed \(set\.000/energy\.npy\)"),
    ],
)
def test_changed_labels_are_refused(base, uninterrupted, tmp_path, system, words):
    with pytest.raises(InputError, match=f"{words}.* with --allow-changes"):
        train(settings(BASIC), uninterrupted("float64"), base=spoilt(base, tmp_path, system), restart=True)


def test_systems_in_another_order_are_refused(base, uninterrupted, tmp_path):
    shutil.copytree(base / "small", tmp_path / "large")
    shutil.copytree(base / "large", tmp_path / "small")
    with pytest.raises(
        InputError, match=r"small had 6 frames and now has 5; large had 5 frames and now has 6"
    ):
        train(
            settings(BASIC | {"training.validation_data": None}),
            uninterrupted("float64"),
            base=tmp_path,
            restart=True,
        )


def test_moved_data_and_harmless_settings_go_on_with_a_word(base, uninterrupted, tmp_path):
    """The same bytes elsewhere are the same data; what is worth knowing is told, and noted in the run."""
    run, reporter = shutil.copytree(uninterrupted("float64"), tmp_path / "run"), Stops(0, crash)
    for name in ("small", "large", "valid"):
        shutil.copytree(base / name, tmp_path / "moved" / name)
    changes = {
        "training.training_data.systems": ["moved/small", "moved/large"],
        "training.validation_data": {"systems": "moved/valid", "batch_size": 2, "numb_btch": 2},
        "training.disp_freq": 1,
        "training.save_freq": 2,
        "training.seed": 12,
    }
    train(settings(BASIC | changes), run, base=tmp_path, restart=True, reporter=reporter)
    told = [text for text in reporter.messages if text.startswith("warning: --restart")]
    assert told == [
        "warning: --restart: training.validation_data.numb_btch was 1 and is now 2",
        "warning: --restart: training.seed is now 12, but the run keeps its own, 3",
    ]
    recorded = json.loads((run / "input.json").read_text())
    assert recorded["training"]["seed"] == 3
    assert recorded["dpax"]["restarts"][0] == "step 8: training.validation_data.numb_btch was 1 and is now 2"
    assert state_of(run, 8)[1] == state_of(uninterrupted("float64"), 8)[1]


def test_another_experiment_goes_on_if_it_may(base, uninterrupted, tmp_path):
    """With its changes on record, the best models forgotten where their errors mean something else."""
    run, reporter = shutil.copytree(uninterrupted("float64"), tmp_path / "run"), Stops(0, crash)
    changes = BASIC | {"learning_rate.start_lr": 1e-4, "training.numb_steps": 9}
    data = spoilt(base, tmp_path / "data", "valid")
    options = {"base": data, "restart": True, "reporter": reporter}
    assert train(settings(changes), run, allow_changes=True, **options).best_step == 9
    told = "learning_rate.start_lr was 0.001 and is now 0.0001"
    assert f"warning: --restart: {told}" in reporter.messages
    assert f"step 8: {told}" in json.loads((run / "input.json").read_text())["dpax"]["restarts"]
    assert load(run / "model.dpax").provenance["input"]["dpax"]["restarts"]
    # From now on this is the experiment.
    assert train(settings(changes), run, **options).step == 9
    with pytest.raises(InputError, match=r"start_lr was 0\.0001 and is now 0\.001"):
        train(settings(BASIC), run, **options)


def test_more_steps_say_what_they_do_to_the_rate(base, uninterrupted, tmp_path):
    run, reporter = shutil.copytree(uninterrupted("float64"), tmp_path / "run"), Stops(9, terminate)
    more = BASIC | {"training.numb_steps": 20, "training.disp_freq": 1}
    train(settings(more), run, base=base, restart=True, reporter=reporter)
    assert "warning: --restart: training.numb_steps was 8 and is now 20" in reporter.messages
    (told,) = [text for text in reporter.messages if "the learning rate depends on" in text]
    assert "8 before and 20 now: that of the next step is 0.000158 instead of 1e-05" in told
    rates = [record["lr"] for record in records_of(run) if "lr" in record]
    assert rates[-1] == pytest.approx(1.58e-4, rel=0.01)


def test_a_run_of_an_earlier_version_goes_on_with_a_note(base, uninterrupted, tmp_path):
    run, reporter = shutil.copytree(uninterrupted("float64"), tmp_path / "run"), Stops(0, crash)
    (run / "data.json").unlink()
    train(settings(BASIC), run, base=base, restart=True, reporter=reporter)
    assert any("has no record of its data" in text for text in reporter.messages)
    assert (run / "data.json").is_file()


def test_changes_before_the_first_checkpoint_need_no_leave(base, tmp_path):
    run, reporter = tmp_path / "run", Stops(0, crash)
    with pytest.raises(KeyboardInterrupt):
        train(settings(BASIC), run, base=base, reporter=Stops(1, crash))
    changed = settings(BASIC | {"learning_rate.start_lr": 2e-3, "training.numb_steps": 1})
    train(changed, run, base=base, restart=True, reporter=reporter)
    assert "warning: --restart: learning_rate.start_lr was 0.001 and is now 0.002" in reporter.messages


def test_allowed_changes_are_those_of_a_restart(base, tmp_path):
    with pytest.raises(InputError, match="--allow-changes needs --restart"):
        train(settings(BASIC), tmp_path / "run", base=base, allow_changes=True)
    assert not (tmp_path / "run").exists()


# A run under way


def test_a_living_run_is_left_alone_and_can_be_read(base, uninterrupted, tmp_path):
    """Whoever starts, restarts or overwrites it meanwhile, in this thread or another; freezing it works."""
    chosen, run, refused = settings(BASIC), tmp_path / "run", []

    def attempt(**options) -> None:
        with pytest.raises(InputError) as caught:
            train(chosen, run, base=base, **options)
        refused.append(str(caught.value))

    def beside() -> None:
        files = {path: path.read_bytes() for path in run.rglob("*") if path.is_file()}
        for options in ({}, {"restart": True}, {"overwrite": True}):
            attempt(**options)
        thread = threading.Thread(target=attempt, kwargs={"restart": True})
        thread.start()
        thread.join()
        with Checkpoints(RunFolder(run).checkpoints, read_only=True) as checkpoints:
            assert checkpoints.latest(pytest.fail).meta["progress"]["step"] == 4
        assert {path: path.read_bytes() for path in run.rglob("*") if path.is_file()} == files

    train(chosen, run, base=base, reporter=Stops(5, beside))
    assert len(refused) == 4
    expected = rf"the run {re.escape(str(run))} is in use by process {os.getpid()} on \S+, since \d{{4}}-"
    assert all(re.match(expected, text) for text in refused)
    assert_same_run(run, uninterrupted("float64"), 8)
    assert not (run / ".lock").exists()


@pytest.mark.parametrize("there", [False, True])
def test_a_start_that_fails_leaves_nothing(base, tmp_path, there):
    run = tmp_path / "deep" / "run"
    if there:
        run.mkdir(parents=True)
    with pytest.raises(InputError, match="no data found"):
        train(settings({"training.training_data.systems": "none"}), run, base=base)
    assert [path for path in tmp_path.rglob("*") if path.is_file()] == []
    assert (tmp_path / "deep").exists() == there


def test_a_name_that_is_not_utf_8_is_refused_at_once(base, tmp_path):
    """The first checkpoint could not be written."""
    run = tmp_path / os.fsdecode(b"r\xff")
    with pytest.raises(InputError, match="checkpoints need a name in UTF-8"):
        train(settings(BASIC), run, base=base)
    assert not run.exists()


@pytest.mark.parametrize("section", ["training_data", "validation_data"])
def test_data_called_as_a_file_of_the_run_are_not_replaced(base, tmp_path, section):
    """ASE's data bases may be called data.json, and so is the record of a run's data."""
    atoms = Atoms("OH2", [[0, 0, 0], [0, 0, 1], [0, 1, 0]])
    atoms.calc = SinglePointCalculator(atoms, energy=-1.0, forces=np.zeros((3, 3)))
    ase.io.write(tmp_path / "data.json", [atoms] * 3)
    before = (tmp_path / "data.json").read_bytes()
    changes = {f"training.{section}": {"systems": str(tmp_path / "data.json"), "batch_size": 2}}
    with pytest.raises(InputError, match=r"data\.json has the name of a file that the run writes"):
        train(settings(BASIC | changes), tmp_path, base=base, overwrite=True)
    assert (tmp_path / "data.json").read_bytes() == before


def test_a_lock_file_is_not_another_run(base, tmp_path):
    """As one leaves it that was killed before or while it wrote its first file."""
    (tmp_path / ".lock").touch()
    with suppress(ZeroDivisionError), replacing(tmp_path / "input.json") as torn:
        (tmp_path / torn.name.replace(torn.stem[-8:], "0" * 8)).touch()
        1 / 0  # noqa: B018
    assert len(list(tmp_path.iterdir())) == 2
    with pytest.raises(InputError, match="no data found"):
        train(settings({"training.training_data.systems": "none"}), tmp_path, base=base)
    (tmp_path / "notes").touch()
    with pytest.raises(InputError, match="is not empty and holds no run"):
        train(settings(), tmp_path, base=base)
