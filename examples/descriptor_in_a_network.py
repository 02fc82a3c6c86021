"""Use DPA-1's descriptor inside another JAX program to learn a number for each atom.

    python examples/descriptor_in_a_network.py

The number is the energy that ASE's EMT potential assigns to each atom of an alloy. Only a descriptor, a
linear layer and optax are needed: there are no derivatives with respect to positions, and dpax's training is
not used.
"""

import argparse

import jax
import jax.numpy as jnp
import numpy as np
import optax
from ase.build import bulk
from ase.calculators.emt import EMT

from dpax.descriptor.describe import describe, prepare
from dpax.descriptor.initial import initial_arrays, trained
from dpax.descriptor.spec import DescriptorSpec
from dpax.geometry.neighborhoods import Neighborhoods, capacity_needed, pack, surroundings
from dpax.geometry.neighbors import find_edges

ELEMENTS = ("Cu", "Au")
CUTOFF = 5.0
"""Å."""


def alloys(frames: int, seed: int) -> tuple[Neighborhoods, jax.Array]:
    """Frames of a random alloy, joined along one axis of atoms, and the energy of each atom in eV."""
    rng = np.random.default_rng(seed)
    structures, energies = [], []
    for _ in range(frames):
        atoms = bulk("Cu", "fcc", a=3.8, cubic=True)
        kinds = rng.integers(0, 2, len(atoms))
        atoms.symbols[:] = [ELEMENTS[kind] for kind in kinds]
        atoms.rattle(0.1, rng=rng)
        atoms.calc = EMT()
        edges = find_edges(atoms.positions, atoms.cell.array, atoms.pbc, CUTOFF)
        structures.append(surroundings(edges, kinds))
        energies.append(atoms.get_potential_energies())
    neighborhoods = pack(structures, capacity_needed(structures), np.float32)
    return neighborhoods, jnp.asarray(np.concatenate(energies), jnp.float32)


def main() -> None:
    """Train, and print the error on structures that were not used for training."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("--steps", type=int, default=300)
    steps = parser.parse_args().steps

    spec = DescriptorSpec(
        type="se_atten",
        smooth_type_embedding=True,
        rcut=CUTOFF,
        rcut_smth=1.0,
        sel=[60],
        ntypes=len(ELEMENTS),
        neuron=[8, 16],
        axis_neuron=4,
        attn=16,
        attn_layer=1,
        precision="float32",
    )
    arrays = initial_arrays(spec, seed=0)
    learned = {name: arrays[name] for name in trained(spec, arrays)}
    readout = {"w": jnp.zeros(spec.width), "b": jnp.zeros(())}

    def predict(weights, nb: Neighborhoods) -> jax.Array:
        learned, readout = weights
        occupied = nb.neighbors >= 0
        prepared = prepare(spec, {**arrays, **learned})
        described = describe(spec, prepared, nb.edges, occupied, nb.types, nb.neighbor_types)
        return described.descriptor @ readout["w"] + readout["b"]

    def loss(weights, nb: Neighborhoods, energies: jax.Array) -> jax.Array:
        return jnp.mean((predict(weights, nb) - energies) ** 2)

    optimizer = optax.adam(optax.cosine_decay_schedule(1e-2, steps))
    weights = (learned, readout)
    state = optimizer.init(weights)

    @jax.jit
    def step(weights, state, nb: Neighborhoods, energies: jax.Array):
        value, gradient = jax.value_and_grad(loss)(weights, nb, energies)
        updates, state = optimizer.update(gradient, state, weights)
        return optax.apply_updates(weights, updates), state, value

    data, test = alloys(32, seed=1), alloys(8, seed=2)
    for number in range(steps):
        weights, state, value = step(weights, state, *data)
        if number % 50 == 0:
            print(f"step {number}: RMSE {1e3 * float(value) ** 0.5:.1f} meV")
    error = 1e3 * float(loss(weights, *test)) ** 0.5
    print(f"new structures: RMSE {error:.1f} meV (spread {1e3 * float(jnp.std(test[1])):.1f} meV)")


if __name__ == "__main__":
    main()
