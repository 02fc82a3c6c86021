"""One trained model, twenty structures, and every program that dpax serves: the same numbers."""

from collections.abc import Iterator
from functools import partial
from pathlib import Path

import ase
import ase.io
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from ase.calculators.lj import LennardJones

import dpax
from dpax import Potential
from dpax.infer import Evaluation
from dpax.interfaces.export import export_potential
from dpax.interfaces.model_files import load, write_model
from dpax.interfaces.run_exported import ExportedPotential
from dpax.train import train
from interfaces.lammps_support import (
    STRUCTURES,
    assert_equal,
    evaluated,
    evaluating,
    jittered,
    lammps,
    needs_compiler,
    needs_lammps,
    setup,
)
from train.support import settings

RCUT = 4.0
CHANGES = {
    "model.descriptor.rcut": RCUT,
    "model.descriptor.sel": 60,
    "training.training_data.systems": "train.xyz",
    "training.training_data.batch_size": 2,
    "training.numb_steps": 200,
    "learning_rate.start_lr": 5e-3,
    "learning_rate.decay_steps": 40,
    "training.save_freq": 200,
    "training.disp_freq": 100,
}


@pytest.fixture(scope="module")
def folder(tmp_path_factory) -> Path:
    """A folder with a model that has been trained, as dpax's file and as DeePMD-kit's."""
    folder = tmp_path_factory.mktemp("agreement")
    frames = []
    for seed in range(8):
        atoms = jittered(20, np.diag([6.4, 6.5, 6.6]), (True,) * 3, seed)
        atoms.calc = LennardJones(sigma=1.6, epsilon=0.1, rc=RCUT, smooth=True)
        atoms.get_potential_energy(), atoms.get_stress()
        frames.append(atoms)
    ase.io.write(folder / "train.xyz", frames)
    train(settings(CHANGES), folder / "run", base=folder)
    (folder / "run" / "model.dpax").rename(folder / "model.dpax")
    write_model(folder / "model.dp", load(folder / "model.dpax").model, {})
    return folder


@pytest.fixture(scope="module")
def potential(folder) -> Potential:
    return dpax.load(folder / "model.dpax")


@pytest.fixture(scope="module")
def expected(potential) -> list[Evaluation]:
    """What `Potential.evaluate` says of each structure alone."""
    return [potential.evaluate(atoms, atomic_virials=True) for atoms in STRUCTURES]


def assert_totals(found: Iterator[tuple], expected: list[Evaluation]) -> None:
    """Energy, forces and virial of each structure."""
    for number, (one, (energy, forces, virial)) in enumerate(zip(expected, found, strict=True)):
        for name, value in (("energy", energy), ("forces", forces), ("virial", virial)):
            wanted = np.asarray(getattr(one, name))
            allowed = 1e-9 * np.abs(wanted).max()
            message = f"{name} of structure {number}"
            np.testing.assert_allclose(value, wanted, rtol=0, atol=allowed, err_msg=message)


def test_the_model_has_learned(potential, folder):
    """The numbers compared are those of a fitted function and not of a random one."""
    frames = ase.io.read(folder / "train.xyz", ":")
    wanted = np.concatenate([atoms.get_forces() for atoms in frames])
    found = np.concatenate([result.forces for result in potential.evaluate(frames)])
    assert np.std(found - wanted) < 0.9 * np.std(wanted)


def test_together_as_one_by_one(potential, expected):
    together = potential.evaluate(STRUCTURES)
    assert_totals(((one.energy, one.forces, one.virial) for one in together), expected)


def test_ase(folder, expected):
    def results():
        calculator = dpax.Calculator(folder / "model.dpax")
        for atoms, one in zip(STRUCTURES, expected, strict=True):
            atoms = atoms.copy()
            atoms.calc = calculator
            virial = one.virial  # where there is no volume, ASE has no stress
            if atoms.pbc.all():
                virial = -atoms.get_volume() * atoms.get_stress(voigt=False)
            yield atoms.get_potential_energy(), atoms.get_forces(), virial

    assert_totals(results(), expected)


@pytest.mark.slow
def test_exported_program(potential, folder, expected):
    export_potential(potential, folder / "program")
    program = ExportedPotential(folder / "program")

    def results():
        for atoms in STRUCTURES:
            found = program(atoms.positions, list(atoms.symbols), atoms.cell[:], atoms.pbc)
            yield found["energy"], found["forces"], found["virial"]

    assert_totals(results(), expected)


def test_ipi_direct_driver(folder, expected):
    pytest.importorskip("ipi", reason="the extra ipi is not installed")
    from ipi.utils.units import unit_to_internal, unit_to_user

    from dpax.interfaces.ipi_driver import Driver

    def results():
        for atoms in STRUCTURES:
            ase.io.write(folder / "template.xyz", atoms)
            driver = Driver(model=folder / "model.dpax", template=folder / "template.xyz", verbosity=0)
            cell = unit_to_internal("length", "angstrom", np.array(atoms.cell.T))
            energy, forces, virial, _ = driver(cell, unit_to_internal("length", "angstrom", atoms.positions))
            in_ev = partial(unit_to_user, "energy", "electronvolt")
            yield in_ev(energy), unit_to_user("force", "ev/ang", forces), in_ev(virial)

    assert_totals(results(), expected)


@pytest.mark.slow
def test_jax_md(potential, expected):
    """JAX-MD sees one image of each atom, so a small cell is repeated; its copies have the same forces."""
    pytest.importorskip("jax_md", reason="the extra jaxmd is not installed")
    from jax_md import space

    from dpax.interfaces.jax_md import dpa1_neighbor_list

    def results():
        for atoms in STRUCTURES:
            lengths = atoms.cell.lengths()
            times = np.where(atoms.pbc, np.ceil(2.3 * RCUT / lengths), 1).astype(int)
            many = atoms.repeat(times)
            box = None
            make, displacement = jnp.asarray, space.free()[0]
            if atoms.pbc.any():
                many.cell[~atoms.pbc] *= 1 + 2.3 * RCUT / lengths[0]  # vacuum on both sides of a slab
                make, box = many.cell.scaled_positions, jnp.array(many.cell[:].T)
                displacement, _ = space.periodic_general(box, fractional_coordinates=True)
            neighbor_fn, energy_fn = dpa1_neighbor_list(
                displacement, box, potential, many.get_chemical_symbols(), 0.05, atoms.pbc.any()
            )
            R = jnp.array(make(many.positions))
            neighbors = neighbor_fn.allocate(R)

            def energy(R, strain, energy_fn=energy_fn, neighbors=neighbors, free=box is None):
                if free:
                    return energy_fn(R @ (jnp.eye(3) + strain), neighbors)
                return energy_fn(R, neighbors, perturbation=jnp.eye(3) + strain)

            value, gradients = jax.jit(jax.value_and_grad(energy, (0, 1)))(R, jnp.zeros((3, 3)))
            copies = int(np.prod(times))
            forces = np.asarray(-gradients[0]).reshape(copies, -1, 3)
            np.testing.assert_allclose(forces, forces[:1].repeat(copies, 0), atol=1e-9 * np.abs(forces).max())
            virial = -0.5 * (gradients[1] + gradients[1].T)
            yield value / copies, forces[0], virial / copies

    assert_totals(results(), expected)


@needs_lammps
@needs_compiler
@pytest.mark.parametrize("ranks", [pytest.param(1, marks=pytest.mark.slow), 2])
def test_lammps(folder, expected, ranks):
    """The shares of the atoms too, from dpax's file and once from DeePMD-kit's."""
    script = ""
    for number, atoms in enumerate(STRUCTURES):
        model = "model.dp" if number == 0 else "model.dpax"
        script += setup(atoms, folder / f"{number}.data", coefficients=f"{model} O H")
        script += evaluating(f"{ranks}.{number}")
    lammps(folder, script, ranks)
    for number, one in enumerate(expected):
        assert_equal(evaluated(folder, f"{ranks}.{number}"), one)
