"""Constant-energy molecular dynamics that never leaves the accelerator: JAX-MD's NVE inside `lax.fori_loop`.

    python examples/jax_md_nve.py water.dpax water.xyz --steps 1000 --skin 0.2

JAX-MD sees only one image of each neighbour, so the box must be at least 2 · (cutoff + skin) across.
The script prints the energy and its drift, and plots them to drift.png.
"""

import argparse
from pathlib import Path

import ase.io
import jax
import jax.numpy as jnp
import matplotlib.pyplot as plt
import numpy as np
from ase import units

import dpax

dpax.configure()  # before JAX-MD, which starts JAX when it is imported
from jax_md import quantity, simulate, space  # noqa: E402

from dpax.interfaces.jax_md import dpa1_neighbor_list  # noqa: E402


def main() -> None:
    """Read the arguments and run."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("model", type=Path, help="model file (.dpax)")
    parser.add_argument("structure", type=Path, help="any file that ASE reads, with a periodic structure")
    parser.add_argument("--repeat", type=int, default=1, help="number of copies along each lattice vector")
    parser.add_argument("--temperature", type=float, default=300.0, help="temperature at the start, K")
    parser.add_argument("--time-step", type=float, default=0.5, help="fs")
    parser.add_argument("--steps", type=int, default=1000)
    parser.add_argument("--every", type=int, default=10, help="steps between energies")
    parser.add_argument("--skin", type=float, default=0.5, help="extent of the lists beyond the cutoff, Å")
    parser.add_argument("--figure", type=Path, default=Path("drift.png"))
    given = parser.parse_args()
    records = given.steps // given.every
    if given.steps % given.every or records < 2:
        parser.error(
            f"--steps {given.steps} should be a multiple of --every {given.every}, at least twice as large"
        )

    jax.config.update("jax_enable_x64", True)
    atoms = ase.io.read(given.structure, index=-1).repeat(given.repeat)
    # JAX-MD's box: an upper triangular matrix whose columns are lattice vectors.
    box = jnp.array(atoms.cell.standard_form()[0].T)
    displacement, shift = space.periodic_general(box)
    neighbor_fn, energy_fn = dpa1_neighbor_list(
        displacement,
        box,
        given.model,
        atoms.get_chemical_symbols(),
        dr_threshold=given.skin,
        fractional_coordinates=True,
    )
    init, apply = simulate.nve(energy_fn, shift, dt=given.time_step * units.fs)
    positions, masses = jnp.array(atoms.get_scaled_positions()), jnp.array(atoms.get_masses())

    @jax.jit
    def run(state, neighbors):
        def step(_, carry):
            state, neighbors = carry
            neighbors = neighbors.update(state.position)
            return apply(state, neighbor=neighbors), neighbors

        def record(n, carry):
            state, neighbors, energies = carry
            state, neighbors = jax.lax.fori_loop(0, given.every, step, (state, neighbors))
            kinetic = quantity.kinetic_energy(momentum=state.momentum, mass=state.mass)
            neighbors = neighbors.update(state.position)
            total = energy_fn(state.position, neighbors) + kinetic
            return state, neighbors, energies.at[n].set(total)

        return jax.lax.fori_loop(0, records, record, (state, neighbors, jnp.zeros(records)))

    extra = 0
    while True:
        neighbors = neighbor_fn.allocate(positions, extra_capacity=extra)
        kT = given.temperature * units.kB
        state = init(jax.random.key(0), positions, kT, mass=masses, neighbor=neighbors)
        state, neighbors, energies = run(state, neighbors)
        if not neighbors.did_buffer_overflow:
            break
        extra += 4  # the lists were too short for this trajectory: repeat with longer ones

    time = given.time_step * given.every * 1e-3 * np.arange(1, records + 1)
    per_atom = np.asarray(energies) / len(atoms)
    slope = np.polyfit(time, per_atom, 1)[0]
    print(
        f"{len(atoms)} atoms, {given.steps} steps: {per_atom[-1]:.6f} eV/atom, drift {slope:.2e} eV/atom/ps"
    )
    figure, axes = plt.subplots()
    axes.plot(time, 1e3 * (per_atom - per_atom[0]))
    axes.set(xlabel="time / ps", ylabel="change of the total energy / (meV/atom)")
    figure.savefig(given.figure)


if __name__ == "__main__":
    main()
