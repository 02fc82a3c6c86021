"""Mean, deviation and energy bias as DeePMD-kit computes them, and their cache."""

import json
import os
from dataclasses import replace

import numpy as np
import pytest

from dpax.data import Frame, NeighborStatistics, open_systems
from dpax.descriptor.describe import kept_pairs
from dpax.descriptor.statistics import EnvironmentStatistics
from dpax.errors import InputError
from dpax.train import setup
from dpax.train.setup import data_statistics, open_data
from dpax.train.statistics import (
    Statistics,
    compute_statistics,
    energy_bias,
    fingerprint,
    is_statistics,
    read_statistics,
    sampled_frames,
    write_statistics,
)
from oracle.deepmd_statistics import deepmd_statistics, sample_directories, sample_frames

from .support import settings, write_toy

CELL = np.array([[5.0, 0.0, 0.0], [0.6, 5.5, 0.0], [-0.4, 0.7, 6.0]])


class Toy:
    """Frames of one system as arrays; type -1 is a virtual atom."""

    def __init__(self, types, frames, seed, *, periodic=True, labels=True):
        rng = np.random.default_rng(seed)
        self.types = np.broadcast_to(np.asarray(types), (frames, np.shape(types)[-1]))
        grid = np.stack(np.meshgrid(*[np.arange(2)] * 3, indexing="ij"), -1).reshape(-1, 3)
        count = self.types.shape[1]
        self.coord = 2.3 * grid[:count] + rng.uniform(-0.4, 0.4, (frames, count, 3))
        self.energy = rng.normal(-50, 5, frames) if labels else None
        self.atomic = rng.normal(-4, 1, (frames, count))
        self.cell = CELL if periodic else None

    def frames(self, atomic=False) -> list[Frame]:
        made = []
        for k, types in enumerate(self.types):
            real = types >= 0
            made.append(
                Frame(
                    positions=self.coord[k][real],
                    types=types[real],
                    cell=self.cell,
                    pbc=(self.cell is not None,) * 3,
                    source=f"toy frame {k}",
                    energy=None if self.energy is None else self.energy[k],
                    atom_energies=self.atomic[k][real] if atomic else None,
                )
            )
        return made

    def sample(self, n_types) -> dict:
        box = None if self.cell is None else np.tile(self.cell.reshape(1, 9), (len(self.coord), 1))
        mixed = bool(np.any(self.types != self.types[0]) or np.any(self.types < 0))
        return sample_frames(self.coord, self.types, box, self.energy, n_types, mixed=mixed)


WATER = Toy([0, 1, 1, 0, 1, 1], 3, 1)
OTHER = Toy([1, 1, 0, 1], 4, 2)
MIXED = Toy([[0, 1, 1, 0, -1, -1], [1, 0, 0, 1, 1, -1], [0, 0, 0, 1, 1, 1]], 3, 3)
CLUSTER = Toy([0, 1, 0, 1, 1], 3, 4, periodic=False)
MIXED_CLUSTER = Toy([[1, -1, -1], [0, 1, -1], [1, 1, 0]], 3, 5, periodic=False)
CASES = {
    "two systems": ([WATER, OTHER], 2, {}),
    "a type that is not there": ([WATER, OTHER], 3, {}),
    "excluded pairs": ([WATER, OTHER], 2, {"exclude_types": [[0, 1]]}),
    "virtual atoms": ([MIXED, MIXED_CLUSTER], 2, {}),
    "not periodic": ([CLUSTER], 2, {}),
    "protected distances": ([WATER], 2, {"env_protection": 0.2}),
    "one composition": ([WATER], 2, {}),
}


def ours(frames, n_types, sel=30, rcut=4.0, rcut_smth=0.5, exclude_types=(), env_protection=0.0):
    excluded = ~kept_pairs([list(pair) for pair in exclude_types], n_types)
    environment = EnvironmentStatistics(n_types, rcut, rcut_smth, env_protection, excluded)
    return compute_statistics(iter(frames), environment, sel, None)


def assert_same(found, expected, rtol=1e-6):
    np.testing.assert_allclose(found.mean, expected.mean[:, 0], rtol=rtol, atol=1e-12)
    np.testing.assert_allclose(found.stddev, expected.deviation[:, 0], rtol=rtol)
    np.testing.assert_allclose(found.bias, expected.energy_bias, rtol=rtol, atol=1e-9)


@pytest.mark.parametrize("case", CASES)
def test_statistics_are_those_of_deepmd(case):
    systems, n_types, options = CASES[case]
    frames = [frame for system in systems for frame in system.frames()]
    names = ["O", "H", "C"][:n_types]
    expected = deepmd_statistics([system.sample(n_types) for system in systems], names, sel=30, **options)
    assert_same(ours(frames, n_types, **options), expected, rtol=1e-9)


def test_atomic_energies_do_not_replace_the_fit():
    with_labels = ours(WATER.frames(atomic=True) + OTHER.frames(atomic=True), 2)
    without = ours(WATER.frames() + OTHER.frames(), 2)
    np.testing.assert_array_equal(with_labels.bias, without.bias)


def test_atomic_energies_alone_give_their_means():
    toy = Toy([0, 1, 1, 0], 5, 6, labels=False)
    expected = [toy.atomic[:, [0, 3]].mean(), toy.atomic[:, [1, 2]].mean(), 0.0]
    np.testing.assert_allclose(ours(toy.frames(atomic=True), 3).bias, expected)
    np.testing.assert_array_equal(ours(toy.frames(), 2).bias, 0.0)


def test_bias_recovers_additive_energies():
    counts = np.array([[2, 1, 0], [1, 3, 0], [4, 4, 0]])
    np.testing.assert_allclose(energy_bias(counts, counts @ [-3.0, 5.0, 9.0]), [-3.0, 5.0, 0.0], atol=1e-12)


def test_more_neighbours_than_slots_are_reported():
    found = ours(WATER.frames(), 2, sel=3)
    assert found.max_neighbors > 3
    assert found.crowded.startswith("toy frame")


def test_the_smallest_distance_is_that_of_the_frames():
    frames = WATER.frames()
    counted = NeighborStatistics(2, 6.0)
    for frame in frames:
        counted.add(frame)
    assert ours(frames, 2).min_distance == pytest.approx(counted.min_distance, rel=1e-12)


def test_frame_is_named_where_atoms_coincide():
    bad = WATER.frames()[1]
    bad = replace(bad, positions=bad.positions[[0, 0, 2, 3, 4, 5]])
    with pytest.raises(InputError, match="toy frame 1: atoms 0 and 1"):
        ours([bad], 2)


WATER_FOLDERS = ("water/data_0", "water/data_1", "water/data_2")
REAL = {
    # Name: folders, elements, frames per batch, batches.
    "water": (WATER_FOLDERS, ["O", "H"], 1, 3),
    "water and an element it lacks": (WATER_FOLDERS[:1], ["H", "C", "O"], 3, 1),
    "water of mixed type": (("mixed/water_4frames",), ["O", "H"], 4, 1),
    "molecules of mixed type, padded": (("mixed/nopbc_padded",), ["C", "H", "O"], 20, 10),
}


@pytest.mark.parametrize("case", REAL)
def test_statistics_of_real_data(case, real_data):
    """On the very frames that DeePMD-kit's loader draws."""
    folders, names, batch_size, n_batches = REAL[case]
    paths = [real_data(folder) for folder in folders]
    samples = sample_directories(paths, names, batch_size=batch_size, n_batches=n_batches)
    expected = deepmd_statistics(
        samples, names, rcut=6.0, rcut_smth=0.5, sel=120, neuron=[4, 8], attn_layer=0
    )
    frames = []
    for system, sample in zip(open_systems([str(path) for path in paths], names), samples, strict=True):
        every = [system.frame(index) for index in range(len(system))]
        drawn = zip(sample["energy"].ravel(), sample["coord"], strict=True)
        frames += [the_frame(every, energy, coord) for energy, coord in drawn]
    assert len(frames) == len(folders) * batch_size * n_batches
    assert_same(ours(frames, len(names), sel=120, rcut=6.0), expected)


def the_frame(frames, energy, coord) -> Frame:
    """The frame with this energy, and among several the one with these coordinates in any order."""
    same = [frame for frame in frames if frame.energy == energy]
    return min(same, key=lambda frame: abs(np.abs(frame.positions).sum() - np.abs(coord).sum()))


def test_statistics_from_settings_and_data(real_data):
    folder = real_data("mixed/water_4frames")
    chosen = settings(
        {
            "model.descriptor.rcut": 6.0,
            "model.descriptor.sel": 120,
            "training.training_data": {"systems": str(folder), "batch_size": 1},
        }
    )
    found = data_statistics(chosen, open_data(chosen.training.training_data, ("O", "H"), None))
    # What `dp --jax train` computes for these four frames.
    np.testing.assert_allclose(found.mean[:, 0], [0.05785936140529097, 0.05535834274194085], rtol=1e-6)
    np.testing.assert_allclose(found.stddev[:, 0], [0.14862488681558297, 0.13163064714803346], rtol=1e-6)
    np.testing.assert_allclose(found.stddev[:, 3], [0.09208031771291604, 0.08244391303897602], rtol=1e-6)
    np.testing.assert_allclose(found.bias, [-93.5736785888672, -187.1473571777344], rtol=1e-9)


@pytest.fixture
def counted(monkeypatch):
    """How often statistics were computed."""
    calls = []

    def compute(*arguments):
        calls.append(arguments)
        return compute_statistics(*arguments)

    monkeypatch.setattr(setup, "compute_statistics", compute)
    return calls


def test_statistics_are_read_again_and_not_when_anything_changed(tmp_path, counted):
    write_toy(tmp_path / "small", (0, 1, 1), 4)
    cache = tmp_path / "statistics.json"
    changes = {"training.training_data": {"systems": "small"}, "model.descriptor.sel": 4}
    chosen = settings(changes)

    def statistics(chosen=chosen):
        data = open_data(chosen.training.training_data, ("O", "H"), tmp_path)
        found = data_statistics(chosen, data, [cache])
        write_statistics(cache, found)
        return found

    first = statistics()
    again = statistics()
    assert len(counted) == 1
    for name in ("mean", "stddev", "bias"):
        np.testing.assert_array_equal(getattr(again, name), getattr(first, name))
    assert (again.sel, again.max_neighbors, again.crowded) == (first.sel, first.max_neighbors, first.crowded)

    statistics(settings(changes | {"model.descriptor.rcut": 3.0}))
    assert len(counted) == 2

    energies = tmp_path / "small" / "set.000" / "energy.npy"
    times = energies.stat()
    np.save(energies, np.load(energies) + 1.0)
    changed = statistics()
    assert len(counted) == 3
    assert not np.allclose(changed.bias, first.bias)

    # Another file of the same size that claims to be older, as a copy with its times does.
    np.save(energies, np.load(energies) + 1.0)
    os.utime(energies, ns=(times.st_atime_ns, times.st_mtime_ns - 10**9))
    statistics()
    assert len(counted) == 4

    for damage in ("{", "[]", json.dumps({"fingerprint": "x"})):
        cache.write_text(damage)
        assert statistics().fingerprint
    assert len(counted) == 7


def test_frames_count_as_often_as_they_are_taken(tmp_path):
    """numb_copy.npy: a frame that is taken three times counts three times, and one that never is does not."""
    write_toy(tmp_path / "system", frames=4)
    np.save(tmp_path / "system" / "set.000" / "numb_copy.npy", [1, 3, 0, 1])
    (system,) = open_systems(str(tmp_path / "system"), ["O", "H"])
    energies = [system.frame(n).energy for n in range(4)]
    found = [frame.energy for frame in sampled_frames([system], [1], 10)]
    assert found == [energies[n] for n in (0, 1, 1, 1, 3)]


def cached(path) -> dict:
    """A file of statistics; its contents."""
    numbers = np.zeros((2, 4)), np.full((2, 4), 0.2), np.array([-3.0, 2.0])
    told = np.array([0.5]), np.array([0.1])
    write_statistics(path, Statistics(*numbers, 20, 17, "water, frame 3", *told, [0, 1], np.inf, "abc"))
    return json.loads(path.read_text())


def test_statistics_come_back(tmp_path):
    content = cached(tmp_path / "statistics.json")
    found = read_statistics(tmp_path / "statistics.json", "abc")
    assert found is not None
    np.testing.assert_array_equal(found.bias, [-3.0, 2.0])
    assert (found.sel, found.crowded, found.min_distance) == (20, "water, frame 3", np.inf)
    assert read_statistics(tmp_path / "statistics.json", "abd") is None
    del content["digest"]  # as in files of earlier versions
    (tmp_path / "statistics.json").write_text(json.dumps(content))
    assert read_statistics(tmp_path / "statistics.json", "abc") is not None


@pytest.mark.parametrize(
    ("key", "value"),
    [
        ("bias", [-3.0, float("nan")]),
        ("bias", [-3.0]),
        ("bias", "ab"),
        ("mean", [[0.0] * 4]),
        ("mean", [[0.0] * 4, [0.0] * 3]),
        ("stddev", [[0.2] * 4, [0.0] * 4]),
        ("stddev", [[0.2] * 4, [-0.2] * 4]),
        ("stddev", None),
        ("parameter_deviation", [0.0]),
        ("parameter_deviation", []),
        ("sel", 0),
        ("sel", "20"),
        ("sel", 20.0),
        ("observed", [2]),
        ("observed", 0),
        ("min_distance", -1.0),
        ("min_distance", None),
        ("crowded", 5),
        ("strange", 1),
        ("fingerprint", ["abc"]),
    ],
)
def test_statistics_with_wrong_contents_are_not_used(tmp_path, key, value):
    """They are a cache: what is wrong is computed anew, whether a digest says so or not."""
    path = tmp_path / "statistics.json"
    content = cached(path) | {key: value}
    path.write_text(json.dumps(content))
    assert read_statistics(path, "abc") is None
    del content["digest"]
    path.write_text(json.dumps(content | {"digest": fingerprint(content)}))
    assert read_statistics(path, "abc") is None


@pytest.mark.parametrize("text", ["", "[]", "1", "null", "[" * 50_000, '{"fingerprint": "abc"}', "1" * 5000])
def test_files_that_are_no_statistics(tmp_path, text):
    (tmp_path / "statistics.json").write_text(text)
    assert read_statistics(tmp_path / "statistics.json", "abc") is None
    assert not is_statistics(tmp_path / "statistics.json")


def test_a_changed_digit_of_statistics_is_noticed(tmp_path):
    path = tmp_path / "statistics.json"
    cached(path)
    path.write_text(path.read_text().replace("-3.0", "-3.1"))
    assert read_statistics(path, "abc") is None
