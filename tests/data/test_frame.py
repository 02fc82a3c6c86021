"""A frame that is not sound is refused with a message that says where and what."""

from dataclasses import replace

import numpy as np
import pytest

from dpax.data import Frame
from dpax.errors import InputError

from .builders import random_frame

GOOD = random_frame(4, source="water/data_0/set.000 frame 12")


def broken(array, value=np.nan):
    array = np.array(array, dtype=float)
    array.reshape(-1)[7] = value
    return array


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"positions": broken(GOOD.positions)}, ["positions", "NaN", "row 2"]),
        ({"forces": broken(GOOD.forces, np.inf)}, ["forces", "infinite", "row 2"]),
        ({"virial": broken(GOOD.virial)}, ["virial", "row 2"]),
        ({"energy": np.nan}, ["energy is nan"]),
        ({"atom_energies": np.full(4, np.inf)}, ["atom_energies", "row 0"]),
        ({"cell": broken(GOOD.cell)}, ["cell", "NaN"]),
        ({"forces": np.zeros((3, 3))}, ["forces", "[3, 3]", "[4, 3]"]),
        ({"positions": np.zeros(12)}, ["positions", "[12]", "[4, 3]"]),
        ({"virial": np.zeros(6)}, ["virial", "[6]", "[3, 3]"]),
        ({"atom_energies": np.zeros(3)}, ["atom_energies", "[3]", "[4]"]),
        ({"cell": np.zeros((3, 3))}, ["zero volume", "not periodic"]),
        ({"cell": None}, ["periodic", "no cell"]),
        ({"types": np.zeros(0)}, ["no atoms"]),
        ({"types": np.array([0, 1, -1, 0])}, ["types", ">= 0"]),
    ],
)
def test_an_unsound_frame_is_refused_by_name(changes, words):
    with pytest.raises(InputError) as caught:
        replace(GOOD, **changes)
    assert str(caught.value).startswith("water/data_0/set.000 frame 12: ")
    assert all(word in str(caught.value) for word in words)


def test_a_frame_needs_no_labels_and_no_cell_where_nothing_is_periodic():
    frame = Frame(np.zeros((1, 3)), np.array([0]), None, (False, False, False), "alone")
    assert frame.energy is None
    assert frame.types.dtype == np.int32


def test_a_slab_may_have_a_zero_vector_along_the_vacuum():
    replace(GOOD, cell=np.diag([9.0, 9.0, 0.0]), pbc=(True, True, False))


def test_arrays_become_float64():
    frame = replace(GOOD, positions=GOOD.positions.astype(np.float32), energy=np.float32(1.5))
    assert frame.positions.dtype == np.float64
    assert type(frame.energy) is float
