"""What keys of the input file do to data, statistics and a run, as far as no test of their area shows it."""

from pathlib import Path

import numpy as np
import pytest

from dpax.data import open_systems
from dpax.model.energy_model import spec_of
from dpax.train import train
from dpax.train.checkpoints import Checkpoints
from dpax.train.setup import data_statistics, open_data
from train.support import settings, write_data, write_toy


@pytest.fixture(scope="module")
def base(tmp_path_factory) -> Path:
    folder = tmp_path_factory.mktemp("data")
    write_data(folder)
    return folder


def systems_of(changes: dict, base: Path) -> dict[str, int]:
    """The systems of the training data with their numbers of frames."""
    data = open_data(settings(changes).training.training_data, ["O", "H"], base)
    return {system.name: len(system) for system in data.systems}


def statistics_of(changes: dict, base: Path):
    chosen = settings(changes)
    return data_statistics(chosen, open_data(chosen.training.training_data, ["O", "H"], base), [])


def curve_of(changes: dict, base: Path, run: Path) -> np.ndarray:
    """The learning curve of a run."""
    chosen = settings(changes)
    train(chosen, run, base=base)
    return np.atleast_1d(np.genfromtxt(run / chosen.training.disp_file, names=True))


def test_names_numbers_and_files_of_a_run(base, tmp_path):
    changes = {
        "training.numb_steps": 18,  # the trace is of steps 17 to 19
        "training.disp_file": "curve.txt",
        "training.disp_freq": 6,
        "training.save_freq": 6,
        "training.max_ckpt_keep": 1,
        "training.enable_ema": True,
        "training.ema_ckpt_keep": 2,
        "training.enable_profiler": True,
        "training.validation_data": {"systems": "valid"},
        "validating": {
            "full_validation": True,
            "validation_freq": 9,
            "full_val_start": 0,
            "full_val_file": "whole.txt",
        },
    }
    assert curve_of(changes, base, tmp_path / "run")["step"].tolist() == [1, 6, 12, 18]
    with Checkpoints(tmp_path / "run" / "checkpoints", read_only=True) as checkpoints:
        assert checkpoints.steps() == [12, 18]
    assert len((tmp_path / "run" / "whole.txt").read_text().splitlines()) > 1
    assert any((tmp_path / "run" / "profile").rglob("*"))
    assert not (tmp_path / "run" / "lcurve.out").exists()


def test_several_batches_of_validation_are_shown(base, tmp_path):
    """Three batches of one frame are one batch of three frames: the set has no more."""

    def shown(size: int, count: int) -> float:
        section = {"systems": ["valid"], "batch_size": size, "numb_btch": count}
        changes = {"training.validation_data": section, "training.numb_steps": 1}
        return curve_of(changes, base, tmp_path / f"{size}-{count}")["rmse_f_val"][0]

    whole = shown(3, 1)
    assert shown(1, 3) == pytest.approx(whole, rel=1e-6)
    assert shown(1, 1) != pytest.approx(whole, rel=1e-6)


@pytest.mark.parametrize("section", ["training_data", "validation_data"])
def test_which_systems_are_drawn(base, section):
    def names(**keys) -> set[str]:
        chosen = getattr(settings({f"training.{section}": keys}).training, section)
        return {system.name for system in open_data(chosen, ["O", "H"], base).systems}

    assert names(systems="valid") == {"valid"}
    assert names(systems=".", rglob_patterns=["s*", "valid"]) == {"small", "valid"}
    assert names(systems=["small", "large"], batch_size="filter:4") == {"small"}


def test_frames_with_close_pairs_go(base):
    def distance(frame) -> float:
        gaps = frame.positions[:, None] - frame.positions + 100 * np.eye(len(frame.types))[..., None]
        return float(np.linalg.norm(gaps, axis=-1).min())

    (system,) = open_systems(str(base / "small"), ["O", "H"])
    closest = sorted(distance(system.frame(index)) for index in range(6))
    limit = (closest[2] + closest[3]) / 2
    chosen = {"training.training_data": {"systems": "small", "min_pair_dist": limit}}
    assert systems_of(chosen, base) == {"small": 3}


def test_drawing_of_the_validation_data_follows_its_own_rules(base):
    def drawn(**rule) -> list[float]:
        section = {"systems": ["small", "large"], "batch_size": 1, **rule}
        chosen = settings({"training.validation_data": section}).training.validation_data
        found = open_data(chosen, ["O", "H"], base).probabilities
        return list(np.asarray(found) / np.sum(found))

    assert drawn() == pytest.approx([6 / 11, 5 / 11])
    assert drawn(auto_prob="prob_uniform") == pytest.approx([0.5, 0.5])
    assert drawn(sys_probs=[0.9, 0.1]) == pytest.approx([0.9, 0.1])


def test_batches_from_which_statistics_are_taken(base):
    """Data of which the later batches are other than the first."""
    write_toy(base / "changing", (0, 1, 1), 4, 5)
    box = base / "changing" / "set.000" / "box.npy"
    np.save(box, np.load(box) * np.array([1, 1, 4, 4])[:, None])
    data = {"systems": "changing", "batch_size": 1}

    def deviation(batches: int) -> float:
        changes = {"training.training_data": data, "model.data_stat_nbatch": batches}
        return float(statistics_of(changes, base).stddev[0, 0])

    few, many, all_frames = deviation(2), deviation(4), deviation(40)
    assert few != pytest.approx(many, rel=1e-3)
    assert many == all_frames


def test_small_singular_values_of_the_energy_fit(base):
    counts = np.array([[1, 2]] * 6 + [[2, 3]] * 5)
    energies = np.concatenate(
        [np.load(base / name / "set.000" / "energy.npy").ravel() for name in ("small", "large")]
    )
    for rcond in (None, 0.5):
        found = statistics_of({"model.fitting_net.rcond": rcond}, base).bias
        np.testing.assert_allclose(found, np.linalg.lstsq(counts, energies, rcond=rcond)[0], rtol=1e-8)


def test_values_of_the_short_range_potential(base):
    distance = 0.02 * np.arange(1, 101)
    path = base / "table.txt"
    energies = (2.0 - distance) ** 3
    np.savetxt(path, np.column_stack([distance] + [energies] * 3))
    values = {"use_srtab": str(path), "smin_alpha": 0.2, "sw_rmin": 0.7, "sw_rmax": 1.5}
    for add_bias in (True, False):
        changes = {f"model.{key}": value for key, value in (values | {"srtab_add_bias": add_bias}).items()}
        short = spec_of(settings(changes).model).short_range
        assert (short.smin_alpha, short.sw_rmin, short.sw_rmax) == (0.2, 0.7, 1.5)
        assert short.add_bias is add_bias
        np.testing.assert_allclose(short.table.knots[: len(distance), 1], energies, atol=1e-6)
