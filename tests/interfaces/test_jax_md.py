"""JAX-MD says what dpax says: in its spaces, through its neighbour lists, and along its trajectories."""

import os
import re
import subprocess
import sys
from functools import partial
from pathlib import Path
from unittest.mock import Mock

import ase
import ase.io
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from ase import units
from ase.md.verlet import VelocityVerlet

import dpax
from dpax import InputError, Potential
from dpax.interfaces.model_files import write_model
from model.support import tiny_model

with jax.numpy_dtype_promotion("standard"):  # JAX-MD mixes types and ranks
    pytest.importorskip("jax_md", reason="the extra jaxmd is not installed")
    from jax_md import partition, quantity, simulate, space  # isort: skip
from dpax.interfaces.jax_md import dpa1_neighbor_list  # isort: skip

ROOT = Path(__file__).resolve().parents[2]
CUTOFF = 3.0
STEP = float(np.float32(0.5 * units.fs))
"""JAX-MD rounds time steps to float32."""


@pytest.fixture(autouse=True, scope="module")
def promotion():
    with jax.numpy_dtype_promotion("standard"), jax.numpy_rank_promotion("allow"):
        yield


@pytest.fixture(scope="module")
def potential() -> Potential:
    return Potential(tiny_model(version=2, rcut=CUTOFF, seed=3))


def solid(repeat, spacing, tilt=1.0, seed=0) -> ase.Atoms:
    """O and H on a distorted lattice in a triclinic cell whose rows are lower triangular."""
    rng = np.random.default_rng(seed)
    length = repeat * spacing
    cell = np.array([[length, 0, 0], [1.1 * tilt, length, 0], [-0.8 * tilt, 1.3 * tilt, length]])
    grid = np.stack(np.meshgrid(*[np.arange(repeat)] * 3, indexing="ij"), -1).reshape(-1, 3) / repeat
    symbols = rng.choice(["O", "H"], len(grid))
    atoms = ase.Atoms(symbols, scaled_positions=grid, cell=cell, pbc=True)
    atoms.rattle(0.15, rng=rng)
    return atoms


def in_jax_md(atoms, potential, displacement, box, positions, **options):
    """Energy, forces and neighbours, compiled."""
    neighbor_fn, energy_fn = dpa1_neighbor_list(
        displacement, box, potential, atoms.get_chemical_symbols(), **options
    )
    neighbors = neighbor_fn.allocate(positions)
    energy, gradient = jax.jit(jax.value_and_grad(energy_fn))(positions, neighbors)
    return energy, -gradient, neighbors, energy_fn


def close(found, expected):
    expected = np.asarray(expected)
    np.testing.assert_allclose(found, expected, rtol=0, atol=1e-9 * np.abs(expected).max())


def test_fractional_coordinates_in_a_triclinic_box(potential):
    """With the cell list, and the virial by JAX-MD's own stress."""
    atoms = solid(5, 2.7)
    expected = potential.evaluate(atoms)
    box = jnp.array(atoms.cell[:].T)
    displacement, _ = space.periodic_general(box, fractional_coordinates=True)
    energy, forces, neighbors, energy_fn = in_jax_md(
        atoms, potential, displacement, box, jnp.array(atoms.get_scaled_positions()),
        dr_threshold=0.2, fractional_coordinates=True,
    )  # fmt: skip
    assert neighbors.cell_list_fn is not None
    close(energy, expected.energy)
    close(forces, expected.forces)
    stress = jax.jit(lambda R, lists: quantity.stress(energy_fn, R, box, neighbor=lists))
    scaled = jnp.array(atoms.get_scaled_positions())
    close(stress(scaled, neighbors) * expected.volume, expected.virial)
    # A box handed over at run time: a smaller one changes the energy, one too small for the cutoff has none.
    squeezed = atoms.copy()
    squeezed.set_cell(0.98 * atoms.cell[:], scale_atoms=True)
    energy_in = jax.jit(lambda box: energy_fn(scaled, neighbors, box=box))
    close(energy_in(0.98 * box), potential.evaluate(squeezed).energy)
    assert np.isnan(energy_in(0.4 * box))


def test_real_coordinates(potential):
    """Triclinic, and a slab that vacuum separates from its images."""
    tilted, slab = solid(4, 2.0), solid(4, 2.0, tilt=0.0)
    slab.cell[2, 2] += 2 * CUTOFF
    slab.positions[:, 2] += CUTOFF
    tilted.wrap()
    in_general = partial(space.periodic_general, fractional_coordinates=False)
    for atoms, box, make in (
        (tilted, tilted.cell[:].T, in_general),
        (slab, slab.cell.lengths(), space.periodic),
    ):
        displacement, _ = make(jnp.array(box))
        energy, forces, *_ = in_jax_md(
            atoms, potential, displacement, box, jnp.array(atoms.positions), dr_threshold=0.2
        )
        if atoms is slab:
            atoms.pbc = (True, True, False)
        expected = potential.evaluate(atoms)
        close(energy, expected.energy)
        close(forces, expected.forces)


def test_overflow_is_said_and_mended_as_jax_md_does_it(potential):
    cluster = solid(3, 2.4)
    cluster.pbc = False
    displacement, _ = space.free()
    neighbor_fn, energy_fn = dpa1_neighbor_list(
        displacement, None, potential, cluster.get_chemical_symbols(), capacity_multiplier=1.0
    )
    value = jax.jit(jax.value_and_grad(energy_fn))
    lists = neighbor_fn.allocate(jnp.array(cluster.positions))
    close(value(jnp.array(cluster.positions), lists)[0], potential.evaluate(cluster).energy)
    cluster.positions *= 0.7
    dense = jnp.array(cluster.positions)
    assert lists.update(dense).did_buffer_overflow
    lists = neighbor_fn.allocate(dense)
    assert not lists.did_buffer_overflow
    energy, gradient = value(dense, lists)
    expected = potential.evaluate(cluster)
    close(energy, expected.energy)
    close(-gradient, expected.forces)


@pytest.fixture(scope="module")
def trajectory(potential):
    """The atoms, and from initial velocities to the state after `n` steps of NVE, in one program."""
    atoms = solid(4, 2.0)
    box = jnp.array(atoms.cell[:].T)
    displacement, shift = space.periodic_general(box)
    neighbor_fn, energy_fn = dpa1_neighbor_list(
        displacement, box, potential, atoms.get_chemical_symbols(), 0.3, fractional_coordinates=True
    )
    positions = jnp.array(atoms.get_scaled_positions())
    lists = neighbor_fn.allocate(positions)
    init, apply = simulate.nve(energy_fn, shift, dt=STEP)
    masses = jnp.array(atoms.get_masses())

    def run(velocities, n):
        state = init(jax.random.key(0), positions, 0.0, mass=masses, neighbor=lists)
        state = state.set(momentum=masses[:, None] * velocities)

        def step(_, carry):
            state, lists = carry
            lists = lists.update(state.position)
            return apply(state, neighbor=lists), lists

        return jax.lax.fori_loop(0, n, step, (state, lists))

    rng = np.random.default_rng(5)
    velocities = rng.normal(scale=0.03, size=positions.shape)
    return atoms, velocities, run, energy_fn


def test_a_trajectory_is_that_of_ase(trajectory, potential):
    atoms, velocities, run, _ = trajectory
    state, lists = jax.jit(run, static_argnums=1)(velocities, 20)
    assert not lists.did_buffer_overflow
    moved = atoms.copy()
    moved.calc = dpax.Calculator(potential)
    moved.set_velocities(velocities)
    VelocityVerlet(moved, STEP).run(20)
    apart = np.asarray(state.position) - moved.get_scaled_positions()
    np.testing.assert_allclose(apart - np.round(apart), 0.0, atol=1e-11)
    close(state.velocity, moved.get_velocities())


def test_gradient_through_a_trajectory(trajectory):
    """Of the final potential energy, with respect to the initial velocities."""
    _, velocities, run, energy_fn = trajectory

    @jax.jit
    def final_energy(velocities):
        state, lists = run(velocities, 3)
        return energy_fn(state.position, lists)

    gradient = jax.jit(jax.grad(final_energy))(velocities)
    along = np.random.default_rng(6).normal(size=velocities.shape)
    h = 2e-6
    difference = (final_energy(velocities + h * along) - final_energy(velocities - h * along)) / (2 * h)
    assert abs(difference) > 1e-3
    np.testing.assert_allclose(np.vdot(gradient, along), difference, rtol=1e-6)


def test_mistakes_are_named(potential):
    atoms = solid(4, 2.0)
    symbols = atoms.get_chemical_symbols()
    box = jnp.array(atoms.cell[:].T)
    displacement, _ = space.periodic_general(box)
    for arguments, options, reason in (
        ((0.8 * box, potential, symbols), {}, r"6\.\d+ Å across.*at least 7\.000 Å"),
        ((box.T, potential, symbols), {}, "upper triangular"),
        ((box, potential, ["Fe", *symbols[1:]]), {}, "contains Fe"),
        ((box, potential, symbols), {"format": partition.Sparse}, "dense neighbour lists"),
    ):
        with pytest.raises(InputError, match=reason):
            dpa1_neighbor_list(displacement, *arguments, **options)
    with pytest.raises(InputError, match="jax_enable_x64"), jax.enable_x64(False):
        dpa1_neighbor_list(displacement, box, potential, symbols)
    _, energy_fn = dpa1_neighbor_list(displacement, box, potential, symbols)
    with pytest.raises(InputError, match=r"\[8, 3\].*64 atoms"):
        energy_fn(jnp.zeros((8, 3)), Mock(partition.NeighborList))


def output_of_example(name, folder, *options):
    """In a process of its own, on a model and a structure that are there."""
    command = [sys.executable, str(ROOT / "examples" / name), "model.dpax", "start.xyz", *options]
    cache = {"JAX_COMPILATION_CACHE_DIR": str(ROOT / ".pytest_cache" / "jax"), "JAX_PLATFORMS": "cpu"}
    done = subprocess.run(
        command, cwd=folder, env=os.environ | cache, capture_output=True, text=True, timeout=600, check=False
    )
    assert done.returncode == 0, done.stderr
    return done.stdout


@pytest.fixture
def inputs(potential, tmp_path):
    write_model(tmp_path / "model.dpax", potential.model, {})
    ase.io.write(tmp_path / "start.xyz", solid(4, 2.0))
    return tmp_path


@pytest.mark.slow
def test_example_of_dynamics_runs(inputs):
    said = output_of_example("jax_md_nve.py", inputs, "--steps", "40", "--time-step", "0.01")
    assert said.startswith("64 atoms, 40 steps")
    assert abs(float(re.search(r"drift (\S+) eV", said)[1])) < 1e-2
    assert (inputs / "drift.png").is_file()


@pytest.mark.slow
def test_example_of_a_gradient_runs(inputs):
    said = output_of_example("jax_md_gradient.py", inputs, "--steps", "4")
    derivative, difference = (float(line.split()[-1]) for line in said.splitlines()[1:])
    assert derivative == pytest.approx(difference, rel=1e-6)
