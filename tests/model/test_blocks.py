"""Any number of atoms goes into blocks of a good size, and comes out as it went in."""

from types import SimpleNamespace
from unittest.mock import Mock

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from jax.sharding import Mesh

from dpax.geometry.neighborhoods import Capacity
from dpax.model import blocks
from dpax.model.blocks import _widths, layout, make_mesh
from dpax.model.derivatives import edge_gradients, loss_gradient
from model.support import batch_of, tiny_model


@given(st.integers(1, 400), st.integers(1, 4), st.integers(1, 16), st.sampled_from([(), (3,), (2, 5)]))
def test_split_and_joined(share, devices, block_size, inner):
    laid = layout(share * devices, devices, block_size)
    x = jnp.asarray(np.random.default_rng(0).normal(size=(share * devices, *inner)))
    parts = laid.split(x, fill=-1)
    assert parts.shape == (devices * laid.blocks, laid.size, *inner)
    np.testing.assert_array_equal(laid.join(parts), x)
    # What fills the last block of each device is marked as such.
    assert np.sum(np.all(np.asarray(parts) == -1, axis=tuple(range(2, parts.ndim)))) == (
        parts.shape[0] * laid.size - len(x)
    )


@given(st.integers(1, 400), st.integers(1, 4), st.integers(2, 16))
def test_neither_small_blocks_nor_much_filling(share, devices, block_size):
    """A prime number of atoms once made blocks of one atom, which are several times slower."""
    laid = layout(share * devices, devices, block_size)
    assert min(block_size // 2, share) <= laid.size <= block_size
    assert laid.blocks * laid.size - share < laid.size
    assert laid.blocks * laid.size <= -(-share // block_size) * block_size


def droplet(n: int = 90) -> tuple:
    """Atoms in a ball, those on its surface with half the neighbours of those inside."""
    rng = np.random.default_rng(1)
    grid = np.stack(np.meshgrid(*[np.arange(-3, 4)] * 3, indexing="ij"), -1).reshape(-1, 3) * 1.5
    inside = grid[np.argsort(np.linalg.norm(grid + 0.1, axis=1))][:n]
    return inside + rng.uniform(-0.2, 0.2, inside.shape), rng.integers(2, size=n), None, (False,) * 3


@pytest.mark.parametrize("holes", [pytest.param(False, marks=pytest.mark.slow), True])
def test_blocks_on_few_slots_say_the_same(monkeypatch, holes):
    """Energies, edge gradients and the parameter gradient, to rounding; with empty slots in between too."""
    model = tiny_model(rcut=4.0, neuron=[4, 8], attn_layer=1)
    batch = batch_of(model, [droplet()], Capacity(96, 88))
    counts = np.sum(np.asarray(batch.neighbors) >= 0, axis=1)
    monkeypatch.setattr(blocks, "_MANY_SLOTS", 88)
    assert _widths(88, 12, (13 / 16, 7 / 8)) == (72, 80, 88)
    assert counts.max() > 79 > 71 > 40 > counts[counts > 0].min()
    if holes:
        neighbors, types = np.array(batch.neighbors), np.asarray(batch.types)
        neighbors[::2, 3:9] = -1
        kept = neighbors >= 0
        batch = batch._replace(
            neighbors=neighbors,
            edges=np.where(kept[..., None], np.asarray(batch.edges), 0.0),
            neighbor_types=np.where(kept, np.asarray(batch.neighbor_types), types[0]),
        )
    mesh, spec, weights = make_mesh(jax.devices()[:2]), model.spec, model.weights()

    def everything(batch):
        def loss(prediction):
            total = jnp.sum(prediction.forces**2) + jnp.sum(prediction.virials**2)
            return total + jnp.sum(jnp.sin(prediction.energies)), prediction.energies

        edges = edge_gradients(spec, weights, batch, mesh, 4)
        return edges, loss_gradient(spec, lambda w: w, weights, batch, 1, loss, mesh, 4)

    # Two functions, or the second would take the program of the first.
    few = jax.jit(lambda batch: everything(batch))(batch)
    monkeypatch.setattr(blocks, "_MANY_SLOTS", 1000)
    all_of_them = jax.jit(lambda batch: everything(batch))(batch)
    for found, expected in zip(jax.tree.leaves(few), jax.tree.leaves(all_of_them), strict=True):
        scale = np.abs(np.asarray(expected)).max(initial=1e-12)
        np.testing.assert_allclose(found, expected, rtol=0, atol=1e-12 * scale)


def test_options_for_gpus_are_for_gpus_alone(monkeypatch):
    monkeypatch.setattr(blocks, "_ON_GPU", {"no_such_option": True})
    on_gpu = Mock(Mesh, devices=np.array([SimpleNamespace(platform="gpu")]))
    assert blocks.compiled(jnp.sum, make_mesh())(jnp.ones(3)) == 3
    with pytest.raises(jax.errors.JaxRuntimeError, match="no_such_option"):
        blocks.compiled(jnp.sum, on_gpu)(jnp.ones(3))


def test_xla_knows_the_options_for_gpus():
    """They are handed to it on GPUs alone; a name that it lacks would be refused on CPUs too."""
    squared = jax.jit(lambda x: x @ x, compiler_options=blocks._ON_GPU)
    np.testing.assert_array_equal(squared(jnp.eye(2)), np.eye(2))
