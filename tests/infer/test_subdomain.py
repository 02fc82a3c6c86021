"""Structures shared out over several programs, each with a part of the atoms."""

import ase
import numpy as np
import pytest

from dpax.errors import InputError
from dpax.geometry.neighborhoods import Surroundings, neighbor_counts
from dpax.geometry.neighbors import find_edges
from dpax.infer import Potential, SubdomainPotential
from infer.support import told_potential
from model.support import tiny_model


def liquid(n: int, length: float, seed: int = 0) -> ase.Atoms:
    """Atoms of a jittered lattice, so that none are on top of each other."""
    rng = np.random.default_rng(seed)
    side = int(np.ceil(np.cbrt(n)))
    sites = np.array(np.meshgrid(*[np.arange(side)] * 3)).reshape(3, -1).T[:n]
    positions = (sites + rng.uniform(-0.2, 0.2, sites.shape)) * length / side
    return ase.Atoms(rng.choice(["O", "H"], size=n), positions, cell=[length] * 3, pbc=True)


def surroundings(atoms: ase.Atoms, potential: Potential, part: np.ndarray) -> tuple[Surroundings, tuple]:
    """What is around the atoms of a part, and the atoms of each pair."""
    edges = find_edges(atoms.positions, np.array(atoms.cell), atoms.pbc, potential.rcut)
    types = np.array([potential.type_map.index(symbol) for symbol in atoms.symbols])
    used = part[edges.i]
    i, j = edges.i[used], edges.j[used]
    counts = neighbor_counts(i, len(atoms))[part]
    return Surroundings(types[part], counts, types[j], edges.vectors[used], types[0]), (i, j)


@pytest.fixture(scope="module")
def potential() -> Potential:
    """Of a model whose energies depend on the type of the first atom, as DeePMD-kit's may."""
    return Potential(tiny_model(version=2, rcut=3.0, attn_layer=1, neuron=[4, 8]))


def test_parts_add_up(potential):
    atoms = liquid(20, 5.5)
    whole = potential.evaluate(atoms)
    subdomain = SubdomainPotential(potential)
    energies, forces, virial = np.zeros(len(atoms)), np.zeros((len(atoms), 3)), np.zeros((3, 3))
    for part in (atoms.positions[:, 0] < 2.0, atoms.positions[:, 0] >= 2.0, np.zeros(len(atoms), bool)):
        around, (i, j) = surroundings(atoms, potential, part)
        energies[part], gradient = subdomain.evaluate(around)
        np.add.at(forces, i, gradient)
        np.add.at(forces, j, -gradient)
        virial -= around.vectors.T @ gradient
    np.testing.assert_allclose(energies, whole.energies, rtol=1e-12)
    np.testing.assert_allclose(forces, whole.forces, atol=1e-12)
    np.testing.assert_allclose(virial, whole.virial, atol=1e-12)


def test_atoms_that_come_and_go_need_few_programs():
    """Numbers of atoms and neighbours as a rank of a liquid has them, from a crystal on."""
    potential = Potential(tiny_model(rcut=3.0, attn_layer=0, neuron=[4, 8], precision="float32"))
    subdomain = SubdomainPotential(potential)
    rng = np.random.default_rng(0)
    compiled = potential.computation.program._cache_size
    for number in range(60):
        n, most = int(rng.normal(400, 12)), 12 if number == 0 else int(rng.integers(14, 23))
        counts = np.minimum(rng.poisson(9, n), most)
        pairs = counts.sum()
        around = Surroundings(
            rng.integers(2, size=n),
            counts,
            rng.integers(2, size=pairs),
            rng.uniform(0.9, 1.7, size=(pairs, 3)),
            0,
        )
        energies, gradient = subdomain.evaluate(around)
        assert energies.shape == (n,)
        assert gradient.shape == (pairs, 3)
    assert compiled() <= 4


def test_parameters():
    """Told like a whole structure, and none more or less than the model takes."""
    potential = told_potential(1, 2, rcut=3.0, attn_layer=0, neuron=[4, 8])
    atoms = liquid(12, 5.0)
    told = {"fparam": [0.3], "aparam": [1.0, -0.5]}
    around, _ = surroundings(atoms, potential, np.ones(len(atoms), bool))
    energies, _ = SubdomainPotential(potential, **told).evaluate(around)
    expected = potential.evaluate(atoms, **told).energies
    np.testing.assert_allclose(energies, expected, rtol=1e-12)
    assert np.abs(expected - potential.evaluate(atoms, fparam=[0.3], aparam=[1.0, 0.5]).energies).max() > 1e-3
    with pytest.raises(InputError, match="takes 2 aparam, got 1"):
        SubdomainPotential(potential, [0.3], [1.0])
