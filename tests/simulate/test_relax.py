"""Relaxations go downhill and end where they should."""

from typing import get_args

import ase
import numpy as np
import pytest

from dpax.errors import InputError
from dpax.simulate.relax import relax
from dpax.simulate.settings import OptimizerName

from .support import crystal, potential


@pytest.fixture(scope="module")
def metal(tmp_path_factory):
    return potential(tmp_path_factory.mktemp("metal"))


def test_positions(metal):
    seen = []
    start = crystal()
    result = relax(metal, start, fmax=0.05, report=lambda *line: seen.append(line))
    assert result.converged
    assert result.fmax == np.linalg.norm(result.atoms.get_forces(), axis=1).max() < 0.05
    assert result.atoms.get_potential_energy() < metal.evaluate(start).energy
    np.testing.assert_array_equal(result.atoms.cell, start.cell)
    np.testing.assert_array_equal(start.positions, crystal().positions)
    steps, energies, forces = map(list, zip(*seen, strict=True))
    assert steps == list(range(result.steps + 1))
    assert energies[-1] == result.atoms.get_potential_energy() < energies[0]
    assert forces[-1] == result.fmax


def test_cell_under_pressure(metal):
    """The stress comes near the pressure asked for: 10 GPa are 1e5 bar and 0.0624 eV/Å³."""
    asked = np.array([-0.062415] * 3 + [0.0] * 3)
    start = crystal(1)
    result = relax(metal, start, cell=True, pressure=1e5, fmax=0.01, steps=12)
    before, after = (
        np.abs(s - asked).max() for s in (metal.evaluate(start).stress, result.atoms.get_stress())
    )
    assert after < 0.3 * before
    assert result.atoms.get_volume() < start.get_volume()


@pytest.mark.parametrize("name", get_args(OptimizerName))
def test_every_optimizer_finds_a_minimum(metal, name):
    result = relax(metal, crystal(1), fmax=0.05, optimizer=name)
    assert result.converged
    assert result.fmax < 0.05


def test_what_cannot_be_relaxed(metal):
    short = relax(metal, crystal(1), fmax=1e-8, steps=1)
    assert (short.steps, short.converged) == (1, False)
    free = crystal(1)
    free.pbc = False
    with pytest.raises(InputError, match="--cell: the structure is not periodic"):
        relax(metal, free, cell=True)
    with pytest.raises(InputError, match="--pressure: only acts on a cell"):
        relax(metal, free, pressure=1.0)
    with pytest.raises(InputError, match="contains Au"):
        relax(metal, ase.Atoms("Au2", positions=[[0, 0, 0], [0, 0, 2.5]]))
