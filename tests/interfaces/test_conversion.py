"""dpax convert and dpax show: files that DeePMD-kit can use, and none that differs."""

import json
import subprocess
import sys
import warnings
from pathlib import Path

import h5py
import numpy as np
import pytest
import yaml

from cli.commands import dpax
from dpax.descriptor.embedding import type_embedding
from dpax.errors import InputError
from dpax.interfaces import conversion
from dpax.interfaces.model_files import open_model, write_model
from dpax.model.file import save_model
from model.support import tiny_model
from oracle.deepmd_model import make_model

from deepmd.dpmodel.utils.serialization import save_dp_model  # isort: skip (the oracle skips where it is missing)

SMALL = {"rcut": 3.0, "attn_layer": 1, "neuron": [4, 8]}


@pytest.fixture(scope="module")
def own(tmp_path_factory) -> Path:
    path = tmp_path_factory.mktemp("own") / "model.dpax"
    provenance = {
        "min_nbor_dist": 0.75,
        "model_def_script": {"info": {"observed_type": ["H", "O"]}, "junk": 1},
    }
    save_model(path, tiny_model(version=2, **SMALL), provenance)
    return path


def test_convert_and_back(own, tmp_path):
    output = dpax("convert", own, tmp_path / "model.dp").stdout
    assert "agrees with" in output
    assert "force 0.0e+00 eV/Å" in output
    assert "exists already" in dpax("convert", own, tmp_path / "model.dp", code=2).stderr
    dpax("convert-backend", tmp_path / "model.dp", tmp_path / "model.yaml", "--overwrite")
    model, provenance = open_model(tmp_path / "model.yaml")
    original = open_model(own)[0]
    np.testing.assert_array_equal(model.arrays["fitting/0/w"], original.arrays["fitting/0/w"])
    assert provenance["min_nbor_dist"] == 0.75
    assert provenance["deepmd_kit"]["software"] == "dpax"
    assert sorted(path.name for path in tmp_path.iterdir()) == ["model.dp", "model.yaml"]


def test_a_model_that_would_differ_is_not_written(own, tmp_path, monkeypatch):
    target = tmp_path / "model.dp"
    target.write_text("what was there")

    def write_another(path, model, provenance):
        write_model(path, tiny_model(version=2, seed=2, **SMALL), provenance)

    monkeypatch.setattr(conversion, "write_model", write_another)
    with pytest.raises(InputError, match=r"model\.dp: not written, because it would differ .*energy \d"):
        conversion.convert(own, target)
    assert target.read_text() == "what was there"
    assert list(tmp_path.iterdir()) == [target]


def test_what_deepmd_cannot_express_is_refused(tmp_path):
    save_model(tmp_path / "model.dpax", tiny_model(attn_norm="branch", **SMALL), {})
    with pytest.raises(InputError, match=r"model\.dp: .*attn_norm = 'branch'"):
        conversion.convert(tmp_path / "model.dpax", tmp_path / "model.dp")
    assert not (tmp_path / "model.dp").exists()


@pytest.mark.parametrize("ending", [".pth", ".hlo", ".jax"])
def test_kinds_that_only_deepmd_writes(own, tmp_path, ending):
    error = dpax("convert", own, tmp_path / f"model{ending}", code=2).stderr
    assert "dpax writes .dp, .yaml, .yml for DeePMD-kit, from which its dp convert-backend makes" in error


@pytest.mark.parametrize("version", [1, pytest.param(2, marks=pytest.mark.slow)])
def test_deepmd_makes_its_other_files_of_ours(tmp_path, version):
    """Its own command, and its own reading of what comes out."""
    pytest.importorskip("flatbuffers")
    save_model(tmp_path / "model.dpax", tiny_model(version, **SMALL), {"min_nbor_dist": 0.75})
    conversion.convert(tmp_path / "model.dpax", tmp_path / "model.dp")
    endings = [".hlo", ".jax"] if version == 1 else [".hlo"]
    try:
        import torch  # noqa: F401
    except ImportError:
        pass
    else:
        endings.append(".pth")
    before = open_model(tmp_path / "model.dpax")[0]
    for ending in endings:
        target = tmp_path / f"model{ending}"
        command = [str(Path(sys.executable).with_name("dp")), "convert-backend", "model.dp", target.name]
        subprocess.run(command, cwd=tmp_path, check=True, capture_output=True, timeout=600)
        after, provenance = open_model(target)
        assert after.arrays.keys() == before.arrays.keys()
        for name, array in before.arrays.items():
            np.testing.assert_array_equal(array, after.arrays[name])
        assert after.spec == before.spec
        assert after.bias == before.bias
        assert provenance["min_nbor_dist"] == 0.75


def older(data):
    """The dictionary as older versions of DeePMD-kit wrote it; their type embedding always had a bias."""
    data = json.loads(
        json.dumps(data, default=lambda array: {"@array": array.tolist(), "dtype": array.dtype.name})
    )

    def walk(tree):
        if isinstance(tree, list):
            return [walk(item) for item in tree]
        if not isinstance(tree, dict):
            return tree
        if "@array" in tree:
            return np.array(tree["@array"], tree["dtype"])
        new = {key: walk(value) for key, value in tree.items()}
        late = {
            "Layer": ("trainable",),
            "EmbeddingNetwork": ("bias",),
            "TypeEmbedNet": ("use_econf_tebd", "use_tebd_bias", "type_map"),
            "Descriptor": ("use_econf_tebd", "use_tebd_bias", "type_map"),
            "Fitting": ("type_map", "default_fparam", "dim_case_embd"),
        }.get(tree.get("@class"), ())
        for key in late:
            new.pop(key, None)
        if tree.get("@class") not in ("Model", None):
            new["@version"] = 1
        if tree.get("@class") == "Fitting":
            new["@variables"].pop("case_embd")
        if tree.get("@class") == "Model":
            for key in ("preset_out_bias", "rcond"):
                new.pop(key)
        return new

    return walk(data)


@pytest.mark.parametrize("version", [1, 2])
def test_older_files_mean_what_deepmd_takes_them_for(tmp_path, version):
    from deepmd.dpmodel.model.base_model import BaseModel

    theirs = make_model(version, descriptor_options={"use_tebd_bias": True, "precision": "float32"})
    data = older(theirs.serialize())
    save_dp_model(str(tmp_path / "old.dp"), {"model": data, "@variables": {}})
    model = open_model(tmp_path / "old.dp")[0]
    known = BaseModel.deserialize(data).serialize()
    np.testing.assert_array_equal(
        type_embedding(model.spec.descriptor, model.descriptor),
        np.asarray(theirs.atomic_model.descriptor.type_embedding.call()),
    )
    assert known["descriptor"]["use_tebd_bias"] is model.spec.descriptor.use_tebd_bias is True
    name = "smooth_type_embedding" if version == 1 else "ln_eps"
    assert getattr(model.spec.descriptor, name) == known["descriptor"][name]


def test_files_of_several_models(tmp_path):
    """DeePMD-kit makes such a file from a multi-task checkpoint of its JAX backend."""
    models = {name: make_model(2, energy_bias=(bias,)).serialize() for name, bias in (("a", 1.0), ("b", 2.0))}
    script = {"model_dict": {"a": {"model_branch_alias": ["Default"]}, "b": {}}}
    document = {"model": {"model_dict": models}, "model_def_script": script, "@variables": {}}
    save_dp_model(str(tmp_path / "two.dp"), document)
    assert open_model(tmp_path / "two.dp")[0].bias == (1.0, 1.0)
    assert open_model(tmp_path / "two.dp", "B")[0].bias == (2.0, 2.0)


def other_descriptor(data):
    data["descriptor"]["type"] = "dpa2"


def other_fitting(data):
    data["fitting"]["type"] = "dipole"


def other_model(data):
    data["type"] = "linear"


def newer(data):
    data["descriptor"]["@version"] = 5


def incomplete(data):
    del data["fitting"]["nets"]


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (other_descriptor, "descriptor is 'dpa2'; dpax reads DPA-1"),
        (other_fitting, "type = 'dipole': dpax reads models of energies"),
        (other_model, "of type 'linear'"),
        (newer, "has version 5; this dpax reads 1 to 4"),
        (incomplete, r"damaged, or of a kind that dpax does not know .*nets"),
    ],
)
def test_other_models_are_refused_by_name(tmp_path, change, message):
    data = make_model(1).serialize()
    change(data)
    for ending in (".dp", ".yaml"):
        save_dp_model(str(tmp_path / f"model{ending}"), {"model": data, "@variables": {}})
        with pytest.raises(InputError, match=rf"model{ending}: .*{message}"):
            open_model(tmp_path / f"model{ending}")


def no_model(path):
    if path.suffix == ".dp":
        with h5py.File(path, "w") as file:
            file.attrs["json"] = json.dumps({"software": "another"})
    else:
        path.write_text(yaml.safe_dump({"software": "another"}))


@pytest.mark.parametrize("ending", [".dp", ".yaml"])
@pytest.mark.parametrize(
    ("spoil", "message"),
    [
        (lambda path: path.unlink(), "no such model file"),
        (
            lambda path: path.write_bytes(b"\x89HDF\x00: ["),
            "not a model file of DeePMD-kit, or a damaged one",
        ),
        (no_model, "no dictionary 'model'"),
    ],
)
def test_damaged_files_are_named(tmp_path, ending, spoil, message):
    path = tmp_path / f"model{ending}"
    path.write_text("")
    spoil(path)
    with pytest.raises(InputError, match=rf"model{ending}: .*{message}"):
        open_model(path)


def test_show(own, tmp_path):
    conversion.convert(own, tmp_path / "model.dp")
    for path in (own, tmp_path / "model.dp"):
        attributes = ["type-map", "descriptor", "fitting-net", "size", "observed-type", "serialization-tree"]
        output = dpax("show", path, *attributes).stdout
        assert "type map: ['O', 'H']" in output
        assert "'type': 'se_atten_v2', 'rcut': 3.0" in output
        assert "'neuron': [16, 16]" in output
        assert "observed types: 2: H O" in output or path == own
        assert "descriptor → Descriptor se_atten_v2" in output
    assert "model-branch is for multi-task models" in dpax("show", own, "model-branch", code=2).stderr
    sizes = [line for line in output.splitlines() if line.startswith("parameters in ")]
    numbers = [int(line.rpartition(" ")[2].replace(",", "")) for line in sizes]
    assert numbers[0] + numbers[1] == numbers[2]


def test_other_commands_read_them(own, tmp_path):
    conversion.convert(own, tmp_path / "model.yaml")
    assert "model file of DeePMD-kit, .yaml" in dpax("inspect", tmp_path / "model.yaml").stdout
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        warnings.filterwarnings("ignore", category=DeprecationWarning, module="ase")  # NumPy 2.5 of ASE
        import ase

        from dpax import Calculator

        atoms = ase.Atoms("OH", [[0, 0, 0], [0.9, 0, 0]])
        energies = []
        for path in (own, tmp_path / "model.yaml"):
            atoms.calc = Calculator(path)
            energies.append(atoms.get_potential_energy())
    assert energies[0] == energies[1]
