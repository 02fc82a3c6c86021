"""Running errors against the definitions, applied to everything at once."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from dpax.data import Errors, SystemErrors

sizes = st.lists(st.integers(1, 9), min_size=1, max_size=8)


@given(sizes, st.integers(0, 1000), st.integers(0, 8))
def test_adding_up_is_the_definition_however_it_is_split(sizes, seed, cut):
    rng = np.random.default_rng(seed)
    energies, virials = rng.normal(size=(2, len(sizes))), rng.normal(size=(2, len(sizes), 3, 3))
    forces = [rng.normal(size=(2, n, 3)) for n in sizes]
    table = SystemErrors()
    for k, n in enumerate(sizes):
        errors = table["first" if k < cut else "second"]
        errors.update("energy", energies[0, k], energies[1, k])
        errors.update("energy_per_atom", energies[0, k] / n, energies[1, k] / n)
        errors.update("forces", forces[k][0], forces[k][1])
        errors.update("virial", virials[0, k], virials[1, k])
    atoms = np.array(sizes)
    differences = {
        "energy": energies[1] - energies[0],
        "energy_per_atom": (energies[1] - energies[0]) / atoms,
        "forces": np.concatenate([(f[1] - f[0]).ravel() for f in forces]),
        "virial": (virials[1] - virials[0]).ravel(),
    }
    total = table.total()
    assert set(total.mae) == set(differences)
    for name, values in differences.items():
        assert total.count(name) == values.size
        assert total.mae[name] == pytest.approx(np.abs(values).mean())
        assert total.rmse[name] == pytest.approx(np.sqrt((values**2).mean()))
    at_once = Errors()
    at_once.update("energy", energies[0], energies[1])
    at_once.update("virial", virials[0], virials[1])
    for name in ("energy", "virial"):
        assert at_once.rmse[name] == pytest.approx(total.rmse[name])


def test_float32_predictions_of_large_energies_lose_no_more_than_they_must():
    errors = Errors()
    for _ in range(1000):
        errors.update("energy", -29945.001, np.float32(-29945.0))
    assert errors.mae["energy"] == pytest.approx(0.001, rel=1e-6)


def test_what_was_not_compared_has_no_error():
    errors = Errors()
    errors.update("forces", np.zeros((2, 3)), np.ones((2, 3)))
    assert errors.mae == {"forces": 1.0}
    assert Errors().rmse == {}


def test_systems_keep_their_order_and_their_own_errors():
    table = SystemErrors()
    table["b"].update("energy", 0.0, 3.0)
    table["a"].update("energy", 0.0, 1.0)
    assert list(table) == ["b", "a"]
    assert table["a"].mae["energy"] == 1.0
    assert table.total().mae["energy"] == 2.0


def test_shapes_must_agree():
    with pytest.raises(ValueError, match="forces"):
        Errors().update("forces", np.zeros((2, 3)), np.zeros((3, 3)))
