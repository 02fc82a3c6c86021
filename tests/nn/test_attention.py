"""Gated attention: DeePMD-kit's numbers for one head, the textbook's for several."""

from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from dpax.deepmd import (
    GatedAttentionLayer,
    NeighborGatedAttention,
    NeighborGatedAttentionLayer,
)
from dpax.descriptor.attention import (
    AttentionSpec,
    AttentionWeights,
    FoldedWeights,
    Slots,
    folded,
    gated_attention,
    prepare_layer,
    split_projection,
)
from dpax.nn.arrays import below
from dpax.nn.layers import affine
from dpax.nn.primitives import layer_norm

NNEI, WIDTH, HIDDEN = 7, 6, 8
FACES = {
    "plain": {},
    "dotr": {"dotr": True},
    "sharp": {"dotr": True, "smooth": False},
    "not normalised": {"normalize": False, "scaling_factor": 2.0},
    "sharp, not normalised": {"normalize": False, "smooth": False, "temperature": 3.0},
    "hot": {"temperature": 50.0, "dotr": True},
}


def dense_inputs(seed=0, empty=(0, 3, 6, NNEI)):
    """Features, mask, directions and switch of atoms with so many empty slots, the last one all empty."""
    rng = np.random.default_rng(seed)
    atoms = len(empty)
    g = rng.normal(size=(atoms, NNEI, WIDTH))
    present = np.arange(NNEI) < NNEI - np.array(empty)[:, None]
    r = rng.normal(size=(atoms, NNEI, 3))
    r = np.where(present[..., None], r / np.linalg.norm(r, axis=-1, keepdims=True), 0.0)
    sw = np.where(present, rng.uniform(0.0, 1.0, present.shape), 0.0)
    return g, present, r, sw


def by_the_textbook(layer: GatedAttentionLayer, g, present, r, sw):
    """Head by head, written with loops: heads are consecutive columns of q, k and v."""
    x = g @ np.asarray(layer.in_proj.w[...]) + np.asarray(layer.in_proj.b[...])
    q, k, v = x[..., :HIDDEN], x[..., HIDDEN : 2 * HIDDEN], x[..., 2 * HIDDEN :]
    d = HIDDEN // layer.num_heads
    heads = []
    for h in range(layer.num_heads):
        columns = slice(h * d, (h + 1) * d)
        qh, kh, vh = q[..., columns], k[..., columns], v[..., columns]
        if layer.normalize:
            qh, kh, vh = (a / np.linalg.norm(a, axis=-1, keepdims=True) for a in (qh, kh, vh))
        scale = layer.temperature or 1.0 / np.sqrt(d * layer.scaling_factor)
        logits = scale * np.einsum("ajd,akd->ajk", qh, kh)
        gate = sw[:, :, None] * sw[:, None, :]
        if layer.smooth:
            weights = softmax((logits + 20.0) * gate - 20.0) * gate
        else:
            kept = present[:, :, None] & present[:, None, :]
            weights = np.where(kept, softmax(np.where(kept, logits, -1e300)), 0.0)
        if layer.dotr:
            weights = weights * np.einsum("ajx,akx->ajk", r, r)
        heads.append(np.einsum("ajk,akd->ajd", weights, vh))
    out = np.concatenate(heads, axis=-1)
    return out @ np.asarray(layer.out_proj.w[...]) + np.asarray(layer.out_proj.b[...])


def softmax(x):
    e = np.exp(x - x.max(axis=-1, keepdims=True))
    return e / e.sum(axis=-1, keepdims=True)


@pytest.mark.parametrize("face", FACES)
@pytest.mark.parametrize("num_heads", [1, 2, 4])
def test_any_number_of_heads(face, num_heads):
    layer = GatedAttentionLayer(NNEI, WIDTH, HIDDEN, num_heads=num_heads, seed=1, **FACES[face])
    layer.in_proj.b = np.random.default_rng(1).normal(size=3 * HIDDEN)
    layer.out_proj.b = np.random.default_rng(2).normal(size=WIDTH)
    g, present, r, sw = dense_inputs()
    got = layer(g, present, r, sw)
    np.testing.assert_allclose(
        np.broadcast_to(got, g.shape), by_the_textbook(layer, g, present, r, sw), rtol=1e-11, atol=1e-12
    )


@pytest.mark.parametrize("face", FACES)
def test_one_head_equals_deepmd(face):
    """All three classes, dictionaries both ways."""
    theirs = pytest.importorskip("deepmd.dpmodel.descriptor.dpa1")
    g, present, r, sw = dense_inputs(empty=(0, 3, 6))
    settings = FACES[face] | {"precision": "float64", "seed": 3}
    arguments = {
        "GatedAttentionLayer": (GatedAttentionLayer, (NNEI, WIDTH, HIDDEN)),
        "NeighborGatedAttentionLayer": (NeighborGatedAttentionLayer, (NNEI, WIDTH, HIDDEN)),
        "NeighborGatedAttention": (NeighborGatedAttention, (2, NNEI, WIDTH, HIDDEN)),
    }
    for name, (cls, sizes) in arguments.items():
        reference = getattr(theirs, name)(*sizes, **settings)
        expected = reference.call(g, present, r, sw)
        expected = expected[0] if name == "GatedAttentionLayer" else expected
        ours = cls.deserialize(reference.serialize())
        np.testing.assert_allclose(ours(g, present, r, sw), expected, rtol=1e-11, atol=1e-12, err_msg=name)
        assert sorted(ours.serialize()) == sorted(reference.serialize())
        back = type(reference).deserialize(ours.serialize()).call(g, present, r, sw)
        np.testing.assert_array_equal(
            back[0] if name == "GatedAttentionLayer" else back, expected, err_msg=name
        )


@pytest.mark.parametrize("smooth", [True, False])
@pytest.mark.parametrize("num_heads", [1, 2])
def test_empty_slots_do_not_touch_the_others(smooth, num_heads):
    """Rows of empty slots are the bias; what stands in them changes nothing, and derivatives are finite."""
    layer = GatedAttentionLayer(NNEI, WIDTH, HIDDEN, num_heads=num_heads, dotr=True, smooth=smooth, seed=2)
    g, present, r, sw = dense_inputs()
    out = np.asarray(layer(g, present, r, sw))
    assert np.abs(out[present]).min() > 0
    np.testing.assert_array_equal(out[~present], 0.0)  # biases are zero at first
    other = np.where(present[..., None], g, 5.0)
    np.testing.assert_allclose(layer(other, present, r, sw), out, rtol=1e-12, atol=1e-15)
    gradient = jax.grad(lambda g: jnp.sum(layer(g, present, r, sw) ** 2))(jnp.asarray(g))
    assert np.isfinite(gradient).all()
    np.testing.assert_array_equal(gradient[~present], 0.0)


def test_norm_of_the_branch():
    """`attn_norm`: LayerNorm of the sum, or of the attention before it is added."""
    inputs = dense_inputs()
    both = [NeighborGatedAttentionLayer(NNEI, WIDTH, HIDDEN, seed=1, attn_norm=n) for n in ("sum", "branch")]
    g, present, r, sw = inputs
    attention = both[0].attention_layer(g, present, r, sw)
    norm = partial(layer_norm, w=jnp.ones(WIDTH), b=jnp.zeros(WIDTH), eps=1e-5)  # before any training
    np.testing.assert_allclose(both[0](*inputs), norm(g + attention), rtol=1e-12)
    np.testing.assert_allclose(both[1](*inputs), g + norm(attention), rtol=1e-12)
    again = NeighborGatedAttentionLayer.deserialize(both[1].serialize())
    np.testing.assert_array_equal(again(*inputs), both[1](*inputs))


@pytest.mark.parametrize("normalize", [True, False])
def test_empty_slots_that_the_array_lacks_count(normalize):
    """`missing` stands for slots of a longer array, and a negative number for those of a shorter one."""
    layer = GatedAttentionLayer(NNEI, WIDTH, HIDDEN, normalize=normalize, dotr=True, seed=1)
    g, present, r, sw = (jnp.asarray(a[:3]) for a in dense_inputs(empty=(1, 3, 6)))
    none = jnp.zeros(WIDTH)
    spec = layer.settings.spec
    assert isinstance(spec, AttentionSpec)
    weights = prepare_layer(spec, {**layer.arrays(), "norm/w": none, "norm/b": none})
    full = gated_attention(g, weights, Slots(present, sw, r, jnp.zeros(3)), spec)
    full = full[0] if isinstance(full, tuple) else full
    for columns, missing in ((6, 1.0), (9, -2.0)):
        pad = max(columns - NNEI, 0)
        a, b, c, d = (
            jnp.pad(x, [(0, 0), (0, pad)] + [(0, 0)] * (x.ndim - 2))[:, :columns] for x in (g, present, r, sw)
        )
        other = gated_attention(a, weights, Slots(b, d, c, jnp.full(3, missing)), spec)
        other = other[0] if isinstance(other, tuple) else other
        n = min(columns, NNEI)
        np.testing.assert_allclose(other[:, :n], full[:, :n], rtol=1e-12, atol=1e-14)


def plain_weights(layer, bias="any"):
    """The arrays of a layer as they are, nothing multiplied out."""
    if bias == "any":
        layer.in_proj.b = np.random.default_rng(1).normal(size=3 * layer.hidden_dim)
        layer.out_proj.b = np.random.default_rng(2).normal(size=WIDTH)
    return as_they_are(layer)


def as_they_are(layer):
    arrays, width = layer.arrays(), layer.embed_dim
    projections = split_projection(affine(below(arrays, "in_proj")))
    out = affine(below(arrays, "out_proj"))
    return AttentionWeights(*projections, out, jnp.ones(width), jnp.zeros(width))


@pytest.mark.parametrize("face", FACES)
@pytest.mark.parametrize("bias", ["none", "zero", "any"])
def test_folded_says_the_same(face, bias):
    """Outputs, and the derivatives that forces and the training on them take."""
    layer = GatedAttentionLayer(NNEI, WIDTH, 24, bias=bias != "none", seed=1, **FACES[face])
    weights, spec = plain_weights(layer, bias), layer.settings.spec
    assert isinstance(folded(weights, spec), FoldedWeights)
    g, present, r, sw = dense_inputs()
    g, present, r, sw = (jnp.asarray(array) for array in (g, present, r, sw))
    direction = jnp.asarray(np.random.default_rng(3).normal(size=g.shape))

    def output(weights, g):
        return gated_attention(g, weights, Slots(present, sw, r, jnp.zeros(len(g))), spec)

    def slope(weights, g):
        return jax.grad(lambda g: jnp.sum(jnp.sin(output(weights, g))))(g)

    def of_weights(weights, prepare):
        def changes(weights):
            value, change = jax.jvp(partial(output, prepare(weights)), (g,), (direction,))
            return jnp.sum(jnp.sin(value)) + jnp.sum(jnp.cos(change))

        return jax.grad(changes)(weights)

    fold = partial(folded, spec=spec)
    np.testing.assert_allclose(output(fold(weights), g), output(weights, g), rtol=1e-12, atol=1e-13)
    np.testing.assert_allclose(slope(fold(weights), g), slope(weights, g), rtol=1e-11, atol=1e-12)
    for found, expected in zip(
        jax.tree.leaves(of_weights(weights, fold)),
        jax.tree.leaves(of_weights(weights, lambda weights: weights)),
        strict=True,
    ):
        np.testing.assert_allclose(found, expected, rtol=1e-10, atol=1e-11)


def test_nothing_to_fold():
    """Heads, narrow queries and half precision stay as they are."""
    for hidden, given in ((24, {"num_heads": 2}), (24, {"precision": "bfloat16"}), (WIDTH + 1, {})):
        layer = GatedAttentionLayer(NNEI, WIDTH, hidden, seed=1, **given)
        assert folded(weights := plain_weights(layer, "zero"), layer.settings.spec) is weights


def test_folded_is_as_exact_in_float32():
    """DeePMD-kit's widths, features that are nearly alike: within 1e-5 of float64, like the plain form."""
    layer = GatedAttentionLayer(60, 100, 128, dotr=True, seed=1)
    layer.in_proj.b = np.random.default_rng(1).normal(size=3 * 128)
    weights = as_they_are(layer)
    rng = np.random.default_rng(2)
    g = rng.normal(size=(4, 1, 100)) + 0.05 * rng.normal(size=(4, 60, 100))
    r = rng.normal(size=(4, 60, 3))
    r /= np.linalg.norm(r, axis=-1, keepdims=True)
    slots = Slots(np.ones((4, 60), bool), rng.uniform(0.1, 1.0, (4, 60)), r, np.zeros(4))

    def slope(weights, dtype):
        cast = partial(jax.tree.map, lambda x: jnp.asarray(x, dtype if x.dtype.kind == "f" else x.dtype))

        def total(g):
            return jnp.sum(jnp.sin(gated_attention(g, weights, cast(slots), layer.settings.spec)))

        return np.asarray(jax.grad(total)(jnp.asarray(g, dtype)), np.float64)

    single = jax.tree.map(lambda x: jnp.asarray(x, "float32"), weights)
    exact = slope(weights, "float64")
    scale = np.abs(exact).max()
    for form in (single, folded(single, layer.settings.spec)):
        assert np.abs(slope(form, "float32") - exact).max() < 1e-5 * scale


def test_assigned_projection_is_used_by_the_next_call():
    inputs = dense_inputs()
    layer, other = (GatedAttentionLayer(NNEI, WIDTH, HIDDEN, seed=seed) for seed in (1, 2))
    layer.in_proj.w = np.asarray(other.in_proj.w[...])
    layer.out_proj.w = np.asarray(other.out_proj.w[...])
    assert isinstance(layer.in_proj.w[...], jax.Array)
    np.testing.assert_array_equal(layer(*inputs), other(*inputs))
