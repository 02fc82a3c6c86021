"""The gradient of an observable through a trajectory: how the initial velocities change how far atoms move.

    python examples/jax_md_gradient.py water.dpax water.xyz --steps 20

The observable is the mean squared displacement of the atoms after a number of NVE steps with JAX-MD. One
reverse pass through the whole trajectory gives its gradient with respect to the initial velocities. The
gradient is compared with a finite difference.
"""

import argparse
from pathlib import Path

import ase.io
import jax
import jax.numpy as jnp
import numpy as np
from ase import units

import dpax

dpax.configure()  # before JAX-MD, which starts JAX when it is imported
from jax_md import simulate, space  # noqa: E402

from dpax.interfaces.jax_md import dpa1_neighbor_list  # noqa: E402


def main() -> None:
    """Read the arguments and run."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("model", type=Path, help="model file (.dpax)")
    parser.add_argument("structure", type=Path, help="any file that ASE reads, with a periodic structure")
    parser.add_argument("--repeat", type=int, default=1, help="number of copies along each lattice vector")
    parser.add_argument("--steps", type=int, default=20)
    given = parser.parse_args()

    jax.config.update("jax_enable_x64", True)
    atoms = ase.io.read(given.structure, index=-1).repeat(given.repeat)
    box = jnp.array(atoms.cell.standard_form()[0].T)
    displacement, shift = space.periodic_general(box)
    neighbor_fn, energy_fn = dpa1_neighbor_list(
        displacement, box, given.model, atoms.get_chemical_symbols(), fractional_coordinates=True
    )
    init, apply = simulate.nve(energy_fn, shift, dt=0.5 * units.fs)
    start, masses = jnp.array(atoms.get_scaled_positions()), jnp.array(atoms.get_masses())
    neighbors = neighbor_fn.allocate(start)

    # For the reverse pass, a step stores only its input; the rest is recomputed.
    @jax.checkpoint
    def step(carry, _):
        state, neighbors = carry
        neighbors = neighbors.update(state.position)
        return (apply(state, neighbor=neighbors), neighbors), None

    @jax.jit
    def spread(velocities):
        state = init(jax.random.key(0), start, 0.0, mass=masses, neighbor=neighbors)
        state = state.set(momentum=masses[:, None] * velocities)
        (state, lists), _ = jax.lax.scan(step, (state, neighbors), length=given.steps)
        moved = jax.vmap(displacement)(state.position, start)
        return jnp.mean(jnp.sum(moved**2, axis=-1)), lists.did_buffer_overflow

    rng = np.random.default_rng(0)
    velocities = rng.normal(size=start.shape) * np.sqrt(300.0 * units.kB / atoms.get_masses())[:, None]
    (value, overflow), gradient = jax.value_and_grad(spread, has_aux=True)(velocities)
    assert not overflow, "the neighbour lists were too short: allocate them with extra_capacity"
    along, h = rng.normal(size=start.shape), 1e-5
    difference = (spread(velocities + h * along)[0] - spread(velocities - h * along)[0]) / (2 * h)
    print(f"mean squared displacement after {given.steps} steps: {value:.6e} Å²")
    print(f"derivative along a random direction: {np.vdot(gradient, along):.9e}")
    print(f"the same by finite difference:       {difference:.9e}")


if __name__ == "__main__":
    main()
