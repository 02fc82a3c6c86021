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
    return [(system, frames.tolist()) for system, frames in (order.next() for _ in range(steps))]


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


def test_other_data_cannot_be_resumed():
    state = order_of([(3, 1), (4, 1)]).state()
    with pytest.raises(InputError, match=r"systems of 3, 4 frames, but the data now has 3, 5"):
        order_of([(3, 1), (5, 1)]).restore(state)
