"""find_edges against brute force in every kind of cell a user may bring, and packing into slots."""

import time

import numpy as np
import pytest
from hypothesis import assume, given, settings
from hypothesis import strategies as st

from dpax.errors import InputError
from dpax.geometry.neighborhoods import Capacity, capacity_needed, neighbor_counts, pack, surroundings
from dpax.geometry.neighbors import find_edges

from .brute_force import all_pairs

PERIODIC = (True, True, True)
FREE = (False, False, False)


def assert_same_as_brute_force(positions, cell, pbc, cutoff):
    found = find_edges(np.asarray(positions, float), cell, pbc, cutoff)
    expected = all_pairs(positions, cell, pbc, cutoff)
    keys = [
        (int(i), int(j), int(s[0]), int(s[1]), int(s[2]))
        for i, j, s in zip(found.i, found.j, found.shifts, strict=True)
    ]
    # A pair within rounding of the cutoff may fall on either side.
    vectors = [*expected.items(), *zip(keys, found.vectors, strict=True)]
    edge_of_reach = {key for key, vector in vectors if abs(np.linalg.norm(vector) - cutoff) < 1e-9}
    assert len(keys) == len(set(keys))
    assert set(keys) - edge_of_reach == set(expected) - edge_of_reach
    for key, vector in zip(keys, found.vectors, strict=True):
        if key in expected:
            np.testing.assert_allclose(vector, expected[key], atol=1e-9)
    assert (np.diff(found.i) >= 0).all()


coordinate = st.floats(-12.0, 12.0).map(lambda x: round(x, 3))


@st.composite
def structures(draw):
    n = draw(st.integers(0, 6))
    positions = np.array(draw(st.lists(st.tuples(*[coordinate] * 3), min_size=n, max_size=n))).reshape(n, 3)
    # Apart from each other by construction, so that no two atoms or images coincide.
    positions = positions + np.arange(n)[:, None] * np.array([0.0137, 0.0071, 0.0239])
    lengths = draw(st.tuples(*[st.floats(2.0, 9.0)] * 3))
    skew = draw(st.tuples(*[st.floats(-0.9, 0.9)] * 3))
    cell = np.diag(lengths)
    cell[1, 0], cell[2, 0], cell[2, 1] = (s * length for s, length in zip(skew, lengths, strict=True))
    cell = cell[list(draw(st.permutations([0, 1, 2])))]
    if draw(st.booleans()):
        cell = -cell
    pbc = draw(st.tuples(st.booleans(), st.booleans(), st.booleans()))
    if draw(st.booleans()):
        cell = np.where(np.array(pbc)[:, None], cell, 0.0)
    return positions, cell, pbc, draw(st.floats(1.0, 5.0))


@settings(max_examples=150, deadline=None)
@given(structures())
def test_every_cell_gives_the_pairs_of_brute_force(structure):
    positions, cell, pbc, cutoff = structure
    expected = all_pairs(positions, cell, pbc, cutoff)
    assume(all(np.linalg.norm(vector) > 1e-6 for vector in expected.values()))
    assert_same_as_brute_force(positions, cell, pbc, cutoff)


RNG = np.random.default_rng(7)
BOX = RNG.uniform(0, 10, (25, 3))
FAR = BOX + np.array([0, 0, 300])


@pytest.mark.parametrize(
    ("positions", "cell", "pbc", "cutoff"),
    [
        pytest.param(BOX, np.eye(3) * 10, PERIODIC, 4.0, id="cubic"),
        pytest.param(BOX, None, FREE, 4.0, id="free without a cell"),
        pytest.param(BOX, np.eye(3), FREE, 4.0, id="free, cell ignored"),
        pytest.param(BOX, np.diag([10, 10, 0]), (True, True, False), 4.0, id="slab, zero row"),
        pytest.param(BOX, np.diag([10, 0, 10]), (True, False, True), 4.0, id="slab across y"),
        pytest.param(BOX, [[10, 0, 0], [0, 10, 0], [10, 0, 0]], (True, True, False), 4.0, id="parallel row"),
        pytest.param(BOX, [[10, 0, 3], [0, 10, 2], [0, 0, 0]], (True, True, False), 4.0, id="tilted slab"),
        pytest.param(BOX, [[4, 3, 3], [0, 0, 0], [0, 0, 0]], (True, False, False), 4.0, id="tilted wire"),
        pytest.param(BOX[:2] / 5, np.eye(3) * 2.1, PERIODIC, 6.0, id="cell smaller than the cutoff"),
        pytest.param(BOX[:1], np.eye(3) * 2, PERIODIC, 6.0, id="one atom and its images"),
        pytest.param(BOX[:1], None, FREE, 6.0, id="one atom alone"),
        pytest.param(BOX[:0], None, FREE, 6.0, id="no atom"),
        pytest.param(BOX[:8] * [0.2, 0.2, 10], np.diag([2.0, 2, 100]), PERIODIC, 6.0, id="elongated"),
        pytest.param(BOX[:6], [[3, 1, 0], [0, 4, 2], [5, 0, -3]], PERIODIC, 5.0, id="left-handed"),
        pytest.param(BOX[:4], [[3, 0, 0], [9, 3, 0], [0, 9, 3]], PERIODIC, 4.0, id="very skewed"),
        pytest.param(FAR, np.eye(3) * 10, (True, True, False), 4.0, id="slab far from origin"),
    ],
)
def test_named_cells(positions, cell, pbc, cutoff):
    assert_same_as_brute_force(positions, cell, pbc, cutoff)


def test_a_pair_exactly_at_the_cutoff_is_inside():
    assert len(find_edges(np.array([[0.0, 0, 0], [4.0, 0, 0]]), None, FREE, 4.0).i) == 2


def test_atoms_far_outside_the_cell_are_the_same_crystal():
    inside = find_edges(BOX, np.eye(3) * 10, PERIODIC, 4.0)
    moved = RNG.integers(-10_000, 10_000, BOX.shape)
    outside = find_edges(BOX + 10.0 * moved, np.eye(3) * 10, PERIODIC, 4.0)
    assert np.array_equal(outside.i, inside.i)
    assert np.array_equal(outside.j, inside.j)
    np.testing.assert_allclose(outside.vectors, inside.vectors, atol=1e-9)
    assert np.array_equal(outside.shifts, inside.shifts + moved[inside.i] - moved[inside.j])


@pytest.mark.parametrize("pbc", [FREE, (True, False, False), (False, True, True)])
@pytest.mark.parametrize("spread", [1e3, 1e6])
def test_evaporated_atoms_cost_no_time_and_lose_no_neighbour(pbc, spread):
    cluster = BOX[:12]
    away = np.where(pbc, 0.0, spread)
    positions = np.concatenate([cluster, cluster + away, cluster - 2 * away]) + [[0.1], [0.2], [0.3]] * 12
    start = time.perf_counter()
    edges = find_edges(positions, np.eye(3) * 10, pbc, 4.0)
    assert time.perf_counter() - start < 5.0
    if spread < 1e4:
        assert_same_as_brute_force(positions, np.eye(3) * 10, pbc, 4.0)
    assert len(edges.i)


def test_a_very_large_thin_sheet_does_not_crash():
    corner = np.array([[1.0, 1.0, 1.0], [2.0, 1.0, 1.0]])
    positions = np.concatenate([corner, corner + np.array([5e3, 5e3, 0])])
    edges = find_edges(positions, np.diag([1e4, 1e4, 3.0]), PERIODIC, 4.0)
    assert np.array_equal(neighbor_counts(edges.i, 4), [5, 5, 5, 5])


def test_the_order_repeats():
    first = find_edges(BOX, np.eye(3) * 10, PERIODIC, 6.0)
    again = find_edges(BOX.copy(), np.eye(3) * 10, PERIODIC, 6.0)
    assert all(np.array_equal(a, b) for a, b in zip(first, again, strict=True))


@pytest.mark.parametrize(
    ("positions", "cell", "pbc", "words"),
    [
        ([[0, 0, 0], [0, 0, 0]], None, FREE, ["0 and 1", "same position"]),
        ([[0, 0, 0], [10, 0, 0]], np.eye(3) * 10, PERIODIC, ["same position"]),
        ([[0, 0, 0]], None, PERIODIC, ["no cell"]),
        ([[0, 0, 0]], [[1, 0, 0], [2, 0, 0], [0, 0, 1]], PERIODIC, ["zero volume"]),
        ([[0, 0, 0]], np.zeros((3, 3)), (True, False, False), ["zero volume"]),
        ([[0, 0, np.nan]], None, FREE, ["atom 0", "NaN"]),
        ([[0, 0, 0]], np.full((3, 3), np.inf), PERIODIC, ["NaN or infinite"]),
        ([[0, 0, 0], [1, 0, 0]], np.diag([1e9, 10, 10]), PERIODIC, ["elongated"]),
    ],
)
def test_impossible_structures_are_refused(positions, cell, pbc, words):
    with pytest.raises(InputError) as caught:
        find_edges(np.array(positions, float), cell, pbc, 4.0)
    assert all(word in str(caught.value) for word in words)


@settings(max_examples=40, deadline=None)
@given(st.lists(structures(), min_size=1, max_size=3), st.integers(0, 3), st.integers(0, 5))
def test_packing_keeps_every_edge_in_its_frame(frames, extra_frames, extra_atoms):
    try:
        edges = [find_edges(p, c, pbc, cutoff) for p, c, pbc, cutoff in frames]
    except InputError:
        return
    types = [np.arange(len(p), dtype=np.int32) % 3 for p, *_ in frames]
    parts = [surroundings(e, t) for e, t in zip(edges, types, strict=True)]
    atoms, slots = capacity_needed(parts)
    capacity = Capacity(atoms + extra_atoms, slots)
    packed = pack(parts, capacity, np.float64, len(frames) + extra_frames)
    start = 0
    for number, (edge_list, t, part) in enumerate(zip(edges, types, parts, strict=True)):
        rows = slice(start, start + len(t))
        used = packed.neighbors[rows] >= 0
        assert np.array_equal(used.sum(1), part.counts)
        assert (packed.frames[rows] == number).all()
        assert np.array_equal(packed.types[rows], t)
        assert np.array_equal(packed.edges[rows][used], edge_list.vectors)
        assert np.array_equal(packed.neighbors[rows][used], edge_list.j + start)
        assert np.array_equal(packed.neighbor_types[rows][used], t[edge_list.j])
        if len(t):
            assert (packed.neighbor_types[rows][~used] == t[0]).all()
            assert (~used).any(axis=1).all()
        start += len(t)
    assert (packed.types[start:] == -1).all()
    assert (packed.frames[start:] == len(frames) + extra_frames).all()


def test_pack_refuses_what_does_not_fit():
    edges = find_edges(BOX, None, FREE, 6.0)
    types = np.zeros(len(BOX), np.int32)
    part = surroundings(edges, types)
    slots = capacity_needed([part]).slots
    for atoms, columns, n_frames in [(24, slots, 1), (25, slots - 8, 1), (25, slots, 0)]:
        with pytest.raises(ValueError, match="do not fit"):
            pack([part], Capacity(atoms, columns), np.float32, n_frames)


@pytest.mark.parametrize(
    ("place", "cell", "words"),
    [
        (1e10, 5.0, r"atom 1 .*1e\+10 Å away"),
        (-3e9, 0.9, "1 .*Å away"),
        (9e8, 0.5, "atom 1 .*cells away"),
    ],
)
def test_an_atom_too_far_away_is_refused(place, cell, words):
    positions = np.array([[0.0, 0.0, 0.0], [0.2, place, 0.0]])
    with pytest.raises(InputError, match=words):
        find_edges(positions, np.diag([5.0, cell, 5.0]), [True] * 3, 2.0)


def test_an_atom_many_cells_away_is_where_its_image_is():
    near, far = np.array([[0.0, 0, 0], [1.0, 0, 0]]), np.array([[0.0, 0, 0], [1.0 + 5.0 * 2**20, 0, 0]])
    ours, same = (find_edges(p, np.eye(3) * 5.0, [True] * 3, 2.0) for p in (far, near))
    np.testing.assert_allclose(ours.vectors, same.vectors, atol=1e-8)
