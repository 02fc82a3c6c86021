"""Everything that settings leave open is chosen once, and the run's input.json repeats the run."""

import os

import numpy as np
import pytest

from dpax.data import NeighborStatistics, absolute_path, open_systems
from dpax.interfaces.model_files import open_model
from dpax.train import train
from dpax.train.resolve import resolve
from dpax.train.settings import read_settings

from .support import settings, write_data

OPEN = {
    "model.descriptor.sel": "auto:1.5",
    "training.seed": None,
    "training.stat_file": "shared.json",
    "training.validation_data": {"systems": "val*", "batch_size": 2},
}


@pytest.fixture
def base(tmp_path):
    write_data(tmp_path)
    return tmp_path


def neighbors_in(systems) -> int:
    statistics = NeighborStatistics(2, 3.5)
    for system in systems:
        statistics.add_system(system)
    return statistics.max_neighbors


def test_nothing_is_left_open(base):
    resolved = resolve(settings(OPEN), base)
    largest = neighbors_in(open_systems(["small", "large"], ["O", "H"], base))
    assert resolved.settings.model.descriptor.sel == -(-int(1.5 * largest) // 4) * 4
    assert isinstance(resolved.settings.training.seed, int)
    assert resolved.counted.neighbors == largest


def test_a_number_of_neighbors_is_not_counted(base, monkeypatch):
    monkeypatch.setattr(NeighborStatistics, "add_system", lambda *_: pytest.fail("counted"))
    assert resolve(settings(), base).counted is None


def test_the_input_of_a_run_repeats_it_from_anywhere(base, tmp_path_factory, monkeypatch):
    train(settings(OPEN), base / "run", base=base)
    monkeypatch.chdir(tmp_path_factory.mktemp("elsewhere"))
    recorded = read_settings(base / "run" / "input.json")
    assert isinstance(recorded.model.descriptor.sel, int)
    train(recorded, "again", base=base / "run")
    first, second = (open_model(path / "model.dpax")[0] for path in (base / "run", base.cwd() / "again"))
    assert first.spec == second.spec
    assert first.bias == second.bias
    for name, array in first.arrays.items():
        np.testing.assert_array_equal(array, second.arrays[name], err_msg=name)


def test_neighbors_are_counted_once_for_all_runs_on_the_same_data(base, monkeypatch):
    train(settings(OPEN), base / "run", base=base)
    monkeypatch.setattr(NeighborStatistics, "add_system", lambda *_: pytest.fail("counted again"))
    first = read_settings(base / "run" / "input.json").model.descriptor.sel
    other = resolve(settings(OPEN | {"model.descriptor.sel": "auto:3"}), base).settings.model.descriptor.sel
    assert other >= 2 * first - 4
    energies = base / "small" / "set.000" / "energy.npy"
    os.utime(energies, (1, 1))
    with pytest.raises(pytest.fail.Exception, match="counted again"):
        resolve(settings(OPEN), base)


@pytest.mark.parametrize("path", ["small", "./small/", "../data/small", "sm*l", "data.h5#/a", "here"])
def test_absolute_paths_name_the_same_systems(tmp_path, monkeypatch, path):
    """Beside the input file or, if nothing is there, in the working directory; patterns in a folder [1]."""
    base = tmp_path / "run [1]" / "data"
    write_data(base)
    (tmp_path / "cwd").mkdir()
    (base / "large").rename(tmp_path / "cwd" / "here")
    if "#" in path:
        from data.builders import write_hdf5

        write_hdf5(base / "data.h5", {"a": base / "small"})
    monkeypatch.chdir(tmp_path / "cwd")
    named = open_systems(path, ["O", "H"], base)
    absolute = absolute_path(path, base)
    assert os.path.isabs(absolute)
    monkeypatch.chdir(tmp_path)
    again = open_systems(absolute, ["O", "H"])
    assert [system.path.resolve() for system in again] == [
        (tmp_path / "cwd" / system.path).resolve() for system in named
    ]
