"""Array sizes: always large enough, few, and not much too large."""

import json

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from dpax.data import CapacityPlanner
from dpax.data.capacity import cost
from dpax.geometry.neighborhoods import Capacity

needs = st.lists(st.tuples(st.integers(1, 500), st.integers(1, 150)), min_size=1, max_size=40)


def molecules(rng, sizes):
    """Batches of one molecule size each, by the rule of at least 32 atoms."""
    n = int(rng.choice(sizes))
    return -(-32 // n) * n, int(min(n, rng.integers(50, 80)))


def crystals(rng, sizes):
    n = int(rng.choice(sizes))
    return -(-32 // n) * n, int(rng.integers(80, 110))


@given(needs, st.integers(1, 64), st.integers(2, 8), st.booleans())
def test_a_capacity_always_holds_the_need(needs, multiple, programs, primed):
    planner = CapacityPlanner(multiple, programs)
    if primed:
        planner.prime([Capacity(*need) for need in needs[: len(needs) // 2]])
    for atoms, slots in needs:
        capacity = planner.fit(atoms, slots)
        assert capacity.atoms >= atoms
        assert capacity.slots >= slots
        assert capacity.atoms % multiple == 0
        assert capacity.slots % 8 == 0


@pytest.mark.parametrize("draw", [molecules, crystals])
@pytest.mark.parametrize("seed", range(20))
def test_mixed_sizes_make_few_programs_and_little_waste(draw, seed):
    rng = np.random.default_rng(seed)
    sizes = rng.integers(5, 201, 40)
    batches = [draw(rng, sizes) for _ in range(600)]
    planner = CapacityPlanner(atom_multiple=8)
    planner.prime([Capacity(*need) for need in batches[:64]])
    used = [planner.fit(*need) for need in batches]
    assert len(set(used)) <= 6
    spent = sum(map(cost, used))
    needed = sum(cost(Capacity(atoms, -(-slots // 8) * 8)) for atoms, slots in batches)
    assert spent < 1.8 * needed


@pytest.mark.parametrize("draw", [molecules, crystals])
@pytest.mark.parametrize("seed", range(20))
def test_few_programs_even_without_foreknowledge(draw, seed):
    rng = np.random.default_rng(seed)
    sizes = rng.integers(5, 201, 40)
    planner = CapacityPlanner(atom_multiple=8)
    assert len({planner.fit(*draw(rng, sizes)) for _ in range(600)}) <= 7


def test_one_size_of_frames_is_padded_by_nothing_but_the_multiple():
    planner = CapacityPlanner(atom_multiple=16)
    assert planner.fit(192, 104) == (192, 104)
    assert planner.fit(192, 97) == (192, 104)


def test_drifting_neighbour_counts_compile_few_programs():
    planner = CapacityPlanner(atom_multiple=1)
    used = [planner.fit(1000, slots) for slots in range(80, 121)]
    assert len(set(used)) <= 4


def test_systems_far_apart_in_size_get_their_own_programs():
    planner = CapacityPlanner()
    planner.prime([Capacity(8, 16), Capacity(800, 96)] * 10)
    assert planner.fit(8, 16) == (8, 16)
    assert planner.fit(800, 96) == (800, 96)


@given(needs, needs)
def test_a_restored_planner_chooses_the_same(before, after):
    planner = CapacityPlanner()
    for need in before:
        planner.fit(*need)
    state = json.loads(json.dumps(planner.state()))
    expected = [planner.fit(*need) for need in after]
    resumed = CapacityPlanner()
    assert not resumed.primed
    resumed.restore(state)
    assert resumed.primed
    assert [resumed.fit(*need) for need in after] == expected


@given(needs, needs)
def test_sizes_of_another_number_of_devices_are_rounded_up(before, after):
    planner, resumed = CapacityPlanner(atom_multiple=1), CapacityPlanner(atom_multiple=4)
    for need in before:
        planner.fit(*need)
    resumed.restore(planner.state())
    for need in after:
        capacity = resumed.fit(*need)
        assert capacity.atoms % 4 == 0
        assert capacity.atoms >= need[0]
        assert capacity.slots >= need[1]
