"""Batches: every label in its place, flags where there is none, no dependence on company."""

from dataclasses import replace

import jax
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from dpax.data import CapacityPlanner, ParameterWidths, label_widths, make_batch
from dpax.data.quantities import LABELS
from dpax.errors import InputError

from .builders import OneFrame, random_frame

CUTOFF = 4.0


def shapes_of(arrays) -> tuple:
    return tuple(array.shape for array in jax.tree.leaves(arrays))


@given(st.lists(st.tuples(st.integers(1, 9), st.booleans(), st.booleans()), min_size=1, max_size=5))
def test_labels_and_flags_belong_to_their_frames(recipe):
    frames = [
        random_frame(size, seed=k, periodic=periodic, labels=labels, source=f"frame {k}")
        for k, (size, periodic, labels) in enumerate(recipe)
    ]
    neighborhoods, labels, sources = make_batch(frames, CUTOFF, CapacityPlanner(), np.float32)
    assert sources == tuple(f"frame {k}" for k in range(len(frames)))
    assert neighborhoods.edges.dtype == np.float32
    n_frames = labels.n_frames
    start = 0
    for number, frame in enumerate(frames):
        rows = slice(start, start := start + len(frame.types))
        flag = float(frame.energy is not None)
        assert (neighborhoods.frames[rows] == number).all()
        assert labels.n_atoms[number] == len(frame.types)
        assert labels.values["energy"][number] == (frame.energy or 0.0)
        assert np.array_equal(
            labels.values["forces"][rows], frame.forces if flag else np.zeros((len(frame.types), 3))
        )
        assert np.array_equal(labels.values["virial"][number], frame.virial if flag else np.zeros((3, 3)))
        assert np.array_equal(
            labels.values["atom_energies"][rows], frame.atom_energies if flag else np.zeros(len(frame.types))
        )
        assert labels.has.keys() == {"energy", "forces", "virial", "atom_energies"}
        for flags in labels.has.values():
            assert flags[number] == flag
    assert (neighborhoods.frames[start:] == n_frames).all()
    assert (labels.n_atoms[len(frames) :] == 1).all()
    for name, array in labels.values.items():
        assert not array[start if name in ("forces", "atom_energies") else len(frames) :].any()
        assert not labels.has[name][len(frames) :].any()
        assert len(array) == len(labels.has[name]) == n_frames


def test_labels_are_flagged_one_by_one():
    frame = replace(random_frame(), forces=None, atom_energies=None)
    labels = make_batch([frame], CUTOFF, CapacityPlanner(), np.float64).labels
    flags = {name: array[0] for name, array in labels.has.items()}
    assert flags == {"energy": 1, "forces": 0, "virial": 1, "atom_energies": 0}


def test_rare_labels_and_parameters_belong_to_their_atoms():
    with_all = [random_frame(4, seed=1, rare=True), random_frame(6, seed=2, rare=True)]
    middle = replace(
        random_frame(3, seed=3, labels=False), fparam=np.zeros(2), aparam=np.zeros((3, 3)), source="middle"
    )
    frames = [with_all[0], middle, with_all[1]]
    widths = ParameterWidths(2, 3)
    neighborhoods, labels, _ = make_batch(frames, CUTOFF, CapacityPlanner(), np.float32, parameters=widths)
    parameters = np.asarray(neighborhoods.parameters)
    assert parameters.shape == (labels.n_frames, 5)
    assert parameters.dtype == np.float64
    start = 0
    for number, frame in enumerate(frames):
        rows = slice(start, start := start + len(frame.types))
        assert np.array_equal(
            parameters[rows], np.column_stack([[frame.fparam] * len(frame.types), frame.aparam])
        )
        for name in ("atom_pref", "atom_ener_coeff", "drdq", "hessian"):
            value, place = getattr(frame, name), labels.values[name][rows]
            assert labels.has[name][number] == (value is not None)
            if name == "hessian":
                assert not np.delete(place, np.arange(rows.start, rows.stop), axis=2).any()
                place = place[:, :, rows]
            assert np.array_equal(
                place, np.zeros(place.shape) if value is None else value.reshape(place.shape)
            )
    assert not parameters[start:].any()


def test_labels_that_no_frame_has_take_no_memory():
    labels = make_batch([random_frame()], CUTOFF, CapacityPlanner(), np.float64).labels
    assert labels.values.keys().isdisjoint(("atom_pref", "atom_ener_coeff", "drdq", "hessian"))


def test_a_data_set_has_one_set_of_label_shapes():
    plain, rich = OneFrame(random_frame(seed=1)), OneFrame(random_frame(seed=2, rare=True))
    widths = label_widths([plain, rich])
    assert widths == dict.fromkeys(LABELS, 0) | {"drdq": 2}
    shapes = [
        shapes_of(make_batch([s.frame(0)], CUTOFF, CapacityPlanner(), np.float64, labels=w)[1])
        for s, w in ((plain, widths), (rich, None))
    ]
    assert shapes[0] == shapes[1]


def test_another_number_of_generalized_coordinates_is_refused():
    frames = [random_frame(rare=True), replace(random_frame(rare=True), drdq=np.ones((15, 4)), source="odd")]
    with pytest.raises(InputError, match=r"odd: drdq has 4 columns, other frames 2"):
        make_batch(frames, CUTOFF, CapacityPlanner(), np.float64)


def test_parameters_that_the_model_takes_must_be_there():
    frame = random_frame(3, source="frame 7")
    assert ParameterWidths(2, 0, (1.5, 2.5)).of(frame).tolist() == [[1.5, 2.5]] * 3
    assert ParameterWidths().of(frame).shape == (3, 0)
    with pytest.raises(
        InputError, match=r"frame 7: has no fparam, of which the model takes 2 for each frame"
    ):
        ParameterWidths(2).of(frame)
    with pytest.raises(InputError, match=r"frame 7: has no aparam, of which the model takes 1 for each atom"):
        ParameterWidths(0, 1).of(frame)
    with pytest.raises(InputError, match=r"frame 7: has 4 fparam for each frame, but the model takes 2"):
        ParameterWidths(2, 0, (0.0, 0.0)).of(replace(frame, fparam=np.ones(4)))


def test_energies_keep_their_digits():
    frame = replace(random_frame(), energy=-29945.123456789)
    assert (
        make_batch([frame], CUTOFF, CapacityPlanner(), np.float32).labels.values["energy"][0]
        == -29945.123456789
    )


def test_the_number_of_frames_makes_no_new_shape():
    planner = CapacityPlanner(atom_multiple=32)
    shapes = set()
    for sizes in ([32], [16, 16], [8] * 4, [4] * 8, [1] * 32):
        frames = [random_frame(n, seed=k, periodic=False) for k, n in enumerate(sizes)]
        batch = make_batch(frames, 0.5, planner, np.float32)
        shapes.add(shapes_of(batch[:2]))
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
