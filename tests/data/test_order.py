"""The order of batches: complete, reproducible, and resumable at any point."""

import json
from collections import Counter

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from dpax.data import BatchOrder
from dpax.errors import InputError

shapes = st.lists(st.tuples(st.integers(1, 12), st.integers(1, 5)), min_size=1, max_size=4)


def order_of(shape, seed=1, probabilities=None):
    return BatchOrder([range(n) for n, _ in shape], [size for _, size in shape], seed, probabilities)


def draw(order, steps):
    """The system and the frames of each batch; of a mixed batch its pairs."""
    batches = [order.next() for _ in range(steps)]
    systems = [{system for system, _ in batch} for batch in batches]
    assert all(len(found) == 1 for found in systems)
    return [(found.pop(), [k for _, k in batch]) for found, batch in zip(systems, batches, strict=True)]


@given(shapes, st.integers(0, 2**31), st.integers(0, 60), st.integers(1, 40))
def test_a_restored_order_is_the_uninterrupted_one(shape, seed, before, after):
    order = order_of(shape, seed)
    draw(order, before)
    state = json.loads(json.dumps(order.state()))
    expected = draw(order, after)
    resumed = order_of(shape, seed)
    resumed.restore(state)
    assert draw(resumed, after) == expected
    order.restore(state)
    assert draw(order, after) == expected


@given(st.integers(1, 20), st.integers(1, 7), st.integers(0, 100))
def test_every_epoch_takes_each_frame_at_most_once_and_drops_only_the_tail(frames, size, seed):
    order = order_of([(frames, size)], seed)
    size = min(size, frames)
    for _ in range(3):
        epoch = [index for _, batch in draw(order, frames // size) for index in batch]
        assert len(set(epoch)) == len(epoch) == size * (frames // size)
        assert set(epoch) <= set(range(frames))


def test_a_small_system_gives_all_its_frames():
    assert all(sorted(batch) == [0, 1, 2] for _, batch in draw(order_of([(3, 8)]), 5))


def test_epochs_and_seeds_shuffle_differently():
    first = draw(order_of([(50, 50)]), 2)
    assert first[0] != first[1]
    assert draw(order_of([(50, 50)], seed=2), 1) != first[:1]


def test_systems_come_in_proportion_to_their_batches():
    seen = Counter(system for system, _ in draw(order_of([(80, 1), (10, 2), (5, 5), (10, 1)]), 9600))
    assert [seen[k] / 100 for k in range(4)] == pytest.approx([80, 5, 1, 10], abs=3)


def test_or_as_told():
    order = order_of([(80, 1), (10, 1), (5, 1)], probabilities=[1, 0, 3])
    seen = Counter(system for system, _ in draw(order, 4000))
    assert seen[1] == 0
    assert seen[2] / seen[0] == pytest.approx(3, rel=0.15)


@pytest.mark.parametrize("probabilities", [[1], [1, 2, 3], [1, -1], [0, 0], [1, np.nan]])
def test_probabilities_must_fit(probabilities):
    with pytest.raises(InputError, match="2 numbers >= 0"):
        order_of([(3, 1), (4, 1)], probabilities=probabilities)


class Copied(list):
    """A system that wants its frames taken so many times."""

    @property
    def copies(self):
        return np.array(self)


def test_frames_are_repeated_as_their_copies_say():
    order = BatchOrder([Copied([2, 0, 1, 3])], [2], seed=4)
    for _ in range(3):
        assert Counter(k for _ in range(3) for _, k in order.next()) == {0: 2, 2: 1, 3: 3}


@given(shapes, st.integers(1, 6), st.integers(0, 30), st.integers(1, 20))
def test_mixed_batches_are_of_all_systems_and_resumable(shape, size, before, after):
    def fresh():
        return BatchOrder([range(n) for n, _ in shape], [size] * len(shape), 5, mixed=True)

    order = fresh()
    batches = [order.next() for _ in range(before)]
    assert all(len(batch) == size for batch in batches)
    state = json.loads(json.dumps(order.state()))
    expected = [order.next() for _ in range(after)]
    resumed = fresh()
    resumed.restore(state)
    assert [resumed.next() for _ in range(after)] == expected
    for system, (frames, _) in enumerate(shape):
        taken = [k for batch in batches + expected for s, k in batch if s == system]
        whole = [taken[i : i + frames] for i in range(0, len(taken) - frames + 1, frames)]
        assert all(sorted(part) == list(range(frames)) for part in whole)


def test_mixed_batches_draw_every_system_as_often_as_it_has_frames():
    order = BatchOrder([range(30), range(10)], [8, 8], 1, [3, 1], mixed=True)
    seen = Counter(system for _ in range(1000) for system, _ in order.next())
    assert seen[0] / 8000 == pytest.approx(0.75, abs=0.02)


def test_other_data_cannot_be_resumed():
    state = order_of([(3, 1), (4, 1)]).state()
    with pytest.raises(InputError, match=r"systems of 3, 4 frames, but the data now has 3, 5"):
        order_of([(3, 1), (5, 1)]).restore(state)
