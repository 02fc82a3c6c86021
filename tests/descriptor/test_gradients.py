"""Derivatives of the descriptor with respect to its weights: finite where the textbook's are not."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import nnx

from dpax.deepmd import DescrptDPA1
from dpax.deepmd.module import Fixed

# Two atoms that see each other, one beyond their reach, and one with all of them in its list, empty slots
# included; the last atom is virtual.
COORD = np.array([[[0.0, 0, 0], [0.9, 0.2, -0.3], [9.0, 0, 0], [0.4, 1.1, 0.5], [5.0, 5, 5]]])
ATYPE = np.array([[0, 1, 1, 0, -1]])
NLIST = np.array([[[1, 3, -1, -1], [0, 3, -1, -1], [-1, -1, -1, -1], [0, 1, 2, -1], [-1, -1, -1, -1]]])
FACES = {
    "concat": {},
    "strip": {"tebd_input_mode": "strip", "type_one_side": True},
    "sharp": {"smooth_type_embedding": False},
    "moments": {"lmax": 3, "resnet_dt": True, "temperature": 2.0},
    "not normalised": {"normalize": False, "use_tebd_bias": True},
    "ignore empty": {"empty_slots": "ignore", "attn_norm": "branch", "exclude_types": [[0, 1]]},
}


def make(face, precision="float64"):
    descriptor = DescrptDPA1(
        4.0, 0.5, 4, 2, neuron=[4, 8], axis_neuron=3, attn=6, seed=1, precision=precision, **FACES[face]
    )
    descriptor.stddev = np.full((2, 4, 4), 0.3)
    return descriptor


def total(descriptor, coord):
    return jnp.sum(descriptor(coord, ATYPE, NLIST)[0] ** 2)


@pytest.mark.parametrize(
    ("face", "precision"),
    [*((face, "float64") for face in FACES), ("concat", "float32"), ("sharp", "float32")],
)
def test_parameter_gradients_are_finite(face, precision):
    """With isolated and virtual atoms and empty slots."""
    descriptor = make(face, precision)
    gradient = nnx.jit(nnx.grad(total))(descriptor, jnp.asarray(COORD, precision))
    flat = dict(nnx.to_flat_state(gradient))
    assert flat
    assert all(np.isfinite(g[...]).all() for g in flat.values())
    assert not any(isinstance(g, Fixed) for g in flat.values())
    untouched = {path for path, g in flat.items() if not np.any(g[...])}
    assert not any("embeddings" in path for path in untouched)


def test_parameter_gradients_are_derivatives():
    descriptor = make("concat")
    layer = descriptor.se_atten.embeddings[0]
    w, h = np.asarray(layer.w[...]), 1e-5
    direction = np.random.default_rng(0).normal(size=w.shape)
    gradient = nnx.grad(total)(descriptor, COORD).se_atten.embeddings.layers[0].w[...]
    values = []
    for step in (-2, -1, 1, 2):
        layer.w = w + step * h * direction
        values.append(total(descriptor, COORD))
    slope = np.dot([1, -8, 8, -1], np.array(values)) / (12 * h)
    np.testing.assert_allclose(np.sum(np.asarray(gradient) * direction), slope, rtol=1e-7)


def test_vectorised_over_systems():
    """`jax.vmap` over coordinates is a loop over them, and so are its derivatives."""
    descriptor = make("concat")
    shaken = COORD + np.random.default_rng(0).normal(size=(3, *COORD.shape)) * 0.05
    value_and_gradient = jax.value_and_grad(lambda coord: total(descriptor, coord))
    values, gradients = jax.jit(jax.vmap(value_and_gradient))(jnp.asarray(shaken))
    for coord, value, gradient in zip(shaken, values, gradients, strict=True):
        expected = value_and_gradient(jnp.asarray(coord))
        np.testing.assert_allclose(value, expected[0], rtol=1e-12)
        np.testing.assert_allclose(gradient, expected[1], rtol=1e-9, atol=1e-12)
    assert np.isfinite(gradients).all()
