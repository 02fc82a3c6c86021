"""The ASE calculator: right after any change of the atoms, and at home in ASE's own tools."""

import copy
import io

import ase
import numpy as np
import pytest
from ase import units
from ase.calculators.calculator import PropertyNotImplementedError
from ase.calculators.fd import calculate_numerical_forces, calculate_numerical_stress
from ase.filters import FrechetCellFilter
from ase.io import read, write
from ase.md.verlet import VelocityVerlet
from ase.optimize import BFGS
from ase.vibrations import Vibrations

import dpax
from dpax.deepmd.model_dictionary import read_model
from dpax.errors import InputError
from dpax.infer import Potential
from dpax.interfaces.ase import Calculator
from dpax.model.file import save_model
from model.support import tiny_model
from oracle.deepmd_model import make_model


@pytest.fixture(scope="module")
def potential() -> Potential:
    """Of short range, for speed, with few programs."""
    found = Potential(tiny_model(rcut=3.0, rcut_smth=0.5, attn_layer=1, neuron=[4, 8], seed=15))
    found.preparation._planner.programs = 2
    found.evaluate([crystal(), crystal()[:5]])
    return found


@pytest.fixture
def calculator(potential) -> Calculator:
    return Calculator(potential)


def crystal(seed=0) -> ase.Atoms:
    cell = np.array([[4.4, 0.0, 0.0], [0.5, 4.2, 0.0], [-0.4, 0.6, 4.5]])
    corners = np.array(np.meshgrid(*[[0.0, 0.5]] * 3)).reshape(3, -1).T
    atoms = ase.Atoms("OH" * 4, corners @ cell, cell=cell, pbc=True)
    atoms.rattle(0.1, seed=seed)
    return atoms


def thermal_momenta(atoms) -> np.ndarray:
    """As drawn from a Boltzmann distribution of 300 K."""
    normal = np.random.default_rng(0).normal(size=(len(atoms), 3))
    return normal * np.sqrt(atoms.get_masses() * 300 * units.kB)[:, None]


def molecule() -> ase.Atoms:
    return ase.Atoms("OH2", [[0, 0, 0], [1.0, 0.1, 0], [-0.3, 0.9, 0.1]])


def test_every_property(calculator, potential):
    atoms = crystal()
    atoms.calc = calculator
    expected = potential.evaluate(atoms, atomic_virials=True)
    assert atoms.get_potential_energy() == expected.energy
    assert atoms.get_potential_energy(force_consistent=True) == expected.energy
    np.testing.assert_array_equal(atoms.get_forces(), expected.forces)
    np.testing.assert_array_equal(atoms.get_stress(), expected.stress)
    np.testing.assert_array_equal(atoms.get_potential_energies(), expected.energies)
    np.testing.assert_array_equal(atoms.get_stresses(), expected.stresses)
    np.testing.assert_allclose(atoms.get_stresses().sum(axis=0), atoms.get_stress(), atol=1e-13)
    np.testing.assert_array_equal(calculator.get_hessian(atoms), potential.hessian(atoms))


def test_forces_and_stress_are_what_ase_finds_by_differences(calculator):
    """ASE's own strain and its own sign: stress = dE/d(strain) / volume."""
    atoms = crystal()
    atoms.calc = calculator
    numerical = calculate_numerical_stress(atoms, eps=1e-5)
    assert np.abs(numerical).max() > 1e-4
    np.testing.assert_allclose(atoms.get_stress(), numerical, atol=1e-8)
    numerical = calculate_numerical_forces(atoms, eps=1e-4, iatoms=[0, 3])
    np.testing.assert_allclose(atoms.get_forces()[[0, 3]], numerical, atol=1e-6)


@pytest.mark.parametrize(
    "change",
    [
        lambda a: a.rattle(0.05, seed=5),
        lambda a: a.set_cell(a.cell.array * 1.05),
        lambda a: a.set_cell(a.cell.array * 0.97, scale_atoms=True),
        lambda a: a.set_pbc([True, True, False]),
        lambda a: a.set_pbc(False),
        lambda a: a.symbols.__setitem__(0, "H"),
        lambda a: a.positions.__setitem__(0, a.positions[0] + a.cell[1]),
        lambda a: a.pop(0),
    ],
)
def test_changes_between_calls_are_seen(calculator, potential, change):
    atoms = crystal()
    atoms.calc = calculator
    before = atoms.get_potential_energy()
    change(atoms)
    expected = potential.evaluate(atoms)
    assert atoms.get_potential_energy() == expected.energy
    np.testing.assert_array_equal(atoms.get_forces(), expected.forces)
    if atoms.pbc.all():
        np.testing.assert_array_equal(atoms.get_stress(), expected.stress)
        if (atoms.positions == crystal().positions[-len(atoms) :]).all():
            assert before != expected.energy


def test_nothing_is_computed_twice(calculator, potential, monkeypatch):
    calls = []
    evaluate = potential.evaluate
    monkeypatch.setattr(potential, "evaluate", lambda *a, **k: calls.append(1) or evaluate(*a, **k))
    atoms = crystal()
    atoms.calc = calculator
    for _ in range(2):
        atoms.get_forces(), atoms.get_potential_energy(), atoms.get_stress()
    assert len(calls) == 1


def test_two_structures_share_a_calculator(calculator, potential):
    first, second = crystal(), molecule()
    first.calc = second.calc = calculator
    for atoms in (first, second, first, second):
        expected = potential.evaluate(atoms)
        assert atoms.get_potential_energy() == expected.energy
        np.testing.assert_array_equal(atoms.get_forces(), expected.forces)


@pytest.mark.parametrize("pbc", [False, [True, True, False]])
def test_no_stress_without_a_volume(calculator, pbc):
    """An error, not a wrong number, also where the structure had a stress a moment ago."""
    atoms = crystal()
    atoms.calc = calculator
    atoms.get_stress()
    atoms.pbc = pbc
    for ask in (atoms.get_stress, atoms.get_stresses):
        with pytest.raises(PropertyNotImplementedError):
            ask()
    assert np.isfinite(atoms.get_potential_energy())


def test_unknown_element_is_named(calculator):
    atoms = ase.Atoms("OAg", [[0, 0, 0], [1.5, 0, 0]], calculator=calculator)
    with pytest.raises(InputError, match="Ag"):
        atoms.get_potential_energy()
    atoms.symbols[1] = "H"
    assert np.isfinite(atoms.get_potential_energy())


def test_made_from_a_file_or_a_potential(tmp_path, potential):
    path = tmp_path / "model.dpax"
    save_model(path, potential.model, {})
    expected = potential.evaluate(molecule()).energy
    for source in (path, str(path), potential):
        atoms = molecule()
        atoms.calc = dpax.Calculator(source)
        assert atoms.get_potential_energy() == pytest.approx(expected, rel=1e-14)
    with pytest.raises(InputError, match="no such model file"):
        Calculator(tmp_path / "none.dpax")


def test_deep_copies(calculator):
    """ASE's tools copy atoms with their calculator: the copies share the programs, not the results."""
    atoms = crystal()
    atoms.calc = calculator
    energy = atoms.get_potential_energy()
    twin = copy.deepcopy(atoms)
    twin.rattle(0.1, seed=9)
    assert twin.get_potential_energy() != energy
    assert atoms.get_potential_energy() == energy
    assert twin.calc is not atoms.calc
    assert twin.calc.potential is atoms.calc.potential


def test_results_are_written_by_ase(calculator):
    atoms = crystal()
    atoms.calc = calculator
    atoms.get_stress()
    file = io.StringIO()
    write(file, atoms, format="extxyz")
    again = read(io.StringIO(file.getvalue()), format="extxyz")
    np.testing.assert_allclose(again.get_forces(), atoms.get_forces(), atol=1e-7)
    np.testing.assert_allclose(again.get_stress(), atoms.get_stress(), atol=1e-9)


def test_optimizer_finds_a_minimum(calculator):
    atoms = molecule()
    atoms.calc = calculator
    before = atoms.get_potential_energy()
    assert BFGS(atoms, logfile=None, maxstep=0.05).run(fmax=0.01, steps=200)
    assert np.abs(atoms.get_forces()).max() < 0.01
    assert atoms.get_potential_energy() < before


def test_cell_filter_goes_downhill(calculator):
    """Positions and cell at once; where a random potential ends does not matter."""
    atoms = crystal()
    atoms.calc = calculator
    volume, energies = atoms.get_volume(), []
    optimizer = BFGS(FrechetCellFilter(atoms), logfile=None, maxstep=0.02)
    optimizer.attach(lambda: energies.append(atoms.get_potential_energy()))
    optimizer.run(fmax=1e-3, steps=8)
    assert np.all(np.diff(energies) < 0)
    assert atoms.get_volume() != volume


def test_molecular_dynamics_conserves_energy(calculator):
    """NVE from 300 K: total energy fluctuates with the square of the step, and does not drift."""
    spread = {}
    for step in (0.5, 0.25):
        atoms = crystal()
        atoms.calc = calculator
        atoms.set_momenta(thermal_momenta(atoms))
        dynamics = VelocityVerlet(atoms, timestep=step * units.fs)
        total, potential = [], []
        for _ in dynamics.irun(int(100 / step)):
            total.append(atoms.get_total_energy() / len(atoms))
            potential.append(atoms.get_potential_energy() / len(atoms))
        spread[step] = np.ptp(total)
    drift = np.polyfit(np.arange(len(total)) * step, total, 1)[0]
    assert np.ptp(potential) > 0.05  # eV/atom: it does move
    assert spread[0.25] < 0.4 * spread[0.5] < 0.01
    assert abs(drift) < 5e-7  # eV/atom/fs


def test_vibrations(calculator, tmp_path, potential):
    """Frequencies by ASE's displacements are those of the Hessian."""
    atoms = molecule()
    atoms.calc = calculator
    BFGS(atoms, logfile=None, maxstep=0.05).run(fmax=1e-4, steps=300)
    vibrations = Vibrations(atoms, name=str(tmp_path / "vibrations"), delta=1e-3)
    vibrations.run()
    root = np.repeat(atoms.get_masses(), 3) ** -0.5
    curvatures = np.linalg.eigvalsh(root[:, None] * potential.hessian(atoms) * root)
    expected = curvatures * (units._hbar * 1e10 / np.sqrt(units._e * units._amu)) ** 2
    found = np.sort((vibrations.get_energies() ** 2).real)
    assert expected[-1] > 1e-3
    np.testing.assert_allclose(found, expected, atol=1e-4 * expected[-1])


def test_parameters_of_frames_and_atoms():
    """ASE does not look at `info` and new arrays when it asks what has changed; the calculator does."""
    model = read_model(make_model(2, fitting_options={"numb_fparam": 1, "numb_aparam": 1}).serialize())
    potential = Potential(model)
    atoms = ase.Atoms("OH", positions=[[0, 0, 0], [0, 0, 1.0]], calculator=Calculator(potential))
    atoms.info["fparam"] = 0.5
    atoms.arrays["aparam"] = np.array([[0.1], [0.2]])
    energies = [atoms.get_potential_energy()]
    atoms.info["fparam"] = 0.7
    energies.append(atoms.get_potential_energy())
    atoms.arrays["aparam"][0] = 1.0
    energies.append(atoms.get_potential_energy())
    expected = [
        potential.evaluate(atoms, fparam=f, aparam=[[a], [0.2]]).energy
        for f, a in ((0.5, 0.1), (0.7, 0.1), (0.7, 1.0))
    ]
    assert energies == expected
    assert len(set(energies)) == 3
    fixed = Calculator(potential, fparam=0.5)
    assert fixed.get_potential_energy(atoms) == potential.evaluate(atoms, fparam=0.5).energy
    fixed.fparam = 0.7
    assert fixed.get_potential_energy(atoms) == energies[-1]
