"""Batches made ahead: in order, cached, resumable bit for bit, and honest about errors."""

import json
import threading
from dataclasses import replace
from unittest import mock

import jax
import numpy as np
import pytest

from dpax.data import BatchLoader, BatchOrder, CapacityPlanner, make_batch
from dpax.data import batches as batches_module
from dpax.errors import InputError

from .builders import random_frame

CUTOFF = 4.0


class Listed:
    """A system of frames in memory."""

    type_map = ("O", "H")
    labels = frozenset({"energy", "forces", "virial", "atom_energies"})

    def __init__(self, name, frames):
        self.name = name
        self.frames = frames

    def __len__(self):
        return len(self.frames)

    def n_atoms(self, index):
        return len(self.frames[index].types)

    def frame(self, index):
        return self.frames[index]


def listed(name, size, count):
    return Listed(name, [random_frame(size, seed=k, source=f"{name} frame {k}") for k in range(count)])


SYSTEMS = [listed("small", 3, 7), listed("medium", 9, 5), listed("large", 40, 4)]
SIZES = [4, 2, 1]


def parts(seed=3):
    return BatchOrder(SYSTEMS, SIZES, seed), CapacityPlanner()


def loader_of(order, planner, systems=SYSTEMS, **options):
    return BatchLoader(systems, order, CUTOFF, planner, np.float32, **options)


def same(first, second):
    arrays = [jax.tree.leaves(batch[:2]) for batch in (first, second)]
    return first.sources == second.sources and all(np.array_equal(a, b) for a, b in zip(*arrays, strict=True))


def test_batches_come_in_the_order_and_hold_its_frames():
    expected = BatchOrder(SYSTEMS, SIZES, 3)
    order, planner = parts()
    with loader_of(order, planner) as loader:
        for _ in range(20):
            batch, state = next(loader)
            picked = expected.next()
            assert batch.sources == tuple(f"{SYSTEMS[system].name} frame {k}" for system, k in picked)
            assert state == expected.state()
            # What the caller holds stands at the consumed batches, not at those made ahead.
            assert order.state() == expected.state()


@pytest.mark.parametrize("depth", [0, 2, 5])
@pytest.mark.parametrize("stop", [1, 6, 13])
def test_a_resumed_loader_gives_the_very_same_arrays(monkeypatch, depth, stop):
    order, planner = parts()
    with loader_of(order, planner) as loader:
        for _ in range(stop):
            _, state = next(loader)
        saved = json.loads(json.dumps([state, planner.state()]))
        expected = [next(loader)[0] for _ in range(8)]
    order, planner = parts()
    order.restore(saved[0])
    planner.restore(saved[1])
    monkeypatch.setattr("dpax.data.loader.AHEAD", depth)
    with loader_of(order, planner) as loader:
        assert all(same(next(loader)[0], batch) for batch in expected)


def test_array_sizes_are_chosen_from_a_look_ahead():
    order, planner = parts()
    with loader_of(order, planner) as loader:
        shapes = {next(loader)[0].neighborhoods.edges.shape for _ in range(60)}
    assert len(shapes) <= 4
    assert len(shapes) == len({tuple(c) for c in planner.state()["capacities"]})


def test_neighbours_are_searched_once_for_each_frame():
    order, planner = parts()
    with mock.patch.object(batches_module, "find_edges", wraps=batches_module.find_edges) as search:
        with loader_of(order, planner) as loader:
            for _ in range(60):
                next(loader)
        assert search.call_count == sum(map(len, SYSTEMS))


def test_the_cache_changes_nothing():
    with loader_of(*parts()) as cached, loader_of(*parts(), cache_bytes=0) as fresh:
        assert all(same(next(cached)[0], next(fresh)[0]) for _ in range(15))


def test_a_batch_of_the_loader_is_that_of_make_batch():
    order, planner = parts()
    with loader_of(order, planner) as loader:
        batch, _ = next(loader)
    frames = [SYSTEMS[system].frame(k) for system, k in BatchOrder(SYSTEMS, SIZES, 3).next()]
    assert same(batch, make_batch(frames, CUTOFF, planner, np.float32))


def test_a_bad_frame_is_reported_where_the_batch_is_asked_for():
    good = listed("good", 4, 40)
    bad = good.frames[25]
    good.frames[25] = replace(bad, positions=bad.positions[[0, 0, 1, 2]])
    order = BatchOrder([good], [1], 0)
    first_bad = next(k for k in range(40) if (0, 25) in order.next())
    planner = CapacityPlanner()
    planner.fit(8, 64)
    with loader_of(BatchOrder([good], [1], 0), planner, [good]) as loader:
        for _ in range(first_bad):
            next(loader)
        with pytest.raises(InputError, match="good frame 25: atoms 0 and 1"):
            next(loader)


def test_the_worker_ends_with_the_loader():
    with loader_of(*parts()) as loader:
        next(loader)
        assert any("dpax-batches" in thread.name for thread in threading.enumerate())
    assert not any("dpax-batches" in thread.name for thread in threading.enumerate())
