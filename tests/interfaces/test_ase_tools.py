"""ASE's own tools around the calculator: right, and with one compiled program."""

import ase.build
import numpy as np
import pytest
from ase import units
from ase.mep import NEB
from ase.optimize import BFGS
from ase.phonons import Phonons
from ase.vibrations import Vibrations

from dpax.infer import Potential
from dpax.interfaces.ase import Calculator
from simulate.support import LATTICE, crystal, metal

SUPERCELL = (3, 3, 3)
DISPLACEMENT = 0.01
"""Å, of the atoms in finite differences for phonons."""


@pytest.fixture(scope="module")
def potential(tmp_path_factory) -> Potential:
    return Potential(metal(tmp_path_factory.mktemp("metal")))


def programs(potential: Potential) -> int:
    return potential.computation.program._cache_size()


def test_images_of_a_band_share_a_program(potential):
    """An atom beside a vacancy moves into it; each image has its own calculator, and all one potential."""
    first = ase.build.bulk("Cu", "fcc", a=LATTICE, cubic=True).repeat(2)
    site = first.positions[1].copy()
    del first[1]
    last = first.copy()
    last.positions[0] = site
    images = [first, *(first.copy() for _ in range(3)), last]
    for image in images:
        image.calc = Calculator(potential)
    before, searches = programs(potential), potential.preparation.skin_lists.searches
    band = NEB(images, k=0.5, method="improvedtangent")
    band.interpolate(mic=True)
    BFGS(band, logfile=None).run(fmax=0.2, steps=4)
    energies = [image.get_potential_energy() for image in images]
    assert max(energies) > energies[0] + 0.05
    assert energies[0] == pytest.approx(energies[-1], abs=1e-6)
    assert potential.preparation.skin_lists.searches - searches <= 2 * len(images)
    assert programs(potential) <= before + 1


def test_vibrations_are_those_of_the_hessian(potential, tmp_path):
    before, searches = programs(potential), potential.preparation.skin_lists.searches
    atoms = crystal(1)
    atoms.calc = Calculator(potential)
    vibrations = Vibrations(atoms, name=str(tmp_path / "vibrations"), delta=1e-3)
    vibrations.run()
    numerical = vibrations.get_vibrations().get_hessian_2d()
    exact = atoms.calc.get_property("hessian", atoms)
    np.testing.assert_allclose(numerical, exact, atol=1e-4 * np.abs(exact).max())
    np.testing.assert_array_equal(exact, atoms.calc.get_hessian(atoms))
    np.testing.assert_array_equal(exact, potential.hessian(atoms))
    assert programs(potential) <= before + 1
    assert potential.preparation.skin_lists.searches <= searches + 2


def test_the_hessian_is_computed_once_for_each_structure(potential, monkeypatch):
    calls, hessian = [], potential.hessian
    monkeypatch.setattr(potential, "hessian", lambda *a, **k: calls.append(1) or hessian(*a, **k))
    atoms = crystal(1)
    atoms.calc = Calculator(potential)
    first = atoms.calc.get_property("hessian", atoms)
    atoms.get_forces(), atoms.calc.get_hessian(atoms)
    assert len(calls) == 1
    atoms.rattle(0.05, seed=3)
    assert np.abs(atoms.calc.get_hessian(atoms) - first).max() > 1e-3
    assert len(calls) == 2


def test_phonons(potential, tmp_path):
    """Acoustic branches start at zero, and directions that are alike in the crystal have the same bands."""
    atoms = ase.build.bulk("Cu", "fcc", a=LATTICE)
    before = programs(potential)
    phonons = Phonons(atoms, Calculator(potential), SUPERCELL, delta=DISPLACEMENT, name=str(tmp_path / "p"))
    phonons.run()
    phonons.read(acoustic=True)
    along = np.array([[1, 0, 1], [0, 1, 1], [1, 1, 0], [-1, 0, -1]]) / 3
    at_zero, *alike = phonons.band_structure(np.concatenate([[np.zeros(3)], along]))
    np.testing.assert_allclose(at_zero, 0.0, atol=1e-4)
    np.testing.assert_allclose(alike, [alike[0]] * 4, atol=1e-4)
    assert np.abs(alike[0]).min() > 1e-3
    assert programs(potential) <= before + 1


def test_phonopy_finds_the_phonons_of_ase(potential, tmp_path):
    """Forces of displaced supercells go into phonopy as arrays, and its frequencies are those of ASE."""
    phonopy = pytest.importorskip("phonopy", reason="phonopy is not installed")
    from phonopy.structure.atoms import PhonopyAtoms

    atoms, before = ase.build.bulk("Cu", "fcc", a=LATTICE), programs(potential)
    unit = PhonopyAtoms(
        symbols=list(atoms.symbols), cell=atoms.cell[:], scaled_positions=atoms.get_scaled_positions()
    )
    found = phonopy.Phonopy(unit, np.diag(SUPERCELL), primitive_matrix=np.eye(3))
    found.generate_displacements(distance=DISPLACEMENT)
    displaced = [
        ase.Atoms(cell.symbols, cell.positions, cell=cell.cell, pbc=True)
        for cell in found.supercells_with_displacements
    ]
    found.forces = [result.forces for result in potential.evaluate(displaced)]
    found.produce_force_constants()
    assert programs(potential) <= before + 1

    expected = Phonons(atoms, Calculator(potential), SUPERCELL, delta=DISPLACEMENT, name=str(tmp_path / "p"))
    expected.run()
    expected.read(acoustic=True)
    q = np.array([[1, 0, 1], [1, 0, 0], [1, 1, 2]]) / 3
    found.run_qpoints(q)
    in_ev = np.asarray(found.qpoints.frequencies) * 1e12 * units._hplanck / units._e
    # Eigenvalues, not their roots: that of a soft mode would magnify what finite differences leave.
    eigenvalues = [np.sign(omega) * omega**2 for omega in (in_ev, expected.band_structure(q))]
    np.testing.assert_allclose(*eigenvalues, atol=1e-3 * np.abs(eigenvalues[1]).max())
    assert np.abs(in_ev).min() > 5e-4
