"""DPA-1's numbers are DeePMD-kit's: descriptors against its NumPy model, dictionaries both ways."""

import itertools

import numpy as np
import pytest
from deepmd.dpmodel.utils.neighbor_graph import from_dense_quartet

from dpax.deepmd import DescrptBlockSeAtten, DescrptDPA1, DescrptSeAttenV2
from oracle.deepmd_model import (
    TINY_DESCRIPTOR,
    TYPE_MAP,
    evaluate_descriptor,
    extended_input,
    make_descriptor,
    structures,
)

STRUCTURES = structures()
CLASSES = {1: DescrptDPA1, 2: DescrptSeAttenV2}

# Each option beside the defaults at least twice, in the company of different others (a covering array):
# what each case leaves out is what the next ones vary. `make test` takes each variation in two of the modes,
# once smooth and once not, once concatenated and once stripped; the slow tests take it in all four.
MODES = [(True, "concat"), (True, "strip"), (False, "strip"), (False, "concat")]
VARIATIONS = [
    {},
    {"attn_layer": 0},
    {"attn_layer": 1, "normalize": False},
    {"attn_layer": 3, "attn_dotr": False},
    {"exclude_types": [[0, 1]]},
    {"exclude_types": [[1, 1], [0, 0]], "attn_dotr": False, "set_davg_zero": True},
    {"env_protection": 0.2, "type_one_side": True},
    {"env_protection": 0.05, "lmax": 4, "resnet_dt": True},
    {"lmax": 2, "exclude_types": [[0, 0]]},
    {"lmax": 3, "attn_layer": 0, "concat_output_tebd": False},
    {"temperature": 1.7, "activation_function": "gelu"},
    {"temperature": 3.0, "normalize": False, "activation_function": "relu"},
    {"scaling_factor": 2.5, "activation_function": "silu", "axis_neuron": 7},
    {"scaling_factor": 0.01, "activation_function": "softplus"},
    {"activation_function": "sigmoid", "neuron": [16, 16, 32]},
    {"activation_function": "relu6", "neuron": [17, 34], "resnet_dt": True},
    {"activation_function": "linear", "ln_eps": 1e-3, "trainable_ln": False},
    {"activation_function": "silut:2.0", "type_one_side": True, "resnet_dt": True},
    {"activation_function": "custom_silu", "use_tebd_bias": True, "tebd_dim": 2},
    {"activation_function": "gelu_tf", "use_econf_tebd": True, "type_map": ["O", "H"]},
    {"use_econf_tebd": True, "use_tebd_bias": True, "concat_output_tebd": False, "type_map": ["O", "H"]},
    {"tebd_dim": 4, "sel": [30, 30], "rcut_smth": 3.5},
]
CASES = [
    pytest.param(
        1,
        {"smooth_type_embedding": smooth, "tebd_input_mode": mode, **options},
        id=f"{'smooth' if smooth else 'sharp'}-{mode}-{variation}",
        marks=[] if number % 2 == variation % 2 else pytest.mark.slow,
    )
    for (number, (smooth, mode)), (variation, options) in itertools.product(
        enumerate(MODES), enumerate(VARIATIONS)
    )
] + [
    pytest.param(2, options, id=f"v2-{number}")
    for number, options in enumerate(VARIATIONS)
    if options.get("set_davg_zero") is None
]


def relative_error(got, expected):
    return np.abs(np.asarray(got) - expected).max() / np.abs(expected).max()


@pytest.mark.parametrize(("version", "options"), CASES)
def test_descriptor_equals_deepmd(version, options):
    """Numbers of every structure, and the dictionary written back, which DeePMD-kit reads."""
    reference = make_descriptor(version, random_statistics=True, **options)
    descriptor = CLASSES[version].deserialize(reference.serialize())
    assert sorted(descriptor.serialize()) == sorted(reference.serialize())
    back = type(reference).deserialize(descriptor.serialize())
    expected = evaluate_descriptor(reference, *STRUCTURES["triclinic"])[0]
    np.testing.assert_array_equal(evaluate_descriptor(back, *STRUCTURES["triclinic"])[0], expected)
    for name, structure in STRUCTURES.items():
        coord_ext, atype_ext, nlist, mapping = extended_input(reference, *structure)
        expected = reference.call(coord_ext, atype_ext, nlist, mapping)
        got = descriptor(coord_ext, atype_ext, nlist, mapping)
        assert relative_error(got[0], expected[0]) < 1e-10, name
        # The moments of an isolated atom are zero: compared on the scale of the descriptor's moments.
        np.testing.assert_allclose(got[1], expected[1], rtol=1e-9, atol=1e-12, err_msg=name)
        np.testing.assert_allclose(got[4], expected[4], rtol=1e-10, atol=1e-13, err_msg=name)


@pytest.mark.parametrize("smooth", [True, False])
@pytest.mark.parametrize("mode", ["concat", "strip"])
def test_statistics_that_differ_between_slots(smooth, mode):
    """Arrays set by hand need be neither equal in all slots nor isotropic; DeePMD-kit's numbers come out."""
    reference = make_descriptor(1, smooth_type_embedding=smooth, tebd_input_mode=mode)
    rng = np.random.default_rng(1)
    shape = (2, reference.get_nsel(), 4)
    mean, stddev = rng.normal(size=shape), 0.1 + np.abs(rng.normal(size=shape))
    reference.set_stat_mean_and_stddev(mean, stddev)
    ours = DescrptDPA1.deserialize(
        make_descriptor(1, smooth_type_embedding=smooth, tebd_input_mode=mode).serialize()
    )
    ours.mean, ours.stddev = mean, stddev
    arguments = extended_input(reference, *STRUCTURES["triclinic"])
    assert relative_error(ours(*arguments)[0], reference.call(*arguments)[0]) < 1e-10


@pytest.mark.parametrize("version", [1, 2])
@pytest.mark.parametrize("attn_layer", [0, 2])
def test_ignoring_empty_slots_equals_deepmds_graph(version, attn_layer):
    """The second semantics is that of DeePMD-kit's neighbour graph, which counts no empty slot."""
    reference = make_descriptor(version, random_statistics=True, attn_layer=attn_layer)
    data = reference.serialize()
    ours = CLASSES[version].deserialize({**data, "empty_slots": "ignore"})
    for name, structure in STRUCTURES.items():
        coord_ext, atype_ext, nlist, mapping = extended_input(reference, *structure)
        graph = from_dense_quartet(coord_ext, nlist, mapping, compact=True)
        table = reference.type_embedding.call()
        expected = reference.call_graph(graph, structure.atype, type_embedding=table)[0]
        got = ours(coord_ext, atype_ext, nlist)[0][0]
        assert relative_error(got, expected) < 1e-10, name


def test_block_class_equals_deepmd():
    reference = make_descriptor(1, random_statistics=True)
    block = DescrptBlockSeAtten.deserialize(reference.se_atten.serialize())
    coord_ext, atype_ext, nlist, mapping = extended_input(reference, *STRUCTURES["triclinic"])
    table = reference.type_embedding.call()
    expected = reference.se_atten.call(nlist, coord_ext, atype_ext, table[atype_ext], mapping, table)
    for got, wanted in zip(block(nlist, coord_ext, atype_ext, type_embedding=table), expected, strict=True):
        np.testing.assert_allclose(got, wanted, rtol=1e-9, atol=1e-12)


@pytest.mark.parametrize("precision", ["float32", "float16", "bfloat16"])
def test_lower_precisions_agree_as_far_as_they_can(precision):
    reference = make_descriptor(1, random_statistics=True)
    data = reference.serialize()
    ours = DescrptDPA1.deserialize(_with_precision(data, precision))
    arguments = extended_input(reference, *STRUCTURES["triclinic"])
    tolerance = {"float32": 1e-5, "float16": 2e-2, "bfloat16": 2e-1}[precision]
    got = np.asarray(ours(*arguments)[0], np.float64)
    assert relative_error(got, reference.call(*arguments)[0]) < tolerance
    assert ours.serialize()["precision"] == precision


def _with_precision(tree, precision):
    if isinstance(tree, dict):
        return {
            key: precision if key == "precision" else _with_precision(value, precision)
            for key, value in tree.items()
        }
    return [_with_precision(v, precision) for v in tree] if isinstance(tree, list) else tree


def test_type_map_changes_by_name():
    """Subset, superset and permutation: known elements keep their numbers, as in DeePMD-kit."""
    for new in (["H", "O"], ["H", "C", "O"], ["O"]):
        reference = make_descriptor(
            1, random_statistics=True, type_map=list(TYPE_MAP), exclude_types=[[0, 0]]
        )
        ours = DescrptDPA1.deserialize(reference.serialize())
        ours.change_type_map(new)
        structure = STRUCTURES["triclinic"]
        if new == ["O"]:
            structure = structure._replace(coord=structure.coord[::3], atype=structure.atype[::3])
        expected = evaluate_descriptor(reference, *structure)[0]
        arguments = list(extended_input(reference, *structure))
        arguments[1] = np.array([new.index(TYPE_MAP[t]) for t in arguments[1][0]])[None]
        got = ours(*arguments)[0][0]
        assert relative_error(got, expected) < 1e-10
        assert ours.get_type_map() == new


def test_statistics_of_samples_equal_deepmd():
    reference = make_descriptor(2, exclude_types=[[0, 1]])
    ours = DescrptSeAttenV2.deserialize(reference.serialize())
    structure = STRUCTURES["triclinic"]
    sample = {
        "coord": structure.coord.reshape(1, -1),
        "atype": structure.atype[None],
        "box": structure.box.reshape(1, 9),
    }
    reference.compute_input_stats([dict(sample)])
    ours.compute_input_stats(lambda: [sample])
    for got, expected in zip(
        ours.get_stat_mean_and_stddev(), reference.get_stat_mean_and_stddev(), strict=True
    ):
        np.testing.assert_allclose(got, expected, rtol=1e-12, atol=1e-14)


def test_sel_is_filled_in_from_data_like_deepmd():
    class Data:
        def get_nbor_stat(self, rcut):
            assert rcut == TINY_DESCRIPTOR["rcut"]
            return 0.9, [41]

    assert DescrptDPA1.update_sel(Data(), None, {"rcut": 4.0, "sel": "auto"})[0]["sel"] == 48
    assert DescrptDPA1.update_sel(Data(), None, {"rcut": 4.0, "sel": "auto:1.0"})[0]["sel"] == 44
    assert DescrptDPA1.update_sel(Data(), None, {"rcut": 4.0, "sel": 30})[0]["sel"] == 30
