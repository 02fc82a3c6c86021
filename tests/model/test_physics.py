"""What any potential must obey: invariances, derivatives, smoothness, independence of array sizes."""

import ase.build
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy.spatial.transform import Rotation

from dpax.geometry.neighbors import Capacity
from dpax.model.derivatives import atomic_virials_from, edge_gradients, hessian, make_mesh

from .support import batch_of, evaluate, tiny_model

CELL = np.array([[6.2, 0.0, 0.0], [1.3, 5.9, 0.0], [-0.8, 1.1, 6.4]])
SMALL = np.array([[3.1, 0.0, 0.0], [0.4, 3.3, 0.0], [0.2, -0.3, 2.9]])
LONG = np.diag([2.6, 2.7, 20.0])
PERIODIC = [True] * 3
MODELS = {
    "concat": {"version": 1},
    "v2": {"version": 2},
    "many options": {"version": 1, "tebd_input_mode": "strip", "lmax": 4, "exclude_types": [[1, 1]]},
    "branch norm": {"version": 1, "attn_norm": "branch"},
    "ignore empty": {"version": 2, "empty_slots": "ignore"},
}


def random_frame(seed, cell=CELL, n=9, pbc=PERIODIC):
    rng = np.random.default_rng(seed)
    return rng.random((n, 3)) @ cell, rng.integers(0, 2, n), cell, pbc


FRAMES = {
    "triclinic": random_frame(1),
    "smaller than the cut-off": random_frame(2, SMALL, 4),
    "elongated": random_frame(3, LONG, 7),
    "slab": random_frame(4, pbc=[True, True, False]),
    "wire": random_frame(5, pbc=[False, False, True]),
    "cluster": random_frame(6, pbc=[False] * 3),
    "one atom": random_frame(7, np.diag([30.0] * 3), 1, [False] * 3),
    "one atom and its images": random_frame(8, SMALL, 1),
}


@pytest.mark.parametrize("name", MODELS)
@pytest.mark.parametrize("frame", FRAMES)
def test_forces_and_virial_are_derivatives(name, frame):
    model = tiny_model(**MODELS[name])
    x, types, cell, pbc = FRAMES[frame]
    h = 1e-4
    rng = np.random.default_rng(0)
    direction = rng.normal(size=x.shape)
    strain = rng.normal(size=(3, 3)) * 0.3
    # The four points of a fourth-order difference, for positions and for strain, in one batch.
    steps = np.array([-2, -1, 1, 2]) * h
    moved = [(x + s * direction, types, cell, pbc) for s in steps]
    strained = [
        (x @ (np.eye(3) + s * strain).T, types, cell @ (np.eye(3) + s * strain).T, pbc) for s in steps
    ]
    batch = [(x, types, cell, pbc), *moved, *strained]
    prediction = evaluate(model, batch)
    energies = prediction.energies[: len(batch) * len(x)].reshape(len(batch), -1).sum(axis=1)
    stencil = np.array([1, -8, 8, -1]) / (12 * h)
    np.testing.assert_allclose(
        -stencil @ energies[1:5], np.sum(prediction.forces[: len(x)] * direction), atol=1e-7
    )
    np.testing.assert_allclose(-stencil @ energies[5:9], np.sum(prediction.virials[0] * strain), atol=1e-7)
    np.testing.assert_allclose(prediction.virials[0], prediction.virials[0].T, atol=1e-11)
    np.testing.assert_allclose(prediction.forces[: len(x)].sum(axis=0), 0, atol=1e-11)


@given(seed=st.integers(0, 10**6), name=st.sampled_from(sorted(MODELS)))
def test_rotation_translation_permutation(seed, name):
    model = tiny_model(**MODELS[name])
    x, types, cell, pbc = random_frame(seed)
    rng = np.random.default_rng(seed)
    rotation = Rotation.random(random_state=seed).as_matrix()
    shift, order = rng.normal(size=3) * 5, rng.permutation(len(x))
    other = ((x @ rotation.T + shift)[order], types[order], cell @ rotation.T, pbc)
    prediction = evaluate(model, [(x, types, cell, pbc), other], Capacity(18, 64))
    energies, forces = prediction.energies[:18].reshape(2, 9), prediction.forces[:18].reshape(2, 9, 3)
    np.testing.assert_allclose(energies[1], energies[0][order], rtol=1e-10, atol=1e-11)
    np.testing.assert_allclose(forces[1], (forces[0] @ rotation.T)[order], rtol=1e-8, atol=1e-10)
    rotated = rotation @ prediction.virials[0] @ rotation.T
    np.testing.assert_allclose(prediction.virials[1], rotated, rtol=1e-8, atol=1e-9)


@pytest.mark.parametrize("name", MODELS)
def test_supercell_has_the_energy_of_its_cells(name):
    model = tiny_model(**MODELS[name])
    x, types, cell, pbc = FRAMES["smaller than the cut-off"]
    atoms = ase.build.make_supercell(ase.Atoms(types, x, cell=cell, pbc=True), np.diag([2, 1, 3]))
    big = (atoms.positions, atoms.numbers, atoms.cell.array, pbc)
    prediction = evaluate(model, [(x, types, cell, pbc), big])
    n = len(x)
    energies = prediction.energies
    np.testing.assert_allclose(energies[n : 7 * n].sum(), 6 * energies[:n].sum(), rtol=1e-10)
    np.testing.assert_allclose(prediction.virials[1], 6 * prediction.virials[0], rtol=1e-9, atol=1e-9)


@pytest.mark.parametrize("name", MODELS)
def test_padding_blocks_and_devices_change_nothing(name):
    model = tiny_model(**MODELS[name])
    frames = [FRAMES[k] for k in ("triclinic", "slab", "one atom", "cluster")]
    n = sum(len(f[0]) for f in frames)
    one = evaluate(model, frames, devices=make_mesh().devices.ravel()[:1].tolist(), block_size=1)
    for capacity, block in ((Capacity(32, 40), 5), (Capacity(64, 104), 16)):
        two = evaluate(model, frames, capacity, block)
        np.testing.assert_allclose(two.energies[:n], one.energies[:n], rtol=1e-11, atol=1e-12)
        np.testing.assert_allclose(two.forces[:n], one.forces[:n], rtol=1e-9, atol=1e-11)
        np.testing.assert_allclose(two.virials, one.virials, rtol=1e-9, atol=1e-10)
        assert not two.energies[n:].any()
        assert not two.forces[n:].any()


@pytest.mark.parametrize("name", ["concat", "v2", "many options"])
def test_more_neighbors_than_sel_all_count(name):
    """DeePMD-kit drops the farthest, which makes a jump; here `sel` is no limit and the energy stays smooth."""
    model = tiny_model(**MODELS[name], sel=5)
    x, types, cell, pbc = FRAMES["triclinic"]
    steps = np.linspace(-1e-3, 1e-3, 9)
    direction = np.random.default_rng(1).normal(size=x.shape)
    prediction = evaluate(model, [(x + s * direction, types, cell, pbc) for s in steps])
    energies = prediction.energies[: 9 * len(x)].reshape(9, -1).sum(axis=1)
    work = np.sum(prediction.forces[4 * len(x) : 5 * len(x)] * direction)
    slope = np.polyfit(steps, energies, 3)[-2]
    np.testing.assert_allclose(slope, -work, rtol=1e-5)


@pytest.mark.parametrize("name", ["concat", "v2", "many options", "branch norm"])
def test_twice_differentiable_at_the_cutoff(name):
    """A neighbour moved through the cut-off: energy, slope and curvature have no jump."""
    model = tiny_model(**MODELS[name])
    x = np.array([[0, 0, 0], [0.9, 0.2, 0.1], [-0.4, 0.8, -0.3], [0, 0, 0]], float)
    types = np.array([0, 1, 1, 0])
    h = 1e-3
    radii = model.rcut + h * np.arange(-20, 21)
    direction = np.array([0.6, 0.64, 0.48])
    frames = []
    for r in radii:
        moved = x.copy()
        moved[3] = r * direction
        frames.append((moved, types, None, [False] * 3))
    prediction = evaluate(model, frames)
    energies = prediction.energies[: 4 * len(radii)].reshape(-1, 4).sum(axis=1)
    slopes = -prediction.forces[: 4 * len(radii)].reshape(-1, 4, 3)[:, 3] @ direction
    curvature = np.diff(slopes) / h
    # A jump would not shrink with the step; smooth functions change by O(h) at most.
    assert np.abs(np.diff(energies)).max() < 1e-6
    assert np.abs(np.diff(slopes)).max() < 1e-4
    assert np.abs(np.diff(curvature)).max() < 0.05


def test_float32_is_safe_at_the_cutoff():
    """One neighbour moved through the cut-off in 4,000 steps: forces within 1e-4 eV/Å of float64."""
    for options in ({"version": 1}, {"version": 2}, {"version": 1, "smooth_type_embedding": False}):
        wide = tiny_model(**options)
        from dpax.model.potential import EnergyModel

        narrow = EnergyModel.deserialize(_in_float32(wide.serialize()))
        assert narrow.dtype == np.float32
        cluster = np.array([[0, 0, 0], [0.9, 0.2, 0.1], [-0.4, 0.8, -0.3]], float)
        radii = np.linspace(wide.rcut - 0.02, wide.rcut + 0.002, 4000)
        frames = [
            (
                np.vstack([cluster, r * np.array([[0.6, 0.64, 0.48]])]),
                np.array([0, 1, 1, 0]),
                None,
                [False] * 3,
            )
            for r in radii
        ]
        exact, single = (evaluate(model, frames, Capacity(16000, 8), 400) for model in (wide, narrow))
        assert np.abs(exact.forces - single.forces).max() < 1e-4


def _in_float32(tree):
    if isinstance(tree, dict):
        return {k: "float32" if k == "precision" else _in_float32(v) for k, v in tree.items()}
    return [_in_float32(v) for v in tree] if isinstance(tree, list) else tree


@pytest.mark.parametrize("frame", ["triclinic", "smaller than the cut-off", "cluster"])
def test_hessian_and_atomic_virials(frame):
    model = tiny_model()
    x, types, cell, pbc = FRAMES[frame]
    neighborhoods = batch_of(model, [FRAMES[frame]])
    mesh = make_mesh()
    n = len(x)
    second = np.asarray(hessian(model.spec(), model.weights(), neighborhoods, mesh, 4))[:n, :, :n]
    h = 1e-4
    direction = np.random.default_rng(2).normal(size=x.shape)
    moved = evaluate(model, [(x + s * h * direction, types, cell, pbc) for s in (-2, -1, 1, 2)])
    forces = moved.forces[: 4 * n].reshape(4, n, 3)
    expected = -np.tensordot(np.array([1, -8, 8, -1]) / (12 * h), forces, axes=1)
    np.testing.assert_allclose(np.einsum("iajb,jb->ia", second, direction), expected, atol=1e-6)
    _, gradient = edge_gradients(model.spec(), model.weights(), neighborhoods, mesh, 4)
    shares = np.asarray(atomic_virials_from(gradient, neighborhoods))
    total = evaluate(model, [FRAMES[frame]]).virials[0]
    np.testing.assert_allclose(shares.sum(axis=0), total, rtol=1e-10, atol=1e-11)
