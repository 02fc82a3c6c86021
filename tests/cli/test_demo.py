"""The data of the demonstration, as far as it can be known to be right without a training."""

import sys
from pathlib import Path

import numpy as np
import pytest
from ase.calculators.fd import calculate_numerical_forces, calculate_numerical_stress

from dpax.train.settings import read_settings

DEMO = Path(__file__).parents[2] / "examples" / "demo"


@pytest.fixture
def alloy(monkeypatch):
    """A distorted crystal of all three elements with the demonstration's potential."""
    monkeypatch.syspath_prepend(str(DEMO))
    import alloys
    import gupta

    rng = np.random.default_rng(0)
    atoms = alloys.random_alloy((0.3, 0.3, 0.4), 2, rng)
    atoms.rattle(0.1, rng=rng)
    atoms.calc = gupta.Gupta()
    yield atoms
    for name in ("alloys", "gupta"):
        del sys.modules[name]


def test_forces_and_stress_are_derivatives_of_the_energy(alloy):
    np.testing.assert_allclose(alloy.get_forces(), calculate_numerical_forces(alloy), atol=1e-6)
    numerical = calculate_numerical_stress(alloy, force_consistent=False)
    np.testing.assert_allclose(alloy.get_stress(), numerical, atol=1e-8)


def test_crystals_are_bound_and_near_equilibrium(alloy):
    import alloys
    import gupta
    from ase.build import bulk

    # Experimental cohesive energies, eV/atom, to which the parameters were fitted.
    for element, cohesion in (("Cu", 3.544), ("Ag", 2.960), ("Au", 3.779)):
        crystal = bulk(element, "fcc", a=alloys.LATTICE[element])
        crystal.calc = gupta.Gupta()
        assert crystal.get_potential_energy() == pytest.approx(-cohesion, abs=0.1)
        assert abs(crystal.get_stress()).max() < 0.02


def test_input_is_valid_and_knows_the_elements(alloy):
    import gupta

    settings = read_settings(DEMO / "input.yaml")
    assert settings.model.type_map == gupta.ELEMENTS
    assert settings.model.descriptor.rcut >= gupta.R_OFF
