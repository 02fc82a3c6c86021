"""The model file: everything comes back bit by bit, and what is no model is refused in plain words."""

import hashlib
import json
from pathlib import Path

import numpy as np
import pytest
from flax import nnx
from safetensors import safe_open
from safetensors.numpy import save_file

from dpax.descriptor.dpa1 import DescrptDPA1
from dpax.errors import InputError
from dpax.model.file import VERSION, load_model, read_header, save_model
from dpax.model.fitting import EnergyFitting
from dpax.model.potential import EnergyModel

from .support import tiny_model

CASES = {
    "v1 float64": {},
    "v2 float32": {"version": 2, "precision": "float32"},
    "float16": {"precision": "float16", "resnet_dt": True},
    "bfloat16": {"version": 2, "precision": "bfloat16"},
    "branch norm": {"attn_norm": "branch", "temperature": 1.7, "use_tebd_bias": True},
    "ignore empty": {"empty_slots": "ignore", "exclude_types": [[0, 1]], "attn_layer": 0},
    "many moments": {"lmax": 3, "tebd_input_mode": "strip", "env_protection": 0.1, "sel": [20, 30]},
    "electron configurations": {"use_econf_tebd": True, "smooth_type_embedding": False},
    "frozen": {"trainable": False},
    "frozen norms": {"trainable_ln": False, "concat_output_tebd": False},
}


def variables(model) -> dict:
    """Kind, precision and bytes of every array by its path."""
    return {
        path: (type(variable).__name__, variable[...].dtype.name, np.asarray(variable[...]).tobytes())
        for path, variable in nnx.to_flat_state(nnx.state(model))
    }


@pytest.mark.parametrize("name", CASES)
def test_everything_comes_back(tmp_path, name):
    """Same arrays of the same kinds and the same constants: so any number computed is the same too."""
    model = tiny_model(**CASES[name])
    save_model(tmp_path / "model.dpax", model, {"step": 3})
    loaded, provenance = load_model(tmp_path / "model.dpax")
    assert variables(loaded) == variables(model)
    assert loaded.spec() == model.spec()
    assert loaded.bias == model.bias
    assert loaded.type_map == model.type_map
    assert type(loaded.descriptor) is type(model.descriptor)
    assert provenance == {"step": 3}
    save_model(tmp_path / "again.dpax", loaded, {"step": 3})
    assert read_header(tmp_path / "again.dpax") == read_header(tmp_path / "model.dpax")


def test_frozen_layers_stay_frozen(tmp_path):
    descriptor = DescrptDPA1(4.0, 0.5, 20, 2, neuron=[4, 8], axis_neuron=2, attn=4, seed=1)
    fitting = EnergyFitting(2, descriptor.get_dim_out(), [6, 6], trainable=[False, True, False], seed=1)
    model = EnergyModel(descriptor, fitting, ["O", "H"])
    save_model(tmp_path / "model.dpax", model, {})
    loaded = load_model(tmp_path / "model.dpax")[0]
    assert variables(loaded) == variables(model)
    assert [isinstance(layer.w, nnx.Param) for layer in loaded.fitting.net.layers] == [False, True, False]
    assert [layer.trainable for layer in loaded.fitting.net.layers] == [False, True, False]


def test_anyone_can_open_it(tmp_path):
    """Plain safetensors with telling names, and a description in JSON."""
    model = tiny_model()
    save_model(tmp_path / "model.dpax", model, {"data": ["water"], "step": 12})
    with safe_open(tmp_path / "model.dpax", framework="numpy") as file:
        metadata = file.metadata()
        names = set(file.keys())
        w = file.get_tensor("fitting/nets/networks/0/layers/0/w")
    np.testing.assert_array_equal(w, model.fitting.net.layers[0].w[...])
    assert {"out_bias", "descriptor/davg", "descriptor/dstd"} <= names
    assert metadata["format"] == "dpax"
    assert int(metadata["version"]) == VERSION
    assert json.loads(metadata["model"])["descriptor"]["rcut"] == 4.0
    assert json.loads(metadata["provenance"]) == {"data": ["water"], "step": 12}
    header = read_header(tmp_path / "model.dpax")
    assert header["provenance"] == {"data": ["water"], "step": 12}
    assert header["digest"] == metadata["digest"]
    assert header["model"]["type_map"] == ["O", "H"]


def test_file_is_replaced_at_once_or_not_at_all(tmp_path, monkeypatch):
    path = tmp_path / "model.dpax"
    save_model(path, tiny_model(seed=1), {})
    before = path.read_bytes()

    def full_disk(file, content):
        file.write_text("half a file")
        raise OSError("no space left on device")

    with monkeypatch.context() as patch:
        patch.setattr(Path, "write_bytes", full_disk)
        with pytest.raises(OSError, match="no space"):
            save_model(path, tiny_model(seed=2), {})
    assert path.read_bytes() == before
    save_model(path, tiny_model(seed=2), {})
    assert path.read_bytes() != before
    assert list(tmp_path.iterdir()) == [path]


def test_folder_that_does_not_exist_is_named(tmp_path):
    with pytest.raises(InputError, match=r"model\.dpax: the folder .*none does not exist"):
        save_model(tmp_path / "none" / "model.dpax", tiny_model(), {})


def read_parts(path) -> tuple[dict, dict]:
    with safe_open(path, framework="numpy") as file:
        return file.metadata(), {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118


def rewritten(path, arrays=None, **changes):
    """The model file with changed metadata and arrays, and without a digest; None leaves a key out."""
    metadata, there = read_parts(path)
    metadata |= {"digest": None, **changes}
    save_file(there | (arrays or {}), path, metadata={k: v for k, v in metadata.items() if v is not None})


def foreign_safetensors(path):
    save_file({"x": np.zeros(3)}, path, metadata={"format": "pt"})


def newer(path):
    rewritten(path, version=str(VERSION + 1))


def no_version(path):
    rewritten(path, version=None)


def broken_json(path):
    rewritten(path, model="{")


def array_missing(path):
    rewritten(path, model=path_with(path, lambda m: m["@variables"].update(out_bias={"@array": "nowhere"})))


def key_missing(path):
    rewritten(path, model=path_with(path, lambda m: m["fitting"].pop("nets")))


def unknown_key(path):
    rewritten(path, model=path_with(path, lambda m: m["descriptor"].update(flavour="lemon")))


def other_descriptor(path):
    rewritten(path, model=path_with(path, lambda m: m["descriptor"].update(type="se_e2_a")))


def newer_part(path):
    rewritten(path, model=path_with(path, lambda m: m["descriptor"].update({"@version": 99})))


def path_with(path, change):
    model = read_header(path)["model"]
    change(model)
    return json.dumps(model)


@pytest.mark.parametrize(
    ("spoil", "message"),
    [
        (lambda path: path.unlink(), "there is no such model file"),
        (lambda path: path.write_bytes(b""), "not a dpax model file, or a damaged one"),
        (lambda path: path.write_text("model:\n  type_map: [O]\n"), "not a dpax model file"),
        (lambda path: path.write_bytes(path.read_bytes()[:-100]), "not a dpax model file, or a damaged one"),
        (foreign_safetensors, "a safetensors file, but not a dpax model"),
        (newer, f"format version {VERSION + 1}; this dpax reads up to {VERSION}: install a newer one"),
        (no_version, "damaged, or not written by dpax .*'version'"),
        (broken_json, "damaged, or not written by dpax"),
        (array_missing, "damaged, or not written by dpax .*'nowhere'"),
        (key_missing, "damaged, or not written by dpax .*'nets'"),
        (unknown_key, "a DescrptDPA1 has no setting 'flavour'"),
        (other_descriptor, "the model's descriptor is 'se_e2_a'; dpax reads DPA-1 models"),
        (newer_part, "'Descriptor' has version 99; this dpax reads 1 to 4"),
    ],
)
def test_what_is_no_model_is_refused(tmp_path, spoil, message):
    path = tmp_path / "model.dpax"
    save_model(path, tiny_model(attn_layer=0), {})
    spoil(path)
    with pytest.raises(InputError, match=rf"model\.dpax: .*{message}"):
        load_model(path)


@pytest.fixture(scope="module")
def sound(tmp_path_factory):
    path = tmp_path_factory.mktemp("sound") / "model.dpax"
    save_model(path, tiny_model(), {"step": 3, "min_nbor_dist": 0.7})
    return path


@pytest.fixture
def copy(sound, tmp_path):
    path = tmp_path / "model.dpax"
    path.write_bytes(sound.read_bytes())
    return path


def test_digest_is_what_the_documentation_says(sound):
    """Metadata in lines, then arrays, each sorted by name: nothing of dpax is needed to check a file."""
    metadata, arrays = read_parts(sound)
    text = "".join(f"{key}={metadata[key]}\n" for key in ("format", "model", "provenance", "version"))
    content = text.encode()
    for name, array in sorted(arrays.items()):
        content += f"{name} {array.dtype} [{', '.join(map(str, array.shape))}]\n".encode() + array.tobytes()
    assert metadata["digest"] == hashlib.sha256(content).hexdigest()


def test_a_flipped_bit_is_noticed_wherever_it_is(sound, copy):
    """In names, shapes, settings, weights, provenance: the model is as it was, or is not read."""
    content, expected = sound.read_bytes(), variables(load_model(sound)[0])
    header = int.from_bytes(content[:8], "little")
    places = [*range(0, 8 + header, (8 + header) // 60), *range(8 + header, len(content), len(content) // 40)]
    refused = 0
    for number, place in enumerate(places):
        changed = bytearray(content)
        changed[place] ^= 1 << number % 8
        copy.write_bytes(changed)
        if place >= 8 + header:
            with pytest.raises(InputError, match="its contents are not those that its digest was made of"):
                load_model(copy)
            refused += 1
            continue
        try:
            model, provenance = load_model(copy)
        except InputError:
            refused += 1
        else:
            assert variables(model) == expected
            assert provenance == {"step": 3, "min_nbor_dist": 0.7}
    assert refused > 0.9 * len(places)


def test_files_without_a_digest_are_read(sound, copy):
    rewritten(copy)
    assert read_header(copy)["digest"] is None
    assert variables(load_model(copy)[0]) == variables(load_model(sound)[0])


def at(tree, path):
    """The part of a description that a path of keys leads to, all but its last, and the last."""
    *parts, last = path.split("/")
    for part in parts:
        tree = tree[int(part) if part.isdecimal() else part]
    return tree, int(last) if last.isdecimal() else last


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
    "@variables/out_bias": [{"@array": "descriptor/davg"}, None, [0.0, 0.0]],
    "descriptor/@variables/dstd": [{"@array": "out_bias"}, {"@array": []}, None],
}


@pytest.mark.parametrize("place", CONTRADICTIONS)
def test_a_description_that_its_arrays_contradict_is_refused(sound, copy, place):
    """When it is read and not when it is evaluated, and before anything is allocated by its numbers."""
    for value in CONTRADICTIONS[place]:
        copy.write_bytes(sound.read_bytes())
        model = read_header(copy)["model"]
        section, key = at(model, place)
        section[key] = value
        rewritten(copy, model=json.dumps(model))
        with pytest.raises(InputError, match=r"model\.dpax: .") as caught:
            load_model(copy)
        assert len(str(caught.value)) < 800
        assert not isinstance(caught.value.__cause__, MemoryError)


def nested(levels: int) -> str:
    return '{"a": ' * levels + "1" + "}" * levels


@pytest.mark.parametrize(
    "changes",
    [
        *({key: text} for key in ("model", "provenance") for text in ("[]", "1", nested(200), nested(10**5))),
        {"provenance": '{"min_nbor_dist": -1}'},
        {"provenance": '{"min_nbor_dist": "near"}'},
        {"provenance": '{"min_nbor_dist": NaN}'},
        {"provenance": '{"input": []}'},
        {"provenance": '{"step": ' + "1" * 5000 + "}"},
        {"version": "one"},
        {"version": "9" * 5000},
    ],
    ids=lambda changes: f"{changes}"[:40],
)
def test_what_json_can_hold_but_no_model_has(copy, changes):
    rewritten(copy, **changes)
    with pytest.raises(InputError, match=r"model\.dpax: ."):
        load_model(copy)


def changed(array, value):
    array = array.copy()
    array.flat[1] = value
    return array


@pytest.mark.parametrize(
    ("name", "change", "message"),
    [
        (
            f"{EMBEDDINGS}/layers/0/w",
            lambda a: changed(a, np.nan),
            "embeddings/layers/0/w has numbers .* finite",
        ),
        (
            "fitting/nets/networks/0/layers/1/b",
            lambda a: changed(a, np.inf),
            "layers/1/b has numbers .* finite",
        ),
        ("out_bias", lambda a: changed(a, np.nan), "out_bias has numbers that are not finite"),
        ("descriptor/davg", lambda a: a * np.nan, "mean differs|mean has numbers"),
        ("descriptor/dstd", lambda a: a * 0, "stddev, .* is not positive"),
        ("descriptor/dstd", lambda a: -a, "stddev, .* is not positive"),
        ("descriptor/dstd", lambda a: a[:, :30], r"dstd has shape \(2, 30, 4\); expected \(2, 40, 4\)"),
        ("descriptor/davg", lambda a: a[:1], "davg has shape"),
        (f"{EMBEDDINGS}/layers/1/w", lambda a: a.T.copy(), "a layer's b has length|shape of a net's layers"),
        (f"{EMBEDDINGS}/layers/1/b", lambda a: a[:3], "a layer's b has length 3"),
        (f"{EMBEDDINGS}/layers/1/w", lambda a: a > 0, "holds no real numbers but bool"),
        ("fitting/nets/networks/0/layers/0/w", lambda a: a[:-1], "shape of a net's layers"),
        ("fitting/bias_atom_e", lambda a: np.zeros((3, 1)), "bias_atom_e has shape"),
        ("out_bias", lambda a: np.zeros((1, 3, 1)), "out_bias has shape"),
        ("out_bias", lambda a: np.zeros((2, 1)), "out_bias has shape"),
    ],
)
def test_numbers_that_no_model_computes_with_are_refused(copy, name, change, message):
    _, arrays = read_parts(copy)
    rewritten(copy, {name: change(arrays[name])})
    with pytest.raises(InputError, match=rf"model\.dpax: .*({message})"):
        load_model(copy)


def test_weights_beyond_the_precision_are_refused(tmp_path):
    """They would be infinite in float16, and every energy NaN."""
    path = tmp_path / "model.dpax"
    save_model(path, tiny_model(precision="float16"), {})
    rewritten(path, {f"{EMBEDDINGS}/layers/0/w": np.full((9, 4), 1e6)})
    with pytest.raises(InputError, match="not finite"):
        load_model(path)


def test_folder_is_no_model_file(tmp_path):
    with pytest.raises(InputError, match="there is no such model file"):
        load_model(tmp_path)
