"""Compression: the table follows the network, and both packages read each other's tables."""

from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import nnx

from dpax.deepmd import DescrptDPA1, DescrptSeAttenV2
from dpax.deepmd.descriptor_dictionary import descriptor as dictionary_of
from dpax.deepmd.descriptor_dictionary import read_tables
from dpax.deepmd.model_dictionary import read_model
from dpax.descriptor.compression import radial_net, radial_range, table_error, tabulate
from dpax.descriptor.initial import initial_arrays
from dpax.descriptor.spec import DescriptorSpec
from dpax.descriptor.table import Knots, fitted_tables, interpolate, radial_table
from dpax.errors import InputError
from dpax.model.energies import Block, atomic_energies
from dpax.model.file import load_model, save_model
from oracle.deepmd_model import evaluate, extended_input, make_descriptor, make_model, structures

STRUCTURES = structures()
CLASSES = {1: DescrptDPA1, 2: DescrptSeAttenV2}
SPEC = DescriptorSpec(
    type="se_atten_v2", rcut=4.0, rcut_smth=0.5, sel=(12,), ntypes=2, neuron=(10, 20, 40), attn_layer=0
)
ARRAYS = initial_arrays(SPEC, seed=1)
NET = radial_net(SPEC, ARRAYS)
KNOTS = Knots(lower=-1.0, upper=3.0, top=9.0, fine=0.02, coarse=0.1, check_frequency=-1.0)


def tables_of(knots, spec=SPEC):
    """The arrays that stand in the place of the nets of such a descriptor."""
    coefficients = tabulate(NET, knots, spec.dtype)
    arrays = {"table/knots": np.array(knots), "table/coefficients": coefficients}
    return fitted_tables(spec, {**arrays, "type_pairs": np.zeros((9, 40))})


@pytest.fixture(scope="module")
def table():
    return radial_table(tables_of(KNOTS))


def up_to_second_derivative(f, x):
    ones = jnp.ones_like(x)

    def slope(x):
        return jax.jvp(f, (x,), (ones,))[1]

    def curvature(x):
        return jax.jvp(slope, (x,), (ones,))[1]

    return [np.asarray(g) for g in jax.jit(lambda x: (f(x), slope(x), curvature(x)))(x)]


# The table itself


def test_deviation_falls_with_the_sixth_power_of_the_stride():
    def error(fine):
        return table_error(radial_table(tables_of(KNOTS._replace(fine=fine))), NET).within

    assert error(0.01) < 1e-9
    assert error(0.05) / error(0.025) == pytest.approx(64, rel=0.2)


def test_reported_error_bounds_what_any_point_sees(table):
    error = table_error(table, NET)
    x = jnp.asarray(np.random.default_rng(0).uniform(KNOTS.lower, KNOTS.top, 5000))
    deviation = np.abs(np.asarray(interpolate(table, x) - NET(x))).max(axis=1)
    assert deviation[x < KNOTS.upper].max() <= 1.02 * error.within + 1e-15
    assert deviation[x >= KNOTS.upper].max() <= 1.02 * error.beyond + 1e-15


def test_value_slope_and_curvature_are_the_nets_on_both_sides_of_a_knot(table):
    """So the table is twice continuously differentiable, also where dense knots give way to sparse ones."""
    fine = KNOTS.lower + KNOTS.fine * np.arange(1, 201)
    coarse = KNOTS.upper + KNOTS.coarse * np.arange(0, 60)
    at = np.concatenate([fine, coarse])
    exact = up_to_second_derivative(NET, jnp.asarray(at))
    for side in (at - 1e-12, at + 1e-12):
        got = up_to_second_derivative(partial(interpolate, table), jnp.asarray(side))
        for ours, net, tolerance in zip(got, exact, (1e-11, 1e-10, 1e-8), strict=True):
            np.testing.assert_allclose(ours, net, atol=tolerance, rtol=0)


def test_a_straight_line_continues_the_table(table):
    for end, outwards in ((KNOTS.lower, -1.0), (KNOTS.top, 1.0)):
        x = end + outwards * jnp.array([0.0, 1e-9, 0.5, 40.0])
        value, slope, curvature = up_to_second_derivative(partial(interpolate, table), x)
        exact = up_to_second_derivative(NET, jnp.array([end]))
        np.testing.assert_allclose(value, value[:1] + (x - end)[:, None] * slope[:1], atol=1e-12)
        np.testing.assert_allclose(value[:1], exact[0], atol=1e-9)
        np.testing.assert_allclose(slope, np.repeat(exact[1], 4, axis=0), atol=1e-8)
        np.testing.assert_array_equal(curvature[1:], 0.0)


def test_a_table_survives_being_written(table):
    written = dictionary_of(SPEC, {**ARRAYS, **tables_of(KNOTS)})["compress"]
    again = radial_table(read_tables(SPEC, written))
    for ours, before in zip(again, table, strict=True):
        np.testing.assert_array_equal(ours, before)


@pytest.mark.parametrize("precision", ["float32", "float16", "bfloat16"])
def test_lower_precisions_get_the_table_of_their_own(precision):
    """Computed in float64, kept in float32 at least: a half precision could not tell the knots apart."""
    table = radial_table(tables_of(KNOTS, SPEC.changed(precision=precision)))
    assert {a.dtype for a in table} == {np.dtype("float32")}
    x = jnp.asarray([-0.7, 0.1, 2.9, 5.03], precision)
    got = interpolate(table, x)
    assert got.dtype == x.dtype
    tolerance = {"float32": 5e-6, "float16": 1e-2, "bfloat16": 5e-2}[precision]
    np.testing.assert_allclose(np.asarray(got, float), NET(x.astype(float)), atol=tolerance)


def test_range_holds_every_type_and_slot():
    mean, stddev = np.array([[0.1, 0.1], [0.3, 0.0]]), np.array([[0.5, 0.5], [0.2, 0.1]])
    lower, upper = radial_range(mean, stddev, 0.8, 4.0, 0.5)
    u = (0.8 - 0.5) / 3.5
    largest = (1 - 10 * u**3 + 15 * u**4 - 6 * u**5) / 0.8
    assert lower == np.floor(-0.3 / 0.2)
    assert upper == np.ceil(largest / 0.1)


# DeePMD-kit

CASES = [
    (1, {}),
    (1, {"type_one_side": True, "smooth_type_embedding": False}),
    (1, {"lmax": 3, "exclude_types": [[0, 1]], "activation_function": "gelu"}),
    (1, {"attn_layer": 2}),
    (2, {"env_protection": 0.1, "concat_output_tebd": False}),
    (2, {"type_one_side": True, "attn_layer": 1}),
]


@pytest.mark.filterwarnings("ignore:.*only (the )?type embedding is compressed")
@pytest.mark.parametrize(("version", "options"), CASES)
def test_both_packages_read_each_others_tables(version, options):
    options = {"attn_layer": 0, **({"tebd_input_mode": "strip"} if version == 1 else {}), **options}
    reference = make_descriptor(version, random_statistics=True, **options)
    plain, ours = (CLASSES[version].deserialize(reference.serialize()) for _ in range(2))
    theirs = type(reference).deserialize(reference.serialize())
    ours.enable_compression(0.9)
    theirs.enable_compression(0.9)
    assert ours.compress
    assert ours.geo_compress == ours.get_geo_compress() == (options["attn_layer"] == 0)
    written, expected = ours.serialize(), theirs.serialize()
    assert written["@version"] == expected["@version"]
    assert sorted(written) == sorted(expected)
    assert sorted(written["compress"]["@variables"]) == sorted(expected["compress"]["@variables"])
    read_by_us = CLASSES[version].deserialize(expected)
    read_by_them = type(reference).deserialize(written)
    for name in ("dense cluster", "out of sight"):
        arguments = extended_input(reference, *STRUCTURES[name])
        mine, exact = ours(*arguments)[0], np.asarray(plain(*arguments)[0])
        scale = np.abs(exact).max()
        for got, wanted, tolerance in (
            (mine, exact, 1e-10),
            (mine, theirs.call(*arguments)[0], 1e-10),
            (read_by_us(*arguments)[0], theirs.call(*arguments)[0], 1e-12),
            (read_by_them.call(*arguments)[0], mine, 1e-12),
        ):
            np.testing.assert_allclose(got, wanted, atol=tolerance * scale, rtol=0, err_msg=name)


def test_tables_stand_in_for_the_networks():
    """What a compressed dictionary's tables say counts, not what its networks say."""
    reference = make_descriptor(2, random_statistics=True, attn_layer=0)
    reference.enable_compression(0.9)
    data = reference.serialize()
    expected = DescrptSeAttenV2.deserialize(data)
    other = make_descriptor(2, attn_layer=0, seed=1).serialize()
    data = {**data, "embeddings": other["embeddings"], "embeddings_strip": other["embeddings_strip"]}
    arguments = extended_input(reference, *STRUCTURES["triclinic"])
    got = DescrptSeAttenV2.deserialize(data)(*arguments)[0]
    np.testing.assert_array_equal(got, expected(*arguments)[0])


def test_a_compressed_model_goes_through_a_file(tmp_path):
    """Energies of DeePMD-kit's compressed model, read, written and read again."""
    theirs = make_model(2, descriptor_options={"attn_layer": 0}, random_statistics=True)
    theirs.atomic_model.descriptor.enable_compression(0.9)
    save_model(tmp_path / "model.dpax", read_model(theirs.serialize()), {})
    model, _ = load_model(tmp_path / "model.dpax")
    assert "table/knots" in model.descriptor
    edges, occupied, types, neighbor_types = block_of(theirs, STRUCTURES["triclinic"])
    arrays = edges, occupied, types, neighbor_types, np.zeros((len(types), 0))
    block = Block(*(jnp.asarray(array) for array in arrays))
    energies = atomic_energies(model.spec, model.weights(), block)
    bias = np.array(model.bias)[types]
    expected = evaluate(theirs, *STRUCTURES["triclinic"])[1]
    np.testing.assert_allclose(energies + bias, expected, rtol=1e-12)


def block_of(model, structure):
    """Edge vectors, whether slots are taken, types and neighbours' types of one frame."""
    coord, atype, nlist, _ = (a if a is None else a[0] for a in extended_input(model, *structure))
    occupied = nlist >= 0
    edges = np.where(occupied[..., None], coord[nlist] - coord[: len(nlist), None], 0.0)
    return edges, occupied, atype[: len(nlist)], atype[nlist]


# Derivatives, and what is refused


def make_ours(**options):
    small = {"neuron": [4, 8], "axis_neuron": 3, "tebd_dim": 4, "attn_layer": 0, "seed": 1}
    return DescrptDPA1(4.0, 0.5, 12, 2, **{"tebd_input_mode": "strip", **small, **options})


def test_derivatives_are_finite_and_those_of_the_network():
    """Also for an atom without neighbours; under jit, with the arrays taken apart and put together."""
    plain, compressed = make_ours(), make_ours()
    compressed.enable_compression(0.9)
    coord = jnp.asarray(STRUCTURES["out of sight"].coord[None])
    atype, nlist = np.array([[0, 1, 1]]), np.full((1, 3, 12), -1)
    nlist[0, 0, 0], nlist[0, 1, 0] = 1, 0

    def second_derivative_along(descriptor, direction):
        graph, state = nnx.split(descriptor)

        @jax.jit
        def both(state, coord):
            def total(x):
                return jnp.sum(nnx.merge(graph, state)(x, atype, nlist)[0] ** 2)

            return jax.jvp(jax.grad(total), (coord,), (direction,))

        return both(state, coord)

    direction = jnp.asarray(np.random.default_rng(2).normal(size=coord.shape))
    exact, ours = (second_derivative_along(d, direction) for d in (plain, compressed))
    for got, wanted in zip(ours, exact, strict=True):
        assert np.all(np.isfinite(got))
        np.testing.assert_allclose(got, wanted, rtol=1e-7, atol=1e-9)


def test_compression_works_without_64_bit_mode():
    with jax.enable_x64(False):
        descriptor = make_ours(precision="float32")
        descriptor.enable_compression(0.9)
        assert descriptor.compression_error().within < 1e-5


def test_attention_leaves_only_the_type_pairs():
    descriptor = make_ours(attn_layer=1, attn=6)
    before = descriptor.weights()
    with pytest.warns(UserWarning, match="only the type embedding is compressed"):
        descriptor.enable_compression(0.9)
    after = descriptor.weights()
    assert after.embedding.table is None
    for a, b in zip(jax.tree.leaves(before), jax.tree.leaves(after), strict=True):
        np.testing.assert_array_equal(a, b)
    with pytest.raises(InputError, match="no table of its radial network"):
        descriptor.compression_error()


@pytest.mark.parametrize(
    ("options", "arguments", "message"),
    [
        ({"tebd_input_mode": "concat"}, {}, "'concat'"),
        ({"resnet_dt": True}, {}, "resnet_dt"),
        ({}, {"min_nbor_dist": 0.0}, "min_nbor_dist is 0.0 Å"),
        ({}, {"min_nbor_dist": 4.0}, "min_nbor_dist is 4.0 Å"),
        ({}, {"min_nbor_dist": float("nan")}, "min_nbor_dist is nan Å"),
        ({}, {"table_stride_1": 0.003}, "table_stride_1 0.003 does not divide"),
        ({}, {"table_stride_2": 0.0}, "strides are positive"),
        ({}, {"table_extrapolate": 0.5}, "table_extrapolate is at least 1"),
    ],
)
def test_what_cannot_be_compressed_is_refused(options, arguments, message):
    descriptor = make_ours(**options)
    with pytest.raises(InputError, match=message):
        descriptor.enable_compression(**{"min_nbor_dist": 0.9, **arguments})
    assert not descriptor.compress


def test_a_compressed_descriptor_stays_as_it_is():
    descriptor = make_ours(type_map=["O", "H"])
    descriptor.enable_compression(0.9, table_stride_1=0.1)
    with pytest.raises(InputError, match="compressed already"):
        descriptor.enable_compression(0.9)
    with pytest.raises(InputError, match="types cannot change"):
        descriptor.change_type_map(["H", "O"])
    assert descriptor.get_type_map() == ["O", "H"]


@pytest.mark.parametrize(
    ("entry", "cut", "message"),
    [
        ("type_embd_data", lambda a: a[:-1], r"type_pairs has shape \(8, 8\); expected \(9, 8\)"),
        (
            "compress_data",
            lambda a: [a[0][:, :-6]],
            r"coefficients has shape .*, 7\); expected \(6, any, 8\)",
        ),
        ("compress_data", lambda a: [a[0][:, :-1]], r"expected \[intervals, 6·width\]"),
        ("compress_info", lambda a: [a[0][:-1]], r"knots has shape \(5,\); expected \(6\)"),
    ],
)
def test_tables_of_another_shape_are_refused(entry, cut, message):
    descriptor = make_ours()
    descriptor.enable_compression(0.9, table_stride_1=0.1)
    data = descriptor.serialize()
    arrays = data["compress"]["@variables"]
    arrays[entry] = cut(arrays[entry])
    with pytest.raises(InputError, match=message):
        DescrptDPA1.deserialize(data)
