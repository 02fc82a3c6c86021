"""Cells: completion, wrapping, volume and strain."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from dpax.errors import InputError
from dpax.geometry.cell import complete_cell, heights, volume, wrap

TRICLINIC = np.array([[4.0, 0.5, 0.0], [1.0, 5.0, 0.3], [-0.7, 1.1, 6.0]])


@given(st.tuples(st.booleans(), st.booleans(), st.booleans()))
def test_a_completed_cell_keeps_periodic_rows_and_adds_unit_normals(pbc):
    full = complete_cell(TRICLINIC, pbc)
    on = np.array(pbc)
    assert np.array_equal(full[on], TRICLINIC[on])
    np.testing.assert_allclose(full[~on] @ full[~on].T, np.eye((~on).sum()), atol=1e-12)
    np.testing.assert_allclose(full[~on] @ full[on].T, 0.0, atol=1e-12)


def test_a_missing_cell_is_only_a_mistake_where_something_is_periodic():
    assert volume(complete_cell(None, (False, False, False))) == pytest.approx(1.0)
    with pytest.raises(InputError, match="no cell"):
        complete_cell(None, (False, False, True))


@pytest.mark.parametrize("scale", [1e-3, 1.0, 1e5])
def test_flatness_does_not_depend_on_the_size_of_the_cell(scale):
    complete_cell(TRICLINIC * scale, (True, True, True))
    with pytest.raises(InputError, match="zero volume"):
        complete_cell(np.array([[1, 2, 3], [2, 4, 6], [0, 0, 1]]) * scale, (True, True, True))


@given(st.lists(st.tuples(*[st.floats(-1e3, 1e3)] * 3), min_size=1, max_size=5))
def test_wrapping_moves_atoms_by_whole_lattice_vectors(positions):
    positions = np.array(positions)
    wrapped, shifts = wrap(positions, TRICLINIC, (True, False, True))
    assert np.array_equal(shifts, np.round(shifts))
    assert (shifts[:, 1] == 0).all()
    np.testing.assert_allclose(wrapped + shifts @ TRICLINIC, positions, atol=1e-9)
    fractional = wrapped @ np.linalg.inv(TRICLINIC)
    assert (fractional[:, [0, 2]] > -1e-9).all()
    assert (fractional[:, [0, 2]] < 1 + 1e-9).all()


def test_volume_heights_and_strain():
    assert volume(TRICLINIC) == pytest.approx(volume(TRICLINIC[[1, 0, 2]]))
    np.testing.assert_allclose(heights(np.diag([2.0, 3.0, 4.0])), [2, 3, 4])
    stretched = TRICLINIC @ np.diag([1.01, 1.0, 1.0])
    assert volume(stretched) == pytest.approx(1.01 * volume(TRICLINIC))
