"""The model file: everything comes back bit by bit, and what is no model is refused in plain words."""

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


def rewritten(path, **changes):
    """The model file with changed metadata; None leaves a key out."""
    with safe_open(path, framework="numpy") as file:
        metadata = {**file.metadata(), **changes}
        arrays = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118
    save_file(arrays, path, metadata={k: v for k, v in metadata.items() if v is not None})


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
        (unknown_key, "damaged, or not written by dpax .*flavour"),
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


def test_folder_is_no_model_file(tmp_path):
    with pytest.raises(InputError, match="there is no such model file"):
        load_model(tmp_path)
