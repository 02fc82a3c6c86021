"""Activation functions are DeePMD-kit's."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from dpax.errors import InputError
from dpax.nn.activation import ACTIVATIONS, activation

NAMES = [name for name in ACTIVATIONS if "THRESHOLD" not in name]
NAMES += ["silut:3.0", "silut:10.0", "custom_silu:0.5", "Tanh", "GELU", "Linear"]
# Zero, where several of them have a kink, is among the points.
X = np.linspace(-10.0, 10.0, 401)


@pytest.mark.parametrize("name", NAMES)
def test_values_equal_deepmd(name):
    network = pytest.importorskip("deepmd.dpmodel.utils.network")
    expected = network.get_activation_fn(name)(X)
    np.testing.assert_allclose(activation(name)(jnp.asarray(X)), expected, rtol=1e-13, atol=1e-14)


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize("precision", [np.float32, np.float64])
def test_derivatives_are_finite(name, precision):
    """First and second ones, far out too, where careless exponentials overflow."""
    function = activation(name)
    points = jnp.asarray(np.concatenate([X, [-1e4, -100.0, 100.0, 1e4]]), precision)
    for derivative in (function, jax.grad(function), jax.grad(jax.grad(function))):
        values = jax.vmap(derivative)(points)
        assert values.dtype == precision
        assert np.isfinite(values).all()


@pytest.mark.parametrize("threshold", [0.5, 3.0, 10.0])
def test_silut_goes_on_with_the_slope_it_has(threshold):
    function = activation(f"silut:{threshold}")
    for derivative in (function, jax.grad(function)):
        below, above = (float(derivative(jnp.asarray(threshold + x))) for x in (-1e-9, 1e-9))
        assert below == pytest.approx(above, abs=1e-7)


def test_no_name_is_the_identity():
    for name in (None, "", "none", "None", "linear"):
        assert activation(name)(jnp.asarray(7.5)) == 7.5


@pytest.mark.parametrize("name", ["sin", " tanh", "silut:much", "silut:3:4", "tanh:3"])
def test_unknown_names_are_refused(name):
    with pytest.raises(InputError, match=r"activation function .* is not one of none, linear, tanh"):
        activation(name)
