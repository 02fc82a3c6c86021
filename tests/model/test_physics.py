"""What any potential must obey: invariances, derivatives, smoothness, independence of array sizes."""

from functools import cache

import ase.build
import jax
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy.spatial.transform import Rotation

from dpax.deepmd.model_dictionary import model_dictionary, read_model
from dpax.geometry.neighborhoods import Capacity
from dpax.model.energy_model import EnergyModel

from .support import evaluate, tiny_model

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
SHARP = {"version": 1, "smooth_type_embedding": False}


@cache
def model_of(name) -> EnergyModel:
    return tiny_model(**(MODELS | {"sharp": SHARP})[name])


def random_frame(seed, cell=CELL, n=9, pbc=PERIODIC):
    rng = np.random.default_rng(seed)
    return rng.random((n, 3)) @ cell, rng.integers(0, 2, n), cell, pbc


FRAMES = {
    "triclinic": random_frame(1),
    "smaller than the cutoff": random_frame(2, SMALL, 4),
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
    x, types, cell, pbc = FRAMES[frame]
    # The difference formula's own error falls with h⁴, and that of rounding rises with 1/h: of all models
    # and frames the worst is 2e-9 at this step. At 1e-4 LayerNorm's curvature would make it 1e-6.
    h = 1e-5
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
    prediction = evaluate(model_of(name), batch)
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
    x, types, cell, pbc = random_frame(seed)
    rng = np.random.default_rng(seed)
    rotation = Rotation.random(random_state=seed).as_matrix()
    shift, order = rng.normal(size=3) * 5, rng.permutation(len(x))
    other = ((x @ rotation.T + shift)[order], types[order], cell @ rotation.T, pbc)
    prediction = evaluate(model_of(name), [(x, types, cell, pbc), other])
    energies, forces = prediction.energies[:18].reshape(2, 9), prediction.forces[:18].reshape(2, 9, 3)
    np.testing.assert_allclose(energies[1], energies[0][order], rtol=1e-10, atol=1e-11)
    np.testing.assert_allclose(forces[1], (forces[0] @ rotation.T)[order], rtol=1e-8, atol=1e-10)
    rotated = rotation @ prediction.virials[0] @ rotation.T
    np.testing.assert_allclose(prediction.virials[1], rotated, rtol=1e-8, atol=1e-9)


@pytest.mark.parametrize("name", MODELS)
def test_supercell_has_the_energy_of_its_cells(name):
    x, types, cell, pbc = FRAMES["smaller than the cutoff"]
    atoms = ase.build.make_supercell(ase.Atoms(types, x, cell=cell, pbc=True), np.diag([2, 1, 3]))
    big = (atoms.positions, atoms.numbers, atoms.cell.array, pbc)
    prediction = evaluate(model_of(name), [(x, types, cell, pbc), big])
    n = len(x)
    energies = prediction.energies
    np.testing.assert_allclose(energies[n : 7 * n].sum(), 6 * energies[:n].sum(), rtol=1e-10)
    np.testing.assert_allclose(prediction.virials[1], 6 * prediction.virials[0], rtol=1e-9, atol=1e-9)


@pytest.mark.parametrize("name", ["concat", "many options", "ignore empty"])
def test_padding_blocks_and_devices_change_nothing(name):
    frames = [FRAMES[k] for k in ("triclinic", "slab", "one atom", "cluster")]
    n = sum(len(f[0]) for f in frames)
    two = evaluate(model_of(name), frames)
    one = evaluate(model_of(name), frames, Capacity(32, 40), block_size=1, devices=jax.devices()[:1])
    np.testing.assert_allclose(two.energies[:n], one.energies[:n], rtol=1e-11, atol=1e-12)
    np.testing.assert_allclose(two.forces[:n], one.forces[:n], rtol=1e-9, atol=1e-11)
    np.testing.assert_allclose(two.virials, one.virials, rtol=1e-9, atol=1e-10)
    for prediction in (one, two):
        assert not prediction.energies[n:].any()
        assert not prediction.forces[n:].any()


@pytest.mark.parametrize("name", ["concat", "v2"])
def test_more_neighbors_than_sel_all_count(name):
    """DeePMD-kit drops the farthest, which makes a jump; here `sel` is no limit: the energy stays smooth."""
    model = tiny_model(**MODELS[name], sel=5)
    x, types, cell, pbc = FRAMES["triclinic"]
    steps = np.linspace(-1e-3, 1e-3, 9)
    direction = np.random.default_rng(1).normal(size=x.shape)
    prediction = evaluate(model, [(x + s * direction, types, cell, pbc) for s in steps])
    energies = prediction.energies[: 9 * len(x)].reshape(9, -1).sum(axis=1)
    work = np.sum(prediction.forces[4 * len(x) : 5 * len(x)] * direction)
    slope = np.polyfit(steps, energies, 3)[-2]
    np.testing.assert_allclose(slope, -work, rtol=1e-5)


def largest_change_of_curvature(model, h):
    """Of the energy along a line through the cutoff sphere of one atom, between points h apart (eV/Å²)."""
    near = np.array([[0, 0, 0], [0.9, 0.5, 0.3], [0.3, 0.9, -0.2]], float)
    crossing, direction = model.rcut * np.array([0.6, 0.64, 0.48]), np.array([0.8, 0.6, 0.0])
    places = crossing + h * np.arange(-15.5, 16)[:, None] * direction
    types = np.array([0, 1, 1, 0])
    prediction = evaluate(model, [(np.vstack([near, place]), types, None, [False] * 3) for place in places])
    energies = prediction.energies[: 4 * len(places)].reshape(-1, 4).sum(axis=1)
    return np.abs(np.diff(energies, 3)).max() / h**2


# "ignore empty" is missing: there a neighbour counts in the softmax up to the cutoff, and not beyond it.
@pytest.mark.parametrize("name", ["concat", "v2", "many options", "branch norm"])
def test_twice_differentiable_at_the_cutoff(name):
    """Half the step, half the change of curvature; where anything jumps it does not shrink."""
    model = model_of(name)
    assert largest_change_of_curvature(model, 1e-3) < 0.6 * largest_change_of_curvature(model, 2e-3)


@pytest.mark.parametrize("name", ["sharp", "ignore empty"])
def test_scan_through_the_cutoff_sees_a_jump(name):
    """The test above can fail: these models are not smooth, by their definition in DeePMD-kit."""
    model = model_of(name)
    assert largest_change_of_curvature(model, 1e-3) > 0.9 * largest_change_of_curvature(model, 2e-3)


@pytest.mark.parametrize(
    "options", [{"version": 1}, pytest.param({"version": 2}, marks=pytest.mark.slow), SHARP]
)
def test_float32_is_safe_at_the_cutoff(options):
    """One neighbour moved through the cutoff in 4,000 steps: forces within 1e-4 eV/Å of float64."""
    wide = tiny_model(**options)
    narrow = read_model(in_float32(model_dictionary(wide)))
    assert narrow.dtype == np.float32
    cluster = np.array([[0, 0, 0], [0.9, 0.2, 0.1], [-0.4, 0.8, -0.3]], float)
    frames = []
    for r in np.linspace(wide.rcut - 0.02, wide.rcut + 0.002, 4000):
        moved = np.vstack([cluster, r * np.array([[0.6, 0.64, 0.48]])])
        frames.append((moved, np.array([0, 1, 1, 0]), None, [False] * 3))
    exact, single = (evaluate(model, frames, Capacity(16000, 8), 400) for model in (wide, narrow))
    assert np.abs(exact.forces - single.forces).max() < 1e-4


def in_float32(tree):
    if isinstance(tree, dict):
        return {k: "float32" if k == "precision" else in_float32(v) for k, v in tree.items()}
    return [in_float32(v) for v in tree] if isinstance(tree, list) else tree
