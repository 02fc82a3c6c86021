"""Layers and networks: the residual rule, layer normalisation, dictionaries, assignment, initial weights."""

from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import nnx

from dpax.errors import InputError
from dpax.model.potential import reinitialize
from dpax.nn.initial import draw
from dpax.nn.layers import EmbeddingNet, FittingNet, Layer, LayerNorm
from dpax.nn.module import Fixed
from dpax.nn.precision import PRECISIONS, jax_dtype, numpy_dtype
from dpax.nn.primitives import normalize_rows, quadratic_form, squared_length

X = np.random.default_rng(0).normal(size=(3, 5, 6))


@pytest.mark.parametrize("timestep", [True, False])
@pytest.mark.parametrize("bias", [True, False])
@pytest.mark.parametrize("width", [6, 12, 7, 3])
def test_residual_rule(width, bias, timestep):
    """The input is added where the widths match, and twice where the width doubles; elsewhere not."""
    layer = Layer(6, width, bias, timestep, "tanh", resnet=True, seed=1)
    if bias:
        layer.b = np.linspace(-1, 1, width)
    assert (layer.idt is not None) == (timestep and width in (6, 12))
    expected = np.tanh(X @ np.asarray(layer.w[...]) + (np.linspace(-1, 1, width) if bias else 0))
    if layer.idt is not None:
        expected = expected * np.asarray(layer.idt[...])
    if width == 6:
        expected = expected + X
    if width == 12:
        expected = expected + np.concatenate([X, X], axis=-1)
    np.testing.assert_allclose(layer(X), expected, rtol=1e-13)
    plain = Layer(6, width, bias, timestep, "tanh", resnet=False, seed=1)
    assert np.abs(plain(X)).max() < 1.01


@pytest.mark.parametrize("neuron", [[6, 12, 24], [7, 7, 14], [3]])
@pytest.mark.parametrize("timestep", [True, False])
def test_networks_equal_deepmd(neuron, timestep):
    """Dictionaries both ways, and the numbers of embedding and fitting nets."""
    network = pytest.importorskip("deepmd.dpmodel.utils.network")
    settings = {"activation_function": "gelu", "resnet_dt": timestep, "precision": "float64"}
    for theirs, cls in (
        (network.EmbeddingNet(6, neuron, seed=1, **settings), EmbeddingNet),
        (network.FittingNet(6, 1, neuron, seed=1, **settings), FittingNet),
    ):
        ours = cls.deserialize(theirs.serialize())
        expected = theirs.call(X)
        np.testing.assert_allclose(ours(jnp.asarray(X)), expected, rtol=1e-12, atol=1e-13)
        back = type(theirs).deserialize(ours.serialize())
        np.testing.assert_array_equal(back.call(X), expected)


def test_layer_norm_equals_deepmd():
    network = pytest.importorskip("deepmd.dpmodel.utils.network")
    theirs = network.LayerNorm(6, eps=1e-3, precision="float64")
    rng = np.random.default_rng(1)
    theirs.w, theirs.b = rng.normal(size=6), rng.normal(size=6)
    ours = LayerNorm.deserialize(theirs.serialize())
    np.testing.assert_allclose(ours(jnp.asarray(X)), theirs.call(X), rtol=1e-12, atol=1e-13)
    back = network.LayerNorm.deserialize(ours.serialize())
    np.testing.assert_array_equal(back.call(X), theirs.call(X))


def test_layer_norm_by_its_definition():
    norm = LayerNorm(6)
    np.testing.assert_allclose(np.mean(norm(X), axis=-1), 0, atol=1e-12)
    np.testing.assert_allclose(np.var(norm(1e3 * X), axis=-1), 1, rtol=1e-9)
    constant = jnp.ones((2, 6))
    np.testing.assert_array_equal(norm(constant), 0)
    assert np.isfinite(jax.grad(lambda x: jnp.sum(norm(x) ** 2))(constant)).all()


@pytest.mark.parametrize("precision", ["float32", "float64"])
def test_rows_of_zeros_are_normalised_with_finite_derivatives(precision):
    rows = jnp.asarray([[3.0, 4.0], [0.0, 0.0], [1e-30, 0.0]], precision)
    unit = normalize_rows(rows)
    np.testing.assert_allclose(unit[0], [0.6, 0.8], rtol=1e-6)
    np.testing.assert_array_equal(unit[1], 0)
    assert np.isfinite(jax.jacobian(normalize_rows)(rows)).all()


@pytest.mark.parametrize("bias", [True, False])
def test_squared_length_by_its_definition(bias):
    """Value and derivatives, up to those that training on forces takes of it."""
    rng = np.random.default_rng(0)
    w, g, along = rng.normal(size=(6, 9)), rng.normal(size=(5, 6)), rng.normal(size=(5, 6))
    b = rng.normal(size=9) if bias else None

    def by_form(w, b, g):
        return squared_length(g, quadratic_form(w, b))

    def by_definition(w, b, g):
        return jnp.sum((g @ w + (0.0 if b is None else b)) ** 2, axis=-1)

    def changes(length, w, b, g):
        value, change = jax.jvp(partial(length, w, b), (g,), (along,))
        return jnp.sum(jnp.sin(value)) + jnp.sum(jnp.cos(change))

    def everything(length):
        def total(w, b, g):
            return jnp.sum(jnp.sin(length(w, b, g)))

        first, second = (jax.grad(f, argnums=(0, 1, 2))(w, b, g) for f in (total, partial(changes, length)))
        return length(w, b, g), first, second, jax.hessian(total, argnums=2)(w, b, g)

    form, definition = (jax.jit(partial(everything, length))() for length in (by_form, by_definition))
    for found, expected in zip(jax.tree.leaves(form), jax.tree.leaves(definition), strict=True):
        np.testing.assert_allclose(found, expected, rtol=1e-11, atol=1e-11)


def test_assigned_array_is_stored_and_used():
    """As a JAX array of the layer's precision; a compiled function that takes the state sees it too."""
    layer = Layer(6, 6, precision="float32", seed=1)
    graph, _ = nnx.split(layer)
    compiled = jax.jit(lambda state, x: nnx.merge(graph, state)(x))
    for number in range(2):
        layer.w = np.full((6, 6), float(number))
        layer.b = [0.5] * 6
        assert isinstance(layer.w[...], jax.Array)
        assert layer.w[...].dtype == layer.b[...].dtype == np.float32
        expected = number * X.sum(axis=-1, keepdims=True) + 0.5 + np.zeros(6)
        np.testing.assert_allclose(layer(jnp.asarray(X, "float32")), expected, rtol=1e-5)
        state = nnx.state(layer)
        np.testing.assert_allclose(compiled(state, jnp.asarray(X, "float32")), expected, rtol=1e-5)


def test_frozen_arrays_get_no_gradient():
    net = FittingNet(6, 1, [6, 6], trainable=[True, False, True], seed=1)
    assert isinstance(net[1].w, Fixed)
    gradient = nnx.grad(lambda net: jnp.sum(net(X) ** 2))(net)
    paths = {path[:2] for path, _ in nnx.to_flat_state(gradient)}
    assert paths == {("layers", 0), ("layers", 2)}
    with pytest.raises(InputError, match="trainable has 2 flags; expected one for each of 3 layers"):
        FittingNet(6, 1, [6, 6], trainable=[True, False])


def test_seeds_decide_the_weights():
    one, same, other, fresh = (np.asarray(Layer(6, 6, seed=s).w[...]) for s in (1, 1, 2, None))
    np.testing.assert_array_equal(one, same)
    assert (one != other).all()
    assert (one != fresh).all()


def test_reinitialize_draws_every_layer_from_its_own_name():
    net, same = EmbeddingNet(6, [6, 6], resnet_dt=True, seed=1), EmbeddingNet(6, [6, 6], resnet_dt=True)
    reinitialize(net, "deepmd", 5)
    reinitialize(same, "deepmd", 5)
    for a, b in zip(net.layers, same.layers, strict=True):
        np.testing.assert_array_equal(a.w[...], b.w[...])
        assert (a.b[...] != 0).all()
        np.testing.assert_allclose(a.idt[...], 0.1, atol=0.01)
    assert (net[0].w[...] != net[1].w[...]).all()
    reinitialize(net, "dpax", None)
    assert (net[0].w[...] != same[0].w[...]).all()
    assert not net[0].b[...].any()


@pytest.mark.parametrize(("rule", "variance"), [("dpax", 1 / 300), ("deepmd", 1 / 500)])
def test_variance_of_initial_weights(rule, variance):
    drawn = draw(rule, 300, 200, seed=0)
    assert drawn.w.var() == pytest.approx(variance, rel=0.05)
    assert draw(rule, 300, 200, seed=0, scale=1.0).w.shape == (300, 200)


def test_unknown_rule_is_refused():
    with pytest.raises(InputError, match="'xavier' is not one of dpax, deepmd"):
        draw("xavier", 2, 2, seed=0)


def test_precisions():
    names = {name: numpy_dtype(name).name for name in PRECISIONS}
    assert names["default"] == names["double"] == "float64"
    assert names["single"] == "float32"
    assert names["half"] == "float16"
    with pytest.raises(InputError, match="precision 'float128' is not one of default, float16"):
        Layer(2, 2, precision="float128")


def test_float64_is_refused_where_jax_would_compute_in_float32():
    with jax.enable_x64(False):
        assert jax_dtype("float32") == np.float32
        for precision in ("default", "float64", "double"):
            with pytest.raises(InputError, match="jax_enable_x64"):
                Layer(2, 2, precision=precision)


def without_w(data):
    data["@variables"] = {**data["@variables"], "w": np.zeros(6)}


def short_bias(data):
    data["@variables"] = {**data["@variables"], "b": np.zeros(5)}


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda d: d.update({"@class": "Conv"}), "describes a 'Conv'; expected Layer"),
        (lambda d: d.update({"@version": 3}), "version 3; this dpax reads 1 to 2"),
        (without_w, r"w has shape \(6,\); expected two axes"),
        (short_bias, r"b has length 5; its w has shape \(6, 6\)"),
    ],
)
def test_foreign_dictionaries_are_refused(change, message):
    data = Layer(6, 6, seed=1).serialize()
    change(data)
    with pytest.raises(InputError, match=message):
        Layer.deserialize(data)
