"""Batches: every label in its place, flags where there is none, no dependence on company."""

from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from dpax.data import CapacityPlanner, make_batch
from dpax.errors import InputError

from .builders import random_frame

CUTOFF = 4.0


@given(st.lists(st.tuples(st.integers(1, 9), st.booleans(), st.booleans()), min_size=1, max_size=5))
def test_labels_and_flags_belong_to_their_frames(recipe):
    frames = [
        random_frame(size, seed=k, periodic=periodic, labels=labels, source=f"frame {k}")
        for k, (size, periodic, labels) in enumerate(recipe)
    ]
    neighborhoods, labels, sources = make_batch(frames, CUTOFF, CapacityPlanner(), np.float32)
    assert sources == tuple(f"frame {k}" for k in range(len(frames)))
    assert neighborhoods.edges.dtype == np.float32
    n_frames = len(labels.energy)
    assert all(len(array) == n_frames for array in labels)
    start = 0
    for number, frame in enumerate(frames):
        rows = slice(start, start := start + len(frame.types))
        flag = float(frame.energy is not None)
        assert (neighborhoods.frames[rows] == number).all()
        assert labels.n_atoms[number] == len(frame.types)
        assert labels.energy[number] == (frame.energy or 0.0)
        assert np.array_equal(labels.forces[rows], frame.forces if flag else np.zeros((len(frame.types), 3)))
        assert np.array_equal(labels.virial[number], frame.virial if flag else np.zeros((3, 3)))
        assert np.array_equal(
            labels.atom_energies[rows], frame.atom_energies if flag else np.zeros(len(frame.types))
        )
        for flags in (labels.has_energy, labels.has_forces, labels.has_virial, labels.has_atom_energies):
            assert flags[number] == flag
    assert (neighborhoods.frames[start:] == n_frames).all()
    assert (labels.n_atoms[len(frames) :] == 1).all()
    for array in labels[:8]:
        per_atom = array is labels.forces or array is labels.atom_energies
        assert not array[start if per_atom else len(frames) :].any()


def test_labels_are_flagged_one_by_one():
    frame = replace(random_frame(), forces=None, atom_energies=None)
    labels = make_batch([frame], CUTOFF, CapacityPlanner(), np.float64).labels
    flags = (labels.has_energy, labels.has_forces, labels.has_virial, labels.has_atom_energies)
    assert [array[0] for array in flags] == [1, 0, 1, 0]


def test_energies_keep_their_digits():
    frame = replace(random_frame(), energy=-29945.123456789)
    assert make_batch([frame], CUTOFF, CapacityPlanner(), np.float32).labels.energy[0] == -29945.123456789


def test_the_number_of_frames_makes_no_new_shape():
    planner = CapacityPlanner(atom_multiple=32)
    shapes = set()
    for sizes in ([32], [16, 16], [8] * 4, [4] * 8, [1] * 32):
        frames = [random_frame(n, seed=k, periodic=False) for k, n in enumerate(sizes)]
        batch = make_batch(frames, 0.5, planner, np.float32)
        shapes.add(tuple(array.shape for part in batch[:2] for array in part))
    assert len(shapes) == 1


def test_a_frame_has_the_same_neighbours_in_any_company():
    one, other = random_frame(7, seed=1), random_frame(4, seed=2)
    alone = make_batch([one], CUTOFF, CapacityPlanner(), np.float64).neighborhoods
    together = make_batch([other, one], CUTOFF, CapacityPlanner(), np.float64).neighborhoods
    n = alone.neighbors.shape[1]
    found = np.asarray(together.neighbors[4:11, :n])
    assert np.array_equal(np.where(found >= 0, found - 4, -1), alone.neighbors[:7])
    assert np.array_equal(together.edges[4:11, :n], alone.edges[:7])


def test_coincident_atoms_are_refused_with_the_name_of_the_frame():
    frame = random_frame(3, source="water/data_0/set.000 frame 12")
    twin = replace(frame, positions=frame.positions[[0, 1, 1]])
    with pytest.raises(InputError, match=r"^water/data_0/set.000 frame 12: atoms 1 and 2"):
        make_batch([twin], CUTOFF, CapacityPlanner(), np.float32)
