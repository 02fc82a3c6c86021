"""Model files that DeePMD-kit's own commands have written give DeePMD-kit's energies, forces and virials.

`make_deepmd_files.py` has made them, and the numbers beside them.
"""

import sys
import zipfile
from pathlib import Path

import numpy as np
import pytest

from dpax import load
from dpax.data import Frame
from dpax.errors import InputError
from dpax.interfaces.model_files import open_model, read_scripts
from oracle.deepmd_model import structures

from .make_deepmd_files import DATA, NAMES, parameters

REFERENCES = np.load(DATA / "references.npz")
FILES = sorted({name.split("|")[0] for name in REFERENCES.files})


@pytest.fixture(scope="module")
def folder(tmp_path_factory) -> Path:
    """All files, unpacked."""
    folder = tmp_path_factory.mktemp("deepmd")
    for path in DATA.glob("*.zip"):
        with zipfile.ZipFile(path) as archive:
            archive.extractall(folder)
    return folder


def needs_torch(name: str) -> None:
    if name.partition(":")[0].endswith((".pt", ".pth")):
        pytest.importorskip("torch", reason=f"{name} is read with torch")


@pytest.mark.parametrize("name", FILES)
def test_numbers_are_deepmds(folder, name):
    needs_torch(name)
    file, _, branch = name.partition(":")
    potential = load(folder / file, branch=branch or None)
    frames = []
    for structure in NAMES:
        coord, types, box = structures()[structure]
        told = dict(zip(("fparam", "aparam"), parameters(len(types)), strict=True))
        if not potential.model.parameter_widths[0]:
            told = {}
        frames.append(Frame(coord, types, box, (box is not None,) * 3, structure, **told))
    for structure, evaluation in zip(NAMES, potential.evaluate(frames), strict=True):
        for quantity in ("energy", "forces", "virial"):
            expected = REFERENCES[f"{name}|{structure}|{quantity}"]
            np.testing.assert_allclose(
                getattr(evaluation, quantity),
                expected,
                rtol=1e-8,
                atol=1e-8,
                err_msg=f"{structure} {quantity}",
            )


def test_every_kind_of_file_is_there():
    kinds = {Path(name.partition(":")[0]).suffix for name in FILES}
    assert kinds == {".pt", ".pth", ".jax", ".hlo"}


@pytest.mark.parametrize("name", ["compressed.jax", "compressed.hlo", "compressed_pairs.jax"])
def test_compressed_models_compute_with_their_tables(folder, name):
    descriptor = open_model(folder / name)[0].descriptor
    assert descriptor.compress
    assert descriptor.geo_compress == (name != "compressed_pairs.jax")


@pytest.mark.parametrize("name", ["branches.pt", "branches.jax"])
class TestBranches:
    def test_are_listed_where_none_is_chosen(self, folder, name):
        needs_torch(name)
        with pytest.raises(InputError, match=rf"{name}: .* --branch: water \(also H2O\), ice"):
            load(folder / name)
        with pytest.raises(InputError, match=r"no branch 'steam'; it has water \(also H2O\), ice"):
            load(folder / name, branch="steam")
        assert list(read_scripts(folder / name)) == ["water", "ice"]

    def test_go_by_name_and_alias_in_any_case(self, folder, name):
        needs_torch(name)
        biases = {
            branch: open_model(folder / name, branch)[0].bias for branch in ("water", "H2O", "h2o", "ice")
        }
        weights = {
            branch: np.asarray(open_model(folder / name, branch)[0].fitting.net.layers[0].w[...])
            for branch in ("WATER", "h2o", "ice")
        }
        assert biases["water"] == biases["H2O"] == biases["h2o"]
        np.testing.assert_array_equal(weights["WATER"], weights["h2o"])
        assert np.abs(weights["WATER"] - weights["ice"]).max() > 0.01


def test_a_branch_of_a_single_model_is_a_mistake(folder):
    with pytest.raises(InputError, match=r"v1\.jax: the file holds one model.*'water'"):
        load(folder / "v1.jax", branch="water")


def test_provenance_tells_of_the_writer(folder):
    provenance = open_model(folder / "branches.jax", "H2O")[1]
    assert provenance["deepmd_kit"] == {"file": "branches.jax", "backend": "JAX", "branch": "water"}
    assert provenance["model_def_script"]["info"]["description"] == "liquid"
    assert open_model(folder / "v1.hlo")[1]["deepmd_kit"]["version"].startswith("3.2.0")
    assert 0.6 < open_model(folder / "compressed.hlo")[1]["min_nbor_dist"] < 0.9


def cut(path: Path) -> None:
    path.write_bytes(path.read_bytes()[: path.stat().st_size // 2])


def without_arrays(path: Path) -> None:
    for part in (path / "state").rglob("*"):
        if part.is_file():
            part.unlink()


@pytest.mark.parametrize(
    ("name", "spoil"),
    [
        ("v1.hlo", cut),
        ("v1.hlo", lambda path: path.write_text("no HDF5")),
        ("v1.jax", without_arrays),
        ("v1.jax", lambda path: (path / "model_def_script" / "metadata").write_text("{")),
        ("v1.jax", lambda path: (path / "model_def_script" / "metadata").unlink()),
        ("v1.pt", cut),
        ("v1.pt", lambda path: path.write_text("no zip")),
        ("v1.pth", cut),
    ],
)
def test_damaged_files_are_named(tmp_path, name, spoil):
    needs_torch(name)
    with zipfile.ZipFile(DATA / f"{name}.zip") as archive:
        archive.extractall(tmp_path)
    spoil(tmp_path / name)
    with pytest.raises(InputError, match=rf"{name}: .*damaged"):
        load(tmp_path / name)


def test_nothing_is_unpickled(tmp_path):
    torch = pytest.importorskip("torch")
    torch.save({"model": {"_extra_state": Path("/")}}, tmp_path / "model.pt")
    with pytest.raises(InputError, match=r"model\.pt: not a PyTorch checkpoint of DeePMD-kit"):
        load(tmp_path / "model.pt")


def test_frozen_models_that_name_deepmds_operator_are_read(folder):
    """DeePMD-kit with its compiled library writes them so; PyTorch wants to know every operator."""
    torch = pytest.importorskip("torch")
    from dpax.interfaces.deepmd_torch import read_torch

    read_torch(folder / "v1.pth")
    operator = torch.ops.deepmd.tabulate_fusion_se_atten
    assert str(operator.default._schema).endswith("int _5, bool _6) -> Tensor[]")


@pytest.mark.parametrize("ending", [".savedmodel", ".savedmodeltf", ".pb", ".pd", ".json", ".pte", ".pt2"])
def test_compiled_kinds_are_refused_with_a_way_out(tmp_path, ending):
    (tmp_path / f"model{ending}").write_bytes(b"anything")
    with pytest.raises(
        InputError, match=rf"does not read {ending} .*dp convert-backend model{ending} model\.dp"
    ):
        load(tmp_path / f"model{ending}")


def test_missing_torch_is_named_with_its_cure(folder, monkeypatch):
    monkeypatch.setitem(sys.modules, "torch", None)
    for name in ("v1.pt", "v1.pth"):
        with pytest.raises(InputError, match=rf"{name}: .*pip install 'dpax\[torch\]'"):
            load(folder / name)
