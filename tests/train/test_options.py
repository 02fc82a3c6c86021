"""A run with every option of a training that writes or keeps something, and what each of them did."""

import json
import math
import re
import signal
from pathlib import Path

import numpy as np
import pytest
from typer.testing import CliRunner

from dpax import load
from dpax.cli.app import app
from dpax.data import open_systems
from dpax.errors import InputError
from dpax.model.blocks import make_mesh
from dpax.nn.arrays import below
from dpax.train import train
from dpax.train.bias import adjusted_bias
from dpax.train.checkpoints import Checkpoints
from dpax.train.error_sums import ErrorMeans, Errors, Sums
from dpax.train.full_validation import FullValidation
from dpax.train.model_of_run import model_of_run
from dpax.train.resolve import resolve
from dpax.train.run import RunFolder
from dpax.train.schedule import make_schedule
from dpax.train.setup import data_statistics, open_data, statistics_files, total_steps
from dpax.train.statistics import sampled_frames

from .support import content, settings, write_data
from .test_restart import Stops, records_of, state_of, terminate, weights_of

VALIDATION = {"training.validation_data": {"systems": "valid", "batch_size": 2}}
OPTIONS = VALIDATION | {
    # The systems have 3 and 5 batches and are drawn in proportion: an epoch is 8 steps.
    "training.numb_steps": None,
    "training.numb_epoch": 2.5,
    "learning_rate": {"type": "cosine", "start_lr": 1e-3, "stop_lr": 1e-5, "warmup_steps": 3},
    "optimizer": {"type": "AdamW", "weight_decay": 0.01},
    "training.gradient_max_norm": 1.0,
    "training.acc_freq": 2,
    "training.enable_ema": True,
    "training.ema_decay": 0.8,
    "training.disp_freq": 4,
    "training.disp_avg": True,
    "training.save_freq": 5,
    "training.ckpt_keep_ratio": 0.5,
    "training.stat_file": "shared.json",
    "training.change_bias_after_training": True,
    "training.profiling": True,
    "validating": {
        "full_validation": True,
        "ema_full_validation": True,
        "validation_freq": 3,
        "full_val_start": 0.3,
        "validation_metric": "f:rmse",
        "max_best_ckpt": 2,
    },
}
VALIDATED = [6, 9, 12, 15, 18]


@pytest.fixture(scope="module")
def base(tmp_path_factory):
    folder = tmp_path_factory.mktemp("data")
    write_data(folder)
    return folder


@pytest.fixture(scope="module")
def run(base):
    result = train(settings(OPTIONS), base / "whole", base=base)
    assert (result.step, result.signal) == (20, None)
    assert result.best_step == best_steps(base / "whole" / "val.log")[0]
    return base / "whole"


def columns(path) -> dict[str, np.ndarray]:
    """A file of errors by the names of its columns."""
    header, *lines = path.read_text().splitlines()
    table = np.array([[float(word) for word in line.split()] for line in lines])
    return dict(zip(header.removeprefix("#").split(), table.T, strict=True))


def best_steps(path) -> list[int]:
    found = columns(path)
    return [int(found["step"][k]) for k in np.argsort(found["F_RMSE(eV/Å)"], kind="stable")]


def test_epochs_and_rate(run):
    found = columns(run / "lcurve.out")
    assert found["step"].tolist() == [1, 4, 8, 12, 16, 20]
    schedule = make_schedule(settings(OPTIONS).learning_rate, 20)
    expected = [schedule(int(step) - 1) for step in found["step"]]
    np.testing.assert_allclose(found["lr"], expected, rtol=1e-2)


def test_a_fraction_of_the_checkpoints_is_kept(run):
    with Checkpoints(run / "checkpoints", read_only=True) as checkpoints:
        assert checkpoints.steps() == [15, 20]


def test_stopped_and_resumed_is_uninterrupted(base, run, tmp_path):
    """Between two accumulated gradients, with averages, moments, means to be shown and best models."""
    resumed = tmp_path / "run"
    assert (
        train(settings(OPTIONS), resumed, base=base, reporter=Stops(11, terminate)).signal == signal.SIGTERM
    )
    train(settings(OPTIONS), resumed, base=base, restart=True)
    (arrays, meta), (expected, expected_meta) = state_of(resumed, 20), state_of(run, 20)
    assert meta == expected_meta
    assert arrays.keys() == expected.keys()
    assert {re.match(r"\w+", name)[0] for name in arrays} == {"params", "fixed", "optimizer", "averaged"}
    for name, array in arrays.items():
        np.testing.assert_array_equal(array, expected[name], err_msg=name)
    for name in ("lcurve.out", "val.log", "val_ema.log"):
        assert (resumed / name).read_text() == (run / name).read_text()
    assert records_of(resumed) == records_of(run)
    models = sorted(path.name for path in run.glob("*.dpax"))
    assert models == sorted(path.name for path in resumed.glob("*.dpax"))
    for name in models:
        assert weights_of(resumed / name) == weights_of(run / name)


@pytest.mark.parametrize("change", [{"optimizer": {"type": "Adam"}}, {"training.acc_freq": 1}])
def test_another_optimizer_is_refused(base, run, change):
    chosen = settings(OPTIONS | change)
    with pytest.raises(InputError, match=r"another experiment: .*(optimizer\.type|training\.acc_freq) was"):
        train(chosen, run, base=base, restart=True)
    with pytest.raises(InputError, match=r"A restart must keep optimizer\.type and training\.acc_freq"):
        train(chosen, run, base=base, restart=True, allow_changes=True)


@pytest.mark.parametrize("suffix", ["", "_ema"])
def test_the_best_models_are_kept(run, suffix):
    steps = best_steps(run / f"val{suffix}.log")
    assert columns(run / f"val{suffix}.log")["step"].tolist() == VALIDATED
    kept = {int(re.search(r"-(\d+)", path.name)[1]) for path in run.glob(f"best{suffix}-*.dpax")}
    assert kept == set(steps[:2])
    assert weights_of(run / f"best{suffix}.dpax") == weights_of(run / f"best{suffix}-{steps[0]}.dpax")


@pytest.mark.parametrize("suffix", ["", "_ema"])
def test_errors_on_the_whole_set_are_those_of_the_model(base, run, suffix):
    """Evaluated by inference, which shares nothing with the training but the model file."""
    frames = [frame for system in open_systems(str(base / "valid"), ["O", "H"]) for frame in _frames(system)]
    potential = load(run / f"best{suffix}.dpax")
    found = potential.evaluate(frames)
    n = np.array([len(frame.types) for frame in frames])
    differences = {
        "E": [(e.energy - f.energy) / k for e, f, k in zip(found, frames, n, strict=True)],
        "F": [e.forces - f.forces for e, f in zip(found, frames, strict=True)],
        "V": [(e.virial - f.virial) / k for e, f, k in zip(found, frames, n, strict=True)],
    }
    written = columns(run / f"val{suffix}.log")
    row = written["step"].tolist().index(best_steps(run / f"val{suffix}.log")[0])
    for letter, unit in (("E", "eV/atom"), ("F", "eV/Å"), ("V", "eV/atom")):
        errors = np.concatenate([np.ravel(part) for part in differences[letter]])
        assert written[f"{letter}_MAE({unit})"][row] == pytest.approx(np.mean(np.abs(errors)), rel=1e-4)
        assert written[f"{letter}_RMSE({unit})"][row] == pytest.approx(np.sqrt(np.mean(errors**2)), rel=1e-4)


def _frames(system):
    return [system.frame(index) for index in range(len(system))]


def test_averaged_weights_have_a_model_of_their_own(run):
    arrays, _ = state_of(run, 20)
    average, last = weights_of(run / "model_ema.dpax"), weights_of(run / "model.dpax")
    assert average != last
    moved = [name for name in arrays if name.startswith("params")]
    assert moved
    for name in moved:
        assert np.any(arrays[name] != arrays[name.replace("params", "averaged", 1)])


def test_a_checkpoint_gives_the_averaged_model_too(run):
    """What `dpax freeze` writes, with --ema and without."""
    arrays = state_of(run, 15)[0]
    for averaged, name in ((False, "params"), (True, "averaged")):
        model, facts = model_of_run(RunFolder(run), 15, averaged=averaged, warn=pytest.fail)
        assert facts["step"] == 15
        expected = below(arrays, name)
        assert expected.keys() == model.trained
        for key, array in expected.items():
            np.testing.assert_array_equal(model.arrays[key], array)


def command(*arguments):
    return CliRunner().invoke(app, list(map(str, arguments)))


def test_neighbours_are_not_counted_where_that_is_forbidden(tmp_path):
    path = tmp_path / "input.json"
    path.write_text(json.dumps(content({"model.descriptor.sel": "auto:1.2"})))
    done = command("train", path, "-o", tmp_path / "run", "--skip-neighbor-stat")
    assert isinstance(done.exception, InputError)
    assert '"auto:1.2" is found by counting neighbours' in str(done.exception)
    assert not (tmp_path / "run").exists()


def test_bias_is_fitted_after_training(base, run):
    """The model is right on average for every composition; the checkpoint, from which one goes on, is not."""
    data = open_data(settings(OPTIONS).training.training_data, ["O", "H"], base)
    for name in ("model.dpax", "model_ema.dpax"):
        model = load(run / name).model
        frames = sampled_frames(data.systems, data.batch_sizes, 10)
        again = adjusted_bias(model, frames, "change", make_mesh())
        np.testing.assert_allclose(again, model.bias, atol=1e-9)
        assert np.abs(np.array(model.bias) - state_of(run, 20)[1]["bias"]).max() > 1e-4


def test_profile_of_a_few_steps(run):
    assert any(path.suffix in (".pb", ".gz") for path in (run / "profile").rglob("*"))


def test_means_of_the_displayed_interval(base, run, tmp_path):
    """disp_avg shows the mean of what disp_freq 1 shows step by step."""
    single = OPTIONS | {"training.disp_avg": False, "training.disp_freq": 1, "training.profiling": False}
    train(settings(single), tmp_path / "single", base=base, reporter=Stops(8, terminate))
    steps = [record for record in records_of(tmp_path / "single") if "lr" in record]
    shown = {record["step"]: record for record in records_of(run) if "lr" in record}
    assert [record["step"] for record in steps] == list(range(1, 9))
    losses = [record["rmse_trn"] ** 2 for record in steps]
    assert shown[1]["rmse_trn"] == pytest.approx(steps[0]["rmse_trn"], rel=1e-12)
    assert shown[4]["rmse_trn"] ** 2 == pytest.approx(np.mean(losses[1:4]), rel=1e-12)
    assert shown[8]["rmse_trn"] ** 2 == pytest.approx(np.mean(losses[4:8]), rel=1e-12)


def test_statistics_are_shared(base, run):
    """The next training on the same data takes them from the file, whatever they say."""
    content = json.loads((base / "shared.json").read_text())
    content["bias"] = [7.0, 8.0]
    del content["digest"]  # as in files of earlier versions
    (base / "told.json").write_text(json.dumps(content))
    told = resolve(settings(OPTIONS | {"training.stat_file": "told.json"}), base)
    caches = statistics_files(told.settings, base)
    assert data_statistics(told.settings, told.data, caches).bias.tolist() == [7.0, 8.0]
    chosen = resolve(settings(OPTIONS | {"training.stat_file_mode": "read"}), base)
    caches = [run / "statistics.json", *statistics_files(chosen.settings, base)]
    assert data_statistics(chosen.settings, chosen.data, caches).max_neighbors > 0


def test_statistics_of_other_data_are_not_read(base, run):
    del run
    chosen = settings(OPTIONS | {"training.stat_file_mode": "read", "model.descriptor.rcut": 3.0})
    other = resolve(chosen, base)
    with pytest.raises(InputError, match=r"shared\.json: no statistics of these data and settings"):
        data_statistics(other.settings, other.data, statistics_files(other.settings, base))


def test_files_of_others_are_not_overwritten(base, tmp_path):
    (base / "stat.hdf5").write_bytes(b"\x89HDF")
    chosen = settings({"training.stat_file": "stat.hdf5"})
    with pytest.raises(InputError, match=r"stat\.hdf5: is not a statistics file of dpax"):
        train(chosen, tmp_path / "run", base=base)
    assert (base / "stat.hdf5").read_bytes() == b"\x89HDF"
    assert not (tmp_path / "run").exists()


# When, without a training


@pytest.mark.parametrize(("epochs", "rule"), [(1, {}), (0.3, {}), (3, {"auto_prob": "prob_uniform"})])
def test_length_of_an_epoch_is_deepmds(base, epochs, rule):
    utils = pytest.importorskip("deepmd.dpmodel.utils.training_utils")
    given = {f"training.training_data.{key}": value for key, value in rule.items()}
    chosen = settings({"training.numb_steps": None, "training.numb_epoch": epochs} | given)
    data = open_data(chosen.training.training_data, ["O", "H"], base)
    weights = np.ones(2) if rule else np.array([3.0, 5.0])
    expected = math.ceil(epochs * utils.compute_total_numb_batch([3, 5], weights))
    assert total_steps(chosen.training, data) == expected


@pytest.mark.parametrize("start", [0, 0.25, 0.5, 1, 7, 40])
@pytest.mark.parametrize("freq", [1, 3, 5])
def test_steps_of_full_validation_are_deepmds(start, freq):
    argcheck = pytest.importorskip("deepmd.utils.argcheck")
    section = {"full_validation": True, "validation_freq": freq, "full_val_start": start}
    chosen = settings(VALIDATION | {"validating": section})
    first = argcheck.resolve_full_validation_start_step(start, 20)
    expected = [
        step for step in range(1, 21) if first is not None and step >= first and (step - first) % freq == 0
    ]
    found = full_validation(chosen)
    assert [step for step in range(1, 21) if found.due(step)] == expected


def full_validation(chosen, folder="run"):
    return FullValidation(chosen, 20, RunFolder(Path(folder)), averaged=False)


def test_without_the_section_as_often_as_checkpoints_and_at_the_end():
    found = full_validation(settings(VALIDATION | {"training.save_freq": 6}))
    assert [step for step in range(1, 21) if found.due(step)] == [6, 12, 18, 20]


@pytest.mark.parametrize("metric", ["E:MAE", "E:RMSE", "F:MAE", "F:RMSE", "V:MAE", "V:RMSE"])
def test_models_are_ranked_by_the_metric(metric):
    section = {"full_validation": True, "validation_metric": metric, "max_best_ckpt": 2}
    found = full_validation(settings(VALIDATION | {"validating": section}))
    term, kind = metric.lower().split(":")
    for step, (size, expected) in enumerate([(3.0, 0), (2.0, 0), (4.0, None), (2.5, 1), (1.0, 0)], 1):
        others = {name: Sums(9.0 - step, 9.0 - step, 1.0) for name in "efv" if name != term}
        chosen = Sums(size**2, 0.0, 1.0) if kind == "rmse" else Sums(0.0, size, 1.0)
        means = ErrorMeans()
        means.add(Errors(0.0, others | {term: chosen}))
        assert found.rank(step, means) == expected
    assert [best.step for best in found.best] == [5, 2]


def test_best_models_are_not_written_unless_wanted(tmp_path):
    section = {"full_validation": True, "save_best": False}
    found = full_validation(settings(VALIDATION | {"validating": section}), tmp_path)
    found.keep(1, 0, lambda path: path.write_text("model"))
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"validating": {"full_validation": True}}, "needs training.validation_data"),
        (
            VALIDATION | {"validating": {"full_validation": True}, "dpax.valid_freq": 3},
            "both set when to validate",
        ),
        (
            VALIDATION
            | {
                "validating": {"full_validation": True, "validation_metric": "V:MAE"},
                "loss": {"start_pref_v": 0, "limit_pref_v": 0},
            },
            "V:MAE is not in the loss",
        ),
        (VALIDATION | {"validating": {"validation_metric": "S:MAE"}}, "S:MAE is refused"),
        (VALIDATION | {"validating": {"ema_full_validation": True}}, "needs training.enable_ema"),
        ({"training.numb_epoch": 3}, "numb_steps and numb_epoch both set the length of the training run"),
        ({"training.numb_steps": None}, "numb_steps is required and was not given"),
        ({"training.stat_file_mode": "read"}, "stat_file_mode 'read' needs a stat_file"),
    ],
)
def test_what_has_no_meaning_is_refused(changes, message):
    with pytest.raises(InputError, match=message):
        settings(changes)
