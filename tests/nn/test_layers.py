"""Layers and networks: the residual rule, layer normalisation, dictionaries, assignment, initial weights."""

from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import nnx

from dpax.deepmd import DescrptDPA1, GatedAttentionLayer, NeighborGatedAttention, dictionary
from dpax.deepmd.fitting_dictionary import fitted_fitting
from dpax.deepmd.module import Fixed, Layer, variables
from dpax.deepmd.module import network as module_of
from dpax.deepmd.places import arrays_in
from dpax.errors import InputError
from dpax.model.fitting import fit, initial_arrays, prepare_fitting, trained
from dpax.model.fitting_spec import FittingSpec
from dpax.nn.arrays import below, fitted
from dpax.nn.initial import Draws
from dpax.nn.layers import LayerPlan, affine, apply_layers, dense, network, plan_network
from dpax.nn.precision import PRECISIONS, jax_dtype, numpy_dtype
from dpax.nn.primitives import layer_norm, normalize_rows, quadratic_form, squared_length

X = np.random.default_rng(0).normal(size=(3, 5, 6))
FLOAT64 = np.dtype("float64")


def fitting_spec(neuron=(6, 6), **options):
    return FittingSpec(neuron=neuron, ntypes=1, descriptor_width=6, **options)


@pytest.mark.parametrize("timestep", [True, False])
@pytest.mark.parametrize("bias", [True, False])
@pytest.mark.parametrize("width", [6, 12, 7, 3])
def test_residual_rule(width, bias, timestep):
    """The input is added where the widths match, and twice where the width doubles; elsewhere not."""
    plan = LayerPlan("0", 6, width, bias, timestep)
    layer = affine(below(plan.initial(Draws(1), plan.name), plan.name))
    if bias:
        layer = layer._replace(b=jnp.linspace(-1, 1, width))
    assert (layer.b is not None) == bias
    assert (layer.idt is not None) == (timestep and width in (6, 12))
    x = jnp.asarray(X)
    expected = np.tanh(X @ np.asarray(layer.w) + (np.linspace(-1, 1, width) if bias else 0))
    if layer.idt is not None:
        expected = expected * np.asarray(layer.idt)
    np.testing.assert_allclose(dense(x, layer, "tanh", resnet=False), expected, rtol=1e-13, atol=1e-15)
    if width == 6:
        expected = expected + X
    if width == 12:
        expected = expected + np.concatenate([X, X], axis=-1)
    np.testing.assert_allclose(dense(x, layer, "tanh", resnet=True), expected, rtol=1e-13, atol=1e-15)


@pytest.mark.parametrize("neuron", [[6, 12, 24], [7, 7, 14], [3]])
@pytest.mark.parametrize("timestep", [True, False])
def test_embedding_nets_equal_deepmd(neuron, timestep):
    """Dictionaries both ways, and the numbers."""
    theirs = pytest.importorskip("deepmd.dpmodel.utils.network").EmbeddingNet(
        6, neuron, seed=1, activation_function="gelu", resnet_dt=timestep, precision="float64"
    )
    expected, widths = theirs.call(X), (6, *neuron)
    plans = plan_network("", widths, timestep=timestep)
    shapes = ((name, shape) for plan in plans for name, shape in plan.shapes().items())
    arrays = fitted(below(arrays_in(theirs.serialize()), "layers"), shapes, FLOAT64)
    ours = apply_layers(jnp.asarray(X), network(arrays), "gelu")
    np.testing.assert_allclose(ours, expected, rtol=1e-12, atol=1e-13)
    written = dictionary.embedding_network(arrays, widths, "gelu", timestep, "float64", trainable=True)
    np.testing.assert_array_equal(type(theirs).deserialize(written).call(X), expected)


@pytest.mark.parametrize("neuron", [[6, 12, 24], [7, 7, 14], [3]])
@pytest.mark.parametrize("timestep", [True, False])
def test_fitting_nets_equal_deepmd(neuron, timestep):
    """Dictionaries both ways, and the numbers."""
    theirs = pytest.importorskip("deepmd.dpmodel.utils.network").FittingNet(
        6, 1, neuron, seed=1, activation_function="gelu", resnet_dt=timestep, precision="float64"
    )
    rows = X.reshape(-1, 6)
    expected = theirs.call(rows)
    spec = fitting_spec(neuron, activation_function="gelu", resnet_dt=timestep)
    arrays = fitted_fitting(spec, below(arrays_in(theirs.serialize()), "layers"))
    ours = fit(prepare_fitting(spec, arrays), "gelu", jnp.asarray(rows), jnp.zeros((len(rows), 0)))
    np.testing.assert_allclose(ours, expected[:, 0], rtol=1e-12, atol=1e-13)
    back = type(theirs).deserialize(dictionary.fitting_network(arrays, spec))
    np.testing.assert_array_equal(back.call(rows), expected)


def test_layer_norm_equals_deepmd():
    """Its dictionary both ways, and the numbers."""
    theirs = pytest.importorskip("deepmd.dpmodel.utils.network").LayerNorm(6, eps=1e-3, precision="float64")
    rng = np.random.default_rng(1)
    theirs.w, theirs.b = rng.normal(size=6), rng.normal(size=6)
    arrays = arrays_in(theirs.serialize())
    ours = layer_norm(jnp.asarray(X), jnp.asarray(arrays["w"]), jnp.asarray(arrays["b"]), eps=1e-3)
    np.testing.assert_allclose(ours, theirs.call(X), rtol=1e-12, atol=1e-13)
    back = type(theirs).deserialize(dictionary.layer_norm(arrays, 1e-3, "float64", trainable=True))
    np.testing.assert_array_equal(back.call(X), theirs.call(X))


def test_layer_norm_by_its_definition():
    norm, x = partial(layer_norm, w=jnp.ones(6), b=jnp.zeros(6), eps=1e-5), jnp.asarray(X)
    np.testing.assert_allclose(np.mean(norm(x), axis=-1), 0, atol=1e-12)
    np.testing.assert_allclose(np.var(norm(1e3 * x), axis=-1), 1, rtol=1e-9)
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
    w, g, along = (jnp.asarray(rng.normal(size=shape)) for shape in ((6, 9), (5, 6), (5, 6)))
    b = jnp.asarray(rng.normal(size=9)) if bias else None

    def by_form(w, b, g):
        return squared_length(g, quadratic_form(w, b))

    def by_definition(w, b, g):
        return jnp.sum((g @ w + (0.0 if b is None else b[None])) ** 2, axis=-1)

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
    zeros = {"w": np.zeros((6, 6), "float32"), "b": np.zeros(6, "float32")}
    layer = Layer(variables(zeros, lambda _: True))
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
    spec = fitting_spec(resnet_dt=False, trainable=(True, False, True))
    arrays = initial_arrays(spec, seed=1)
    names = trained(spec, arrays)
    assert names == {"0/w", "0/b", "2/w", "2/b"}
    net = module_of(variables(arrays, names.__contains__))
    assert isinstance(net[1].w, Fixed)
    gradient = nnx.grad(lambda net: jnp.sum(net[2](net[1](net[0](X))) ** 2))(net)
    paths = {path[:2] for path, _ in nnx.to_flat_state(gradient)}
    assert paths == {("layers", 0), ("layers", 2)}
    with pytest.raises(InputError, match=r"trainable: should have 3 flags .*, got 2"):
        fitting_spec(trainable=(True, False))


def test_seeds_decide_the_weights():
    one, same, other, fresh = (Draws(s).layer("0", 6, 6).w for s in (1, 1, 2, None))
    np.testing.assert_array_equal(one, same)
    assert (one != other).all()
    assert (one != fresh).all()


def test_every_layer_is_drawn_from_its_own_name():
    spec = fitting_spec()
    arrays, same = (initial_arrays(spec, 5, "deepmd") for _ in range(2))
    for name, array in arrays.items():
        np.testing.assert_array_equal(array, same[name])
    for number in (0, 1):
        assert (arrays[f"{number}/b"] != 0).all()
        np.testing.assert_allclose(arrays[f"{number}/idt"], 0.1, atol=0.01)
    assert (arrays["0/w"] != arrays["1/w"]).all()
    fresh = initial_arrays(spec, None, "dpax")
    assert (fresh["0/w"] != arrays["0/w"]).all()
    assert not fresh["0/b"].any()


@pytest.mark.parametrize(("rule", "variance"), [("dpax", 1 / 300), ("deepmd", 1 / 500)])
def test_variance_of_initial_weights(rule, variance):
    drawn = Draws(0, rule).layer("0", 300, 200)
    assert drawn.w.var() == pytest.approx(variance, rel=0.05)
    assert Draws(0, rule).layer("0", 300, 200, scale=1.0).w.shape == (300, 200)


def test_unknown_rule_is_refused():
    with pytest.raises(InputError, match="'xavier' is not one of dpax, deepmd"):
        Draws(0, "xavier")


def test_precisions():
    names = {name: numpy_dtype(name).name for name in PRECISIONS}
    assert names["default"] == names["double"] == "float64"
    assert names["single"] == "float32"
    assert names["half"] == "float16"
    for refuse in (numpy_dtype, jax_dtype, partial(GatedAttentionLayer, 2, 2, 2, 1, False, False, 1.0)):
        with pytest.raises(InputError, match="precision 'float128' is not one of default, float16"):
            refuse(precision="float128")


def test_float64_is_refused_where_jax_would_compute_in_float32():
    with jax.enable_x64(False):
        assert jax_dtype("float32") == np.float32
        for precision in ("default", "float64", "double"):
            for refuse in (jax_dtype, partial(GatedAttentionLayer, 2, 2, 2)):
                with pytest.raises(InputError, match="jax_enable_x64"):
                    refuse(precision=precision)


def layer_of_a_descriptor():
    """A descriptor's class and dictionary, and the dictionary of one of its layers."""
    data = DescrptDPA1(
        4.0, 0.5, 6, 2, [6, 6], 3, tebd_input_mode="strip", resnet_dt=True, attn_layer=0, seed=1
    ).serialize()
    return DescrptDPA1, data, data["embeddings"]["networks"][0]["layers"][1]


def layer_of_attention():
    """The same of attention."""
    data = NeighborGatedAttention(2, 4, 6, 2, seed=1).serialize()
    return NeighborGatedAttention, data, data["attention_layers"][1]["attention_layer"]["in_proj"]


LAYERS = [layer_of_a_descriptor, layer_of_attention]


def put(name, array):
    def change(layer):
        layer["@variables"] = {**layer["@variables"], name: array}

    return change


@pytest.mark.parametrize("of", LAYERS)
@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda d: d.update({"@class": "Conv"}), "describes a 'Conv'; expected Layer"),
        (lambda d: d.update({"@version": 3}), "version 3; this dpax reads 1 to 2"),
        (put("w", np.zeros(6)), r"/w has shape \(6,\); expected \(6, 6\)"),
        (put("w", None), "/w is missing"),
        (put("b", np.zeros(5)), r"/b has shape \(5,\); expected \(6,\)"),
        (lambda d: d.update(bias=False), r"contradicts itself: .*\.bias is False, .* says True"),
        (lambda d: d.update(activation_function="relu"), r"\.activation_function is 'relu', .* says '"),
        (lambda d: d.update(resnet=None), r"\.resnet is None, .* says (True|False)"),
        (lambda d: d.update(precision="float32"), r"\.precision is 'float32', .* says 'float64'"),
        (lambda d: d.update(dropout=0.5), r"no setting '.*\.dropout'"),
    ],
)
def test_foreign_dictionaries_are_refused(of, change, message):
    cls, data, layer = of()
    change(layer)
    with pytest.raises(InputError, match=message):
        cls.deserialize(data)


@pytest.mark.parametrize("of", LAYERS)
def test_biases_with_one_axis_more_are_read(of):
    """DeePMD-kit flattens biases and time steps when it reads them, and so does dpax."""
    cls, data, layer = of()
    expected = jax.tree.leaves(cls.deserialize(data).arrays())
    for name in ("b", "idt"):
        if layer["@variables"][name] is not None:
            put(name, layer["@variables"][name][None])(layer)
    for array, other in zip(jax.tree.leaves(cls.deserialize(data).arrays()), expected, strict=True):
        np.testing.assert_array_equal(array, other)
