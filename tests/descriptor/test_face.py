"""The public face of the descriptor classes: what they take, what they give, what they refuse."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import nnx

from dpax.deepmd import DescrptBlockSeAtten, DescrptDPA1, DescrptSeAttenV2, GatedAttentionLayer
from dpax.deepmd.module import Fixed
from dpax.errors import InputError
from oracle.deepmd_model import make_descriptor

SMALL = {"neuron": [4, 8], "axis_neuron": 3, "tebd_dim": 4, "attn": 6, "attn_layer": 1, "seed": 1}
# Two frames of three atoms and two images: an atom with all neighbours, one with some, one with none.
COORD = np.random.default_rng(0).uniform(0.0, 2.0, (2, 5, 3))
ATYPE = np.array([[0, 1, 1, 0, 1], [1, 0, 1, 1, 0]])
NLIST = np.full((2, 3, 6), -1)
NLIST[:, 0, :4] = [1, 2, 3, 4]
NLIST[:, 1, :2] = [0, 4]
MAPPING = np.array([[0, 1, 2, 0, 1]] * 2)


def make(cls=DescrptDPA1, sel=6, **options):
    return cls(4.0, 0.5, sel, 2, **{**SMALL, **options})


@pytest.fixture(scope="module")
def descriptor():
    return make()


@pytest.fixture(scope="module")
def result(descriptor):
    return descriptor(COORD, ATYPE, NLIST, MAPPING)


# What goes in and comes out


def test_shapes(result):
    described, rotation, nothing, nothing_either, switch = result
    assert described.shape == (2, 3, 8 * 3 + 4)
    assert rotation.shape == (2, 3, 8, 3)
    assert nothing is nothing_either is None
    assert switch.shape == (2, 3, 6, 1)
    assert all(isinstance(a, jax.Array) for a in (described, rotation, switch))
    np.testing.assert_array_equal(np.asarray(switch)[..., 0] > 0, NLIST >= 0)


@pytest.mark.parametrize("given", ["float32", "float64"])
@pytest.mark.parametrize("precision", ["float32", "float64"])
def test_results_have_the_precision_of_the_coordinates(result, precision, given):
    got = make(precision=precision)(COORD.astype(given), ATYPE, NLIST)
    assert {a.dtype for a in got if a is not None} == {np.dtype(given)}
    np.testing.assert_allclose(got[0], result[0], rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize(
    "arguments",
    [
        (COORD.reshape(2, 15), ATYPE, NLIST, MAPPING),
        (COORD, ATYPE, NLIST),
        (COORD.tolist(), ATYPE.tolist(), NLIST.tolist(), None),
        (
            jnp.asarray(COORD),
            jnp.asarray(ATYPE, np.int32),
            jnp.asarray(NLIST, np.int32),
            jnp.asarray(MAPPING),
        ),
    ],
    ids=["flat", "no mapping", "lists", "JAX arrays"],
)
def test_forms_of_the_input(descriptor, result, arguments):
    got = descriptor.call(*arguments)
    for ours, expected in zip(got, result, strict=True):
        np.testing.assert_array_equal(ours, expected)


def test_frames_do_not_see_each_other(descriptor, result):
    for frame in (slice(0, 1), slice(1, 2)):
        alone = descriptor(COORD[frame], ATYPE[frame], NLIST[frame])
        np.testing.assert_allclose(alone[0], result[0][frame], rtol=1e-13)


def test_sel_may_be_a_list(result):
    for sel, expected in ((6, [6]), ([4, 2], [4, 2]), ((6,), [6]), (np.int64(6), [6])):
        descriptor = make(sel=sel)
        assert descriptor.get_sel() == expected
        np.testing.assert_array_equal(descriptor(COORD, ATYPE, NLIST)[0], result[0])


def test_another_number_of_slots_is_refused(descriptor):
    with pytest.raises(InputError, match=r"nlist has 5 slots per atom; sum\(sel\) is 6"):
        descriptor(COORD, ATYPE, NLIST[..., :5])


def test_getters(descriptor):
    expected = {
        "get_rcut": 4.0,
        "get_rcut_smth": 0.5,
        "get_sel": [6],
        "get_nsel": 6,
        "get_nnei": 6,
        "get_ntypes": 2,
        "get_type_map": None,
        "get_dim_out": 28,
        "get_dim_emb": 8,
        "get_env_protection": 0.0,
        "get_numb_attn_layer": 1,
        "get_dim_chg_spin": 0,
        "get_geo_compress": False,
        "has_chg_spin_ebd": False,
        "supports_native_spin": False,
        "supports_charge_spin": False,
        "uses_graph_lower": False,
        "compression_needs_min_nbor_dist": True,
        "mixed_types": True,
        "has_message_passing": False,
        "has_message_passing_across_ranks": False,
        "need_sorted_nlist_for_lower": False,
    }
    assert {name: getattr(descriptor, name)() for name in expected} == expected
    assert (descriptor.dim_out, descriptor.dim_emb, descriptor.compress) == (28, 8, False)
    assert make(concat_output_tebd=False, type_map=["O", "H"]).get_dim_out() == 24
    assert make(type_map=["O", "H"]).get_type_map() == ["O", "H"]


# Settings


@pytest.mark.parametrize(
    ("cls", "options", "message"),
    [
        (DescrptDPA1, {"spin": {"use_spin": [True]}}, "spin is not supported"),
        (DescrptDPA1, {"attn_mask": True}, "attn_mask=True"),
        (DescrptSeAttenV2, {"attn_mask": True}, "attn_mask=True"),
        (DescrptSeAttenV2, {"stripped_type_embedding": False}, "always has a stripped type embedding"),
        (
            DescrptDPA1,
            {"tebd_input_mode": "mixed"},
            "tebd_input_mode: should be 'concat' or 'strip', got 'mixed'",
        ),
        (DescrptDPA1, {"lmax": 5}, "lmax: should be less than or equal to 4, got 5"),
        (
            DescrptDPA1,
            {"axis_neuron": 9},
            r"axis_neuron: should be at most the last width of neuron \(8\), got 9",
        ),
        (DescrptDPA1, {"exclude_types": [[0, 2]]}, "the types are 0 to 1"),
        (DescrptDPA1, {"activation_function": "swish"}, "'swish'"),
        (DescrptDPA1, {"precision": "float8"}, "'float8'"),
        (DescrptDPA1, {"use_econf_tebd": True}, "use_econf_tebd needs type_map"),
    ],
)
def test_settings_that_are_refused(cls, options, message):
    with pytest.raises(InputError, match=message):
        make(cls, **options)


@pytest.mark.parametrize(
    ("cls", "given", "mode", "expected"),
    [
        (DescrptDPA1, True, {"tebd_input_mode": "concat"}, "strip"),
        (DescrptDPA1, False, {"tebd_input_mode": "strip"}, "concat"),
        (DescrptSeAttenV2, True, {}, "strip"),
    ],
)
def test_stripped_type_embedding_overrides(cls, given, mode, expected):
    with pytest.warns(DeprecationWarning, match=f"use tebd_input_mode='{expected}'"):
        descriptor = make(cls, stripped_type_embedding=given, **mode)
    assert descriptor.se_atten.tebd_input_mode == expected


def test_default_settings_are_deepmds():
    descriptor = DescrptDPA1(6.0, 0.5, 10, 2)
    settings = {key: value for key, value in descriptor.serialize().items() if not isinstance(value, dict)}
    reference = type(make_descriptor(1))(6.0, 0.5, 10, 2).serialize()
    for key, value in settings.items():
        assert key == "type_map" or value == reference[key], key


@pytest.mark.parametrize(
    ("options", "frozen"),
    [
        ({}, []),
        ({"trainable_ln": False}, ["attn_layer_norm"]),
        (
            {"trainable": False},
            ["attn_layer_norm", "attention_layer", "embeddings", "type_embedding", "gain"],
        ),
    ],
)
@pytest.mark.parametrize("mode", ["concat", "strip"])
def test_trainable_arrays_are_parameters_and_others_are_not(options, frozen, mode):
    made = make(tebd_input_mode=mode, lmax=2, **options)
    for descriptor in (made, DescrptDPA1.deserialize(made.serialize())):
        for path, variable in nnx.to_flat_state(nnx.state(descriptor)):
            name = "/".join(map(str, path))
            fixed = any(part in name for part in ["mean", "stddev", *frozen])
            assert isinstance(variable, Fixed if fixed else nnx.Param), name


# Serialised form


def test_a_dictionary_of_the_first_version_implies_a_bias_of_the_type_embedding():
    reference = make_descriptor(1, sel=6, use_tebd_bias=True, **{**SMALL, "seed": 2})
    data = {**reference.serialize(), "@version": 1}
    del data["use_tebd_bias"]
    data["type_embedding"] = {**data["type_embedding"], "@version": 1}
    del data["type_embedding"]["use_tebd_bias"]
    descriptor = DescrptDPA1.deserialize(data)
    assert descriptor.use_tebd_bias
    assert descriptor.serialize()["use_tebd_bias"]
    got = descriptor(COORD, ATYPE, NLIST)[0]
    expected = type(reference).deserialize(data).call(COORD, ATYPE, NLIST, MAPPING)[0]
    np.testing.assert_allclose(got, expected, rtol=1e-10, atol=1e-12)


def test_dpaxs_own_settings_are_written_only_where_deepmd_differs(descriptor, result):
    def written(data):
        return {"attn_norm", "empty_slots", "output_scale"} & data.keys()

    plain = descriptor.serialize()
    assert not written(plain)
    assert not written(plain["attention_layers"])
    assert not written(plain["attention_layers"]["attention_layers"][0])
    other = DescrptDPA1.deserialize({**plain, "empty_slots": "ignore"})
    with pytest.raises(InputError, match=r"contradicts itself: .*attn_norm.*'branch'"):
        DescrptDPA1.deserialize({**plain, "attn_norm": "branch"})  # which its layers do not say
    data = make(attn_norm="branch", empty_slots="ignore").serialize()
    assert (data["attn_norm"], data["empty_slots"]) == ("branch", "ignore")
    again = DescrptDPA1.deserialize(data)
    assert again.spec == make(attn_norm="branch", empty_slots="ignore").spec
    assert other.spec.empty_slots == "ignore"
    assert np.abs(again(COORD, ATYPE, NLIST)[0] - result[0]).max() > 1e-3


def test_the_output_scale_multiplies_the_moments_alone(descriptor, result):
    """The type embedding behind them and the rotation matrix stay as they are."""
    other = DescrptDPA1.deserialize({**descriptor.serialize(), "output_scale": 2.5})
    scaled = other(COORD, ATYPE, NLIST)
    n_moments = descriptor.get_dim_out() - descriptor.spec.tebd_dim
    np.testing.assert_allclose(scaled[0][..., :n_moments], 2.5 * result[0][..., :n_moments], rtol=1e-12)
    np.testing.assert_array_equal(scaled[0][..., n_moments:], result[0][..., n_moments:])
    np.testing.assert_array_equal(scaled[1], result[1])
    assert other.serialize()["output_scale"] == make(output_scale=2.5).serialize()["output_scale"] == 2.5


def test_an_unknown_argument_is_refused():
    with pytest.raises(TypeError, match="'output_scales' is no argument of a descriptor"):
        make(output_scales=2.0)


def test_another_descriptors_dictionary_is_refused(descriptor):
    data = descriptor.serialize()
    with pytest.raises(InputError, match="'se_e2_a'; expected 'dpa1'"):
        DescrptDPA1.deserialize({**data, "type": "se_e2_a"})
    with pytest.raises(InputError, match="expected 'se_atten_v2'"):
        DescrptSeAttenV2.deserialize(data)
    with pytest.raises(InputError, match="version 5; this dpax reads 1 to 4"):
        DescrptDPA1.deserialize({**data, "@version": 5})


# Arrays


def test_an_assigned_array_is_what_the_next_call_uses(result):
    descriptor = make()
    other = make(seed=2).se_atten.dpa1_attention[0].attention_layer.in_proj.w
    layer = descriptor.se_atten.dpa1_attention[0].attention_layer.in_proj
    before = np.asarray(layer.w[...])
    layer.w = np.asarray(other[...])
    assert isinstance(layer.w[...], jax.Array)
    assert np.abs(descriptor(COORD, ATYPE, NLIST)[0] - result[0]).max() > 1e-6
    layer.w = before
    descriptor.mean = np.full((2, 6, 4), 0.1)
    np.testing.assert_array_equal(descriptor.se_atten["davg"], 0.1)
    assert np.abs(descriptor(COORD, ATYPE, NLIST)[0] - result[0]).max() > 1e-6
    descriptor.se_atten["davg"] = np.zeros((2, 6, 4))
    np.testing.assert_array_equal(descriptor(COORD, ATYPE, NLIST)[0], result[0])


def test_shared_arrays():
    base, one, all_of_it = make(), make(seed=2), make(seed=3, axis_neuron=2)
    one.share_params(base, 1)
    all_of_it.share_params(base, 0, resume=True)
    base.type_embedding.embedding_net[0].w = np.ones((2, 4))
    base.mean = np.full((2, 6, 4), 0.2)
    np.testing.assert_array_equal(one.type_embedding(), base.type_embedding())
    assert np.abs(one.se_atten.embeddings[0].w[...] - base.se_atten.embeddings[0].w[...]).max() > 0.1
    np.testing.assert_array_equal(one.mean[...], 0.0)
    for a, b in zip(jax.tree.leaves(all_of_it.weights()), jax.tree.leaves(base.weights()), strict=True):
        np.testing.assert_array_equal(a, b)
    shared = nnx.state(nnx.List([base, one, all_of_it]))
    assert len(jax.tree.leaves(shared)) == len(jax.tree.leaves(nnx.state(base))) * 2 - 1


@pytest.mark.parametrize(
    ("base", "level", "message"),
    [
        ({}, 2, "shared_level 2"),
        ({"cls": DescrptSeAttenV2}, 0, "a DescrptDPA1 cannot share arrays with a DescrptSeAttenV2"),
        ({"tebd_dim": 8}, 1, "the same tebd_dim; got 4 and 8"),
        ({"type_map": ["O", "H"]}, 1, "the same type_map"),
    ],
)
def test_arrays_that_cannot_be_shared(descriptor, base, level, message):
    with pytest.raises(InputError, match=message):
        descriptor.share_params(make(**base), level)


# Excluded pairs, compilation, derivatives


def test_excluded_pairs_are_symmetric():
    one, other = (make(exclude_types=[pair]) for pair in ([0, 1], [1, 0]))
    np.testing.assert_array_equal(one(COORD, ATYPE, NLIST)[0], other(COORD, ATYPE, NLIST)[0])

    @jax.jit
    @jax.grad
    def of_first_atom(coord):
        return jnp.sum(one(coord, ATYPE[:1], NLIST[:1])[0][0, 0] ** 2)

    moves = np.abs(of_first_atom(jnp.asarray(COORD[:1]))[0]).max(axis=1)
    np.testing.assert_array_equal(moves > 0, [True, False, False, True, False])


@pytest.mark.parametrize("mode", ["concat", "strip"])
def test_compiled_calls_and_derivatives(mode):
    descriptor = make(tebd_input_mode=mode)

    @jax.jit
    def compiled(coord):
        def total(coord):
            described = descriptor(coord, ATYPE, NLIST)[0]
            return jnp.sum(described**2), described

        return jax.value_and_grad(total, has_aux=True)(coord)

    (_, described), gradient = compiled(jnp.asarray(COORD))
    np.testing.assert_allclose(described, descriptor(COORD, ATYPE, NLIST)[0], rtol=1e-12, atol=1e-14)
    assert np.all(np.isfinite(gradient))
    # Shifting a frame changes nothing.
    np.testing.assert_allclose(jnp.sum(gradient, axis=1), 0.0, atol=1e-12 * np.abs(gradient).max())


# Attention with several heads, which DeePMD-kit's own class does not compute


@pytest.mark.parametrize("smooth", [True, False])
def test_several_heads(smooth):
    """Against the formula written out head by head."""
    layer = GatedAttentionLayer(3, 5, 6, num_heads=2, dotr=True, smooth=smooth, seed=4)
    rng = np.random.default_rng(3)
    g, r, sw = rng.normal(size=(1, 3, 5)), rng.normal(size=(1, 3, 3)), np.array([[0.9, 0.4, 0.0]])
    present = sw > 0
    q, k, v = np.split(np.asarray(layer.in_proj(g))[0], 3, axis=1)
    out = []
    for head in (slice(0, 3), slice(3, 6)):
        a, b, c = (x[:, head] / np.linalg.norm(x[:, head], axis=1, keepdims=True) for x in (q, k, v))
        logits = a @ b.T / np.sqrt(3)
        gate = sw[0][:, None] * sw[0][None, :]
        logits = (logits + 20) * gate - 20 if smooth else np.where(present[0][None, :], logits, -np.inf)
        w = np.exp(logits) / np.exp(logits).sum(axis=1, keepdims=True)
        w = w * (gate if smooth else present[0][:, None]) * (r[0] @ r[0].T)
        out.append(w @ c)
    expected = np.asarray(layer.out_proj(np.concatenate(out, axis=1)))
    expected_of_none = np.asarray(layer.out_proj(np.zeros((1, 6))))
    got = np.asarray(layer(g, present, r, sw))[0]
    np.testing.assert_allclose(got, expected, rtol=1e-12)
    np.testing.assert_allclose(got[2:], expected_of_none, rtol=1e-12)
    again = GatedAttentionLayer.deserialize(layer.serialize())
    np.testing.assert_array_equal(again(g, present, r, sw)[0], got)


def test_heads_must_divide_the_width():
    with pytest.raises(InputError, match="hidden_dim 6 cannot be split into 4 heads"):
        GatedAttentionLayer(3, 5, 6, num_heads=4)


def test_missing_inputs_of_the_parts_are_named():
    g, present = jnp.ones((1, 3, 5)), jnp.ones((1, 3), bool)
    with pytest.raises(InputError, match="needs sw"):
        GatedAttentionLayer(3, 5, 6)(g, present)
    with pytest.raises(InputError, match="needs input_r"):
        GatedAttentionLayer(3, 5, 6, dotr=True, smooth=False)(g, present)
    block = DescrptBlockSeAtten(4.0, 0.5, 6, 2, neuron=[4, 8], attn_layer=0)
    with pytest.raises(InputError, match="needs type_embedding"):
        block(NLIST, COORD, ATYPE)
