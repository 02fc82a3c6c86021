"""Lists with a skin give what a fresh search gives, to the last bit, for whatever the atoms do."""

import time
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest

from dpax.errors import InputError
from dpax.geometry.neighbors import EdgeList, find_edges
from dpax.geometry.skin import SkinLists

CELL = np.array([[9.0, 0.0, 0.0], [2.5, 8.5, 0.0], [-1.0, 2.0, 9.5]])
CUTOFF = 4.0
PERIODIC = (True, True, True)


def atoms(seed: int = 0, count: int = 40) -> np.ndarray:
    return np.random.default_rng(seed).uniform(-5.0, 12.0, (count, 3))


def assert_same(found: EdgeList, expected: EdgeList) -> None:
    for name, one, other in zip(EdgeList._fields, found, expected, strict=True):
        np.testing.assert_array_equal(one, other, err_msg=name)


@pytest.mark.parametrize("pbc", [PERIODIC, (True, False, True), (False, False, False)])
@pytest.mark.parametrize("strain", [0.0, 2e-3], ids=["fixed cell", "cell that moves"])
def test_every_step_of_a_hot_trajectory(pbc, strain):
    """Atoms that walk through the faces of the cell, in a cell that may change its shape."""
    rng = np.random.default_rng(1)
    positions, cell, lists = atoms(), CELL, SkinLists(CUTOFF, 1.0)
    for _ in range(150):
        assert_same(lists.find(positions, cell, pbc), find_edges(positions, cell, pbc, CUTOFF))
        deformation = np.eye(3) + strain * rng.normal(size=(3, 3))
        cell = cell @ deformation
        positions = positions @ deformation + 0.04 * rng.normal(size=positions.shape)
    assert 3 < lists.searches < 75


def test_a_deformation_alone_uses_up_the_skin():
    """Atoms that are pressed together with the cell come into the cutoff without having moved in it."""
    positions, lists = atoms(), SkinLists(CUTOFF, 1.0)
    for scale in (1.0, 0.95, 0.9, 0.85, 0.7, 1.0, 1.4):
        found = lists.find(scale * positions, scale * CELL, PERIODIC)
        assert_same(found, find_edges(scale * positions, scale * CELL, PERIODIC, CUTOFF))
    assert 1 < lists.searches < 7


def test_structures_in_turn_find_their_own_lists():
    lists, images = SkinLists(CUTOFF), [atoms(seed) for seed in range(5)]
    for _ in range(4):
        for number, positions in enumerate(images):
            positions += 0.01
            assert_same(lists.find(positions, CELL, PERIODIC), find_edges(positions, CELL, PERIODIC, CUTOFF))
            assert lists.searches <= 2 * len(images), number
    assert_same(
        lists.find(images[0], CELL, (True, True, False)), find_edges(images[0], CELL, (1, 1, 0), CUTOFF)
    )
    assert lists.searches == 2 * len(images) + 1


def test_structures_that_have_nothing_in_common_are_searched_without_a_skin():
    lists = SkinLists(CUTOFF)
    for seed in range(3):
        lists.find(atoms(seed), CELL, PERIODIC)
    assert [one.skin for one in lists._lists] == [0.0] * 3
    lists.find(atoms(1), CELL, PERIODIC)
    assert lists.searches == 3
    lists.find(atoms(1) + 0.1, CELL, PERIODIC)
    assert sorted(one.skin for one in lists._lists) == [0.0, 0.0, lists.skin]


def test_lists_do_not_pile_up(monkeypatch):
    pairs = len(find_edges(atoms(), CELL, PERIODIC, CUTOFF).i)
    monkeypatch.setattr("dpax.geometry.skin.PAIRS_KEPT", 3 * pairs)
    lists = SkinLists(CUTOFF, 1.0)
    for seed in range(6):
        lists.find(atoms(seed), CELL, PERIODIC)
    assert 1 <= len(lists._lists) <= 4


def test_many_small_structures_do_not_pile_up(monkeypatch):
    """All lists are looked through for each structure: there must not be thousands of them."""
    monkeypatch.setattr("dpax.geometry.skin.LISTS_KEPT", 5)
    lists = SkinLists(CUTOFF)
    for seed in range(9):
        lists.find(atoms(seed, 3), CELL, PERIODIC)
    assert len(lists._lists) == 5
    lists.find(atoms(8, 3), CELL, PERIODIC)
    assert lists.searches == 9


def test_threads_share_them(monkeypatch):
    """Each walks with its own atoms, and may be interrupted while it looks through the lists."""
    needed = SkinLists._needed
    monkeypatch.setattr(SkinLists, "_needed", lambda *a: (needed(*a), time.sleep(1e-4))[0])
    lists, steps = SkinLists(CUTOFF), 30

    def walk(seed: int) -> None:
        rng, positions = np.random.default_rng(seed), atoms(seed)
        for _ in range(steps):
            assert_same(lists.find(positions, CELL, PERIODIC), find_edges(positions, CELL, PERIODIC, CUTOFF))
            positions = positions + 0.02 * rng.normal(size=positions.shape)

    with ThreadPoolExecutor(6) as threads:
        list(threads.map(walk, range(6)))
    assert lists.searches < 6 * steps / 3


def test_mistakes_are_found_in_a_list_at_hand():
    positions, lists = atoms(), SkinLists(CUTOFF)
    lists.find(positions, CELL, PERIODIC)
    meeting = positions.copy()
    meeting[:2] = [[0.0, 0.0, 0.0], [0.1, 0.0, 0.0]]
    lists.find(meeting, CELL, PERIODIC)
    meeting[1] = 0.0
    with pytest.raises(InputError, match=r"0 and 1 .* same position"):
        lists.find(meeting, CELL, PERIODIC)
    positions[3] = np.nan
    with pytest.raises(InputError, match=r"atom 3 .* NaN"):
        lists.find(positions, CELL, PERIODIC)
