"""DeePMD-kit's dictionary: everything comes back, and what contradicts itself is refused when it is read."""

import numpy as np
import pytest

from dpax.deepmd.model_dictionary import model_dictionary, read_model
from dpax.errors import InputError
from dpax.model.energy_model import initial_model
from dpax.model.file import reading
from model.support import tiny_descriptor, tiny_model, tiny_spec
from model.test_file import MODELS, assert_same, at, changed, refused


@pytest.mark.filterwarnings("ignore:with attention layers:UserWarning")
@pytest.mark.parametrize("name", MODELS)
def test_everything_comes_back(name):
    """The same arrays and constants."""
    model = MODELS[name]()
    assert_same(read_model(model_dictionary(model)), model)


def test_frozen_layers_stay_frozen():
    flags = (False, True, False)
    spec = tiny_spec(tiny_descriptor(precision="float64"), (6, 6), fitting_trainable=flags)
    data = model_dictionary(initial_model(spec, seed=1))
    layers = data["fitting"]["nets"]["networks"][0]["layers"]
    assert tuple(layer["trainable"] for layer in layers) == flags
    assert read_model(data).spec.fitting.trained_layers == flags


def read(data):
    """As the files that hold a dictionary are read: whatever Python runs into is one message."""
    with reading("model.dp"):
        return read_model(data)


EMBEDDINGS = "descriptor/embeddings/networks/0"
ATTENTION = "descriptor/attention_layers"
CONTRADICTIONS = {
    "descriptor/ntypes": [3, 10**9, 0, -1, True, "2", 2.0, None, 10**400],
    "descriptor/sel": [[41], 10**9, [10**9], 0, [], [-1, 41], "auto", None],
    "descriptor/neuron": [[4, 8, 10**9], [4, 8], [], "4 8 16", [4, 8, 16.0], [4, 8, 16] * 1000],
    "descriptor/axis_neuron": [0, 17, 10**9],
    "descriptor/tebd_dim": [5, 10**9],
    "descriptor/attn": [13, 10**9],
    "descriptor/attn_layer": [1, 3, 10**9],
    "descriptor/rcut": [float("nan"), float("inf"), 0, "6", [6.0], 0.4],
    "descriptor/rcut_smth": [-1.0, 4.0],
    "descriptor/activation_function": ["relu", "lemon", 5],
    "descriptor/temperature": [2.0, float("nan")],
    "descriptor/scaling_factor": [2.0, "1.0", 0.0],
    "descriptor/normalize": [False, "yes"],
    "descriptor/tebd_input_mode": ["strip", "other"],
    "descriptor/precision": ["float32", "float128", 64],
    "descriptor/type_one_side": [True, 0],
    "descriptor/exclude_types": [[[0, 2]], [[0]], [0, 1], "01"],
    "descriptor/type_map": [["H", "O"], ["O"], "OH"],
    "descriptor/env_mat/use_exp_switch": [True],
    "descriptor/env_mat/rcut": [5.0],
    "descriptor/type_embedding/ntypes": [3, 10**9],
    "descriptor/type_embedding/padding": [False],
    "descriptor/type_embedding/activation_function": ["tanh"],
    "descriptor/@version": ["2", True, 99],
    "descriptor": [[], "descriptor", None],
    f"{EMBEDDINGS}/in_dim": [1, 10**9],
    f"{EMBEDDINGS}/layers/1/activation_function": ["relu"],
    f"{EMBEDDINGS}/layers/1/resnet": [False],
    f"{EMBEDDINGS}/layers/1/bias": [False],
    f"{EMBEDDINGS}/layers": [[], None, {}],
    f"{ATTENTION}/layer_num": [1, 3],
    f"{ATTENTION}/attention_layers/1/attention_layer/num_heads": [5, 2],
    f"{ATTENTION}/attention_layers/1/attention_layer/dotr": [False],
    f"{ATTENTION}/attention_layers/1/attn_layer_norm/eps": [1e-3, -1.0],
    "fitting/neuron": [[16], [16, 10**9]],
    "fitting/dim_descrpt": [10, 10**9],
    "fitting/numb_fparam": [1, 10**9, -1],
    "fitting/exclude_types": [[2], [-1]],
    "fitting/atom_ener": [[1.0]],
    "fitting/activation_function": ["relu"],
    "type_map": [["O", "O"], ["O"], ["O", "H", "N"], ["O", False], "OH", 5],
    "atom_exclude_types": [[2], [-1], ["O"], [0.5], 3],
    "pair_exclude_types": [[[0, 2]], [[0]], [0, 1]],
    "preset_out_bias": [
        {"energy": [1.0]},
        {"energy": [1.0, "x"]},
        {"energy": [[1.0, 2.0], None]},
        [1.0, 2.0],
    ],
    "isolated_energies": [[1.0], [float("inf"), None], "xy"],
    "rcond": ["small", float("nan")],
    "@variables/out_bias": [np.zeros((2, 40, 4)), None, [0.0, 0.0]],
    "descriptor/@variables/dstd": [np.ones((1, 2, 1)), None, {"@array": []}],
}


@pytest.mark.parametrize("place", CONTRADICTIONS)
def test_a_dictionary_that_contradicts_itself_or_its_arrays_is_refused(place):
    """When it is read and not when it is evaluated, and before anything is allocated by its numbers."""
    for value in CONTRADICTIONS[place]:
        data = model_dictionary(tiny_model())
        section, key = at(data, place)
        section[key] = value
        with refused(r"model\.dp: ."):
            read(data)


LACKING = [f"{EMBEDDINGS}/layers/0/@variables/w", "fitting/nets", "fitting/ntypes", "descriptor/rcut"]


@pytest.mark.parametrize("place", LACKING)
def test_what_is_lacking_is_named(place):
    data = model_dictionary(tiny_model())
    section, key = at(data, place)
    del section[key]
    with pytest.raises(InputError, match=rf"model\.dp: .*\b{key}\b"):
        read(data)


@pytest.mark.parametrize(
    ("section", "key", "value", "message"),
    [
        ("descriptor", "flavour", "lemon", "no setting 'flavour'"),
        ("fitting", "flavour", "lemon", "no setting 'flavour'"),
        ("fitting/nets/networks/0", "flavour", "lemon", "no setting '.*flavour'"),
        ("descriptor", "type", "se_e2_a", "the model's descriptor is 'se_e2_a'; dpax reads DPA-1 models"),
        ("descriptor", "@version", 99, "'Descriptor' has version 99; this dpax reads 1 to 4"),
        (EMBEDDINGS, "@version", 99, "'EmbeddingNetwork' has version 99; this dpax reads 1 to 2"),
        ("fitting", "@class", "Descriptor", "describes a 'Descriptor'; expected Fitting"),
    ],
)
def test_other_models_are_named(section, key, value, message):
    data = model_dictionary(tiny_model())
    part, last = at(data, section)
    part[last][key] = value
    with pytest.raises(InputError, match=rf"model\.dp: .*{message}"):
        read(data)


@pytest.mark.parametrize(
    ("place", "change", "message"),
    [
        (
            f"{EMBEDDINGS}/layers/0/@variables/w",
            lambda a: changed(a, np.nan),
            "embedding/0/w has numbers .* finite",
        ),
        (
            "fitting/nets/networks/0/layers/1/@variables/b",
            lambda a: changed(a, np.inf),
            "fitting/1/b has numbers .* finite",
        ),
        ("@variables/out_bias", lambda a: changed(a, np.nan), "bias has numbers that are not finite"),
        ("descriptor/@variables/davg", lambda a: a * np.nan, "mean differs|mean has numbers"),
        ("descriptor/@variables/davg", lambda a: changed(a, 1.0), "mean differs"),
        ("descriptor/@variables/dstd", lambda a: a * 0, "stddev, .* is not positive"),
        ("descriptor/@variables/dstd", lambda a: -a, "stddev, .* is not positive"),
        (
            "descriptor/@variables/dstd",
            lambda a: a[:, :30],
            r"stddev has shape \(2, 30, 4\); expected \(2, 40, 4\)",
        ),
        ("descriptor/@variables/davg", lambda a: a[:1], "mean has shape"),
        (f"{EMBEDDINGS}/layers/1/@variables/w", lambda a: a.T.copy(), r"embedding/1/w has shape \(8, 4\)"),
        (f"{EMBEDDINGS}/layers/1/@variables/b", lambda a: a[:3], r"embedding/1/b has shape \(3,\)"),
        (f"{EMBEDDINGS}/layers/1/@variables/w", lambda a: a > 0, "holds no real numbers but bool"),
        ("fitting/nets/networks/0/layers/0/@variables/w", lambda a: a[:-1], "0/w has shape"),
        ("fitting/@variables/bias_atom_e", lambda a: np.zeros((3, 1)), "bias_atom_e has shape"),
        ("@variables/out_bias", lambda a: np.zeros((1, 3, 1)), "out_bias has shape"),
        ("@variables/out_bias", lambda a: np.zeros((2, 1)), "out_bias has shape"),
    ],
)
def test_numbers_that_no_model_computes_with_are_refused(place, change, message):
    data = model_dictionary(tiny_model())
    section, key = at(data, place)
    section[key] = change(section[key])
    with refused(rf"model\.dp: .*({message})"):
        read(data)


def test_weights_beyond_the_precision_are_refused():
    """They would be infinite in float16, and every energy NaN."""
    data = model_dictionary(tiny_model(precision="float16"))
    at(data, f"{EMBEDDINGS}/layers/0/@variables")[0]["@variables"]["w"] = np.full((9, 4), 1e6)
    with refused("not finite"):
        read(data)
