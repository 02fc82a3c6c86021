"""Model files that DeePMD-kit's own commands have written give DeePMD-kit's energies, forces and virials.

`make_deepmd_files.py` has made them, and the numbers beside them.
"""

import json
import shutil
import sys
import zipfile
from contextlib import suppress
from pathlib import Path

import h5py
import numpy as np
import pytest
import yaml

from dpax import load
from dpax.data import Frame
from dpax.descriptor.table import is_compressed
from dpax.errors import InputError
from dpax.interfaces.model_files import open_model, read_scripts, write_model
from model.support import tiny_model
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
        if not potential.model.spec.parameter_widths[0]:
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
    arrays = open_model(folder / name)[0].descriptor
    assert is_compressed(arrays)
    assert ("table/knots" in arrays) == (name != "compressed_pairs.jax")


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
            branch: np.asarray(open_model(folder / name, branch)[0].arrays["fitting/0/w"])
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


@pytest.fixture(scope="module")
def own(tmp_path_factory) -> Path:
    """A folder with a small model as DeePMD-kit's `.dp` and `.yaml`."""
    folder = tmp_path_factory.mktemp("own")
    model = tiny_model(neuron=[2, 4], attn=4, attn_layer=1, sel=6)
    for name in ("model.dp", "model.yaml"):
        write_model(folder / name, model, {"min_nbor_dist": 0.8})
    return folder


def arrays_of(model) -> dict[str, bytes]:
    return {name: np.asarray(array).tobytes() for name, array in model.arrays.items()}


def refused(path: Path) -> str:
    """What is said of a file that opens neither as a model nor for `dpax show`."""
    with pytest.raises(InputError) as caught:
        open_model(path)
    with suppress(InputError):  # which does not read the model itself
        read_scripts(path)
    assert not isinstance(caught.value.__cause__, MemoryError)
    assert str(caught.value).startswith(f"{path}: ")
    assert len(str(caught.value)) < 900
    return str(caught.value)


def claim(file: h5py.File, shape: tuple[int, ...], **options) -> None:
    """The first dataset claims numbers that nobody has written."""
    del file["variable_0000"]
    file.create_dataset("variable_0000", shape=shape, dtype="f8", **options)


def tree_of(file: h5py.File, change) -> None:
    tree = json.loads(file.attrs["json"])
    change(tree)
    file.attrs["json"] = json.dumps(tree)


def replace(file: h5py.File, content) -> None:
    del file["variable_0000"]
    file["variable_0000"] = content


@pytest.mark.parametrize(
    "spoil",
    [
        lambda file: claim(file, (10**12,)),
        lambda file: claim(file, (10**12,), chunks=(1024,)),
        lambda file: claim(file, (10**12,), chunks=(1024,), compression="gzip"),
        lambda file: replace(file, "text"),
        lambda file: replace(file, np.array(["text"], dtype=h5py.string_dtype())),
        lambda file: replace(file, np.zeros(3, np.complex128)),
        lambda file: replace(file, np.zeros((7, 7))),
        lambda file: replace(file, h5py.Empty("f8")),
        lambda file: (file.__delitem__("variable_0000"), file.create_group("variable_0000")),
        lambda file: file.__delitem__("variable_0001"),
        lambda file: file.attrs.__setitem__("json", "[" * 20_000),
        lambda file: file.attrs.__setitem__("json", '{"model": ' * 300 + "1" + "}" * 300),
        lambda file: file.attrs.__setitem__("json", 7),
        lambda file: file.attrs.__setitem__("json", "[]"),
        lambda file: file.attrs.__setitem__("json", '{"model": []}'),
        lambda file: file.attrs.__delitem__("json"),
        lambda file: tree_of(file, lambda tree: tree.update(model_def_script=[1])),
        lambda file: tree_of(file, lambda tree: tree.update(model_def_script={"info": 5})),
        lambda file: tree_of(file, lambda tree: tree["@variables"].update(min_nbor_dist="variable_0001")),
        lambda file: tree_of(file, lambda tree: tree["model"].update(model_dict=[1])),
        lambda file: tree_of(file, lambda tree: tree["model"].update(type_map=["O", "O"])),
        lambda file: tree_of(file, lambda tree: tree["model"]["descriptor"].update(ntypes=10**9)),
        lambda file: tree_of(file, lambda tree: tree["model"]["descriptor"].update(neuron=[10**9])),
    ],
)
def test_wrong_contents_of_dp_files(own, tmp_path, spoil):
    path = Path(shutil.copy(own / "model.dp", tmp_path))
    with h5py.File(path, "r+") as file:
        spoil(file)
    refused(path)


BOMB = "a: &a [x, x, x, x, x, x, x, x, x]\n" + "".join(
    f"{name}: &{name} [{', '.join(['*' + before] * 9)}]\n"
    for before, name in zip("abcdefgh", "bcdefghi", strict=True)
)
MERGES = "a: &a {k: 1}\n" + "".join(
    f"{name}: &{name} {{<<: [*{before}, *{before}]}}\n"
    for before, name in zip("abcdefgh", "bcdefghi", strict=True)
)


@pytest.mark.parametrize(
    "content",
    [
        BOMB + "model: *i\n",
        BOMB + "model: {'@variables': *i}\n",
        "model: &m {x: *m}\n",
        "model: &m [*m]\n",
        MERGES + "model: *i\n",
        "model: " + "[" * 900 + "]" * 900,
        "model: " + "[" * 100_000,
        "model: {" + ":".join("1" * 50_000) + ": 1}",
        "model: " + "1" * 5000,
        "model: 2020-13-45",
        "model: !!python/object/apply:os.getcwd []",
        "model: {1: {2: 3}}",
        "- model",
        "model:",
        "",
        "\0",
        "model: \ud800".encode("utf-8", "surrogatepass"),
    ],
    ids=lambda content: f"{content}"[:24],
)
def test_what_yaml_can_say_but_no_model_is(tmp_path, content):
    path = tmp_path / "model.yaml"
    path.write_bytes(content if isinstance(content, bytes) else content.encode())
    refused(path)


@pytest.mark.parametrize(
    "array",
    [
        {"dtype": "S1000000000"},
        {"dtype": "object"},
        {"dtype": "complex128"},
        {"dtype": ["float64"]},
        {"value": [[1.0], [2.0, 3.0]]},
        {"value": "text"},
        {"value": None},
        {"value": []},
        {"value": float("nan")},
    ],
    ids=str,
)
def test_arrays_of_yaml_files_that_are_none(own, tmp_path, array):
    document = yaml.safe_load((own / "model.yaml").read_text())
    document["model"]["descriptor"]["@variables"]["davg"].update(array)
    (tmp_path / "model.yaml").write_text(yaml.safe_dump(document))
    refused(tmp_path / "model.yaml")


def test_lists_that_yaml_repeats_by_alias_are_read(own, tmp_path):
    """As DeePMD-kit's own writer does with one list in several places."""
    document = yaml.safe_load((own / "model.yaml").read_text())
    names = document["model"]["type_map"]
    document["model"]["descriptor"]["type_map"] = document["model"]["fitting"]["type_map"] = names
    text = yaml.safe_dump(document)
    assert "*id001" in text
    (tmp_path / "model.yaml").write_text(text)
    assert arrays_of(open_model(tmp_path / "model.yaml")[0]) == arrays_of(open_model(own / "model.dp")[0])


def test_no_file_of_a_jax_folder_can_be_lost_in_silence(folder, tmp_path):
    """Whichever it is: the numbers are the same, or the folder is refused."""
    expected, seen = arrays_of(open_model(folder / "v1.jax")[0]), set()
    for lost in sorted((folder / "v1.jax").rglob("*")):
        if not lost.is_file():
            continue
        copy = Path(shutil.copytree(folder / "v1.jax", tmp_path / "v1.jax"))
        (copy / lost.relative_to(folder / "v1.jax")).unlink()
        try:
            assert arrays_of(open_model(copy)[0]) == expected
            seen.add("read")
        except InputError:
            seen.add("refused")
        shutil.rmtree(copy)
    assert seen == {"read", "refused"}


@pytest.mark.parametrize("name", ["v1.pt", "v1.pth"])
def test_a_flipped_bit_of_a_torch_file_is_noticed(folder, tmp_path, name):
    """PyTorch does not look at the checksums of the parts of its files."""
    pytest.importorskip("torch")
    content, expected = (folder / name).read_bytes(), arrays_of(open_model(folder / name)[0])
    refusals = 0
    for number, place in enumerate(range(0, len(content), len(content) // 50)):
        changed = bytearray(content)
        changed[place] ^= 1 << number % 8
        (tmp_path / name).write_bytes(changed)
        try:
            assert arrays_of(open_model(tmp_path / name)[0]) == expected
        except InputError:
            refusals += 1
    assert refusals > 10


def test_nothing_is_unpickled(tmp_path):
    torch = pytest.importorskip("torch")
    torch.save({"model": {"_extra_state": Path("/")}}, tmp_path / "model.pt")
    with pytest.raises(InputError, match=r"model\.pt: not a PyTorch checkpoint of DeePMD-kit"):
        load(tmp_path / "model.pt")


def test_frozen_models_that_name_deepmds_operator_are_read(folder):
    """DeePMD-kit with its compiled library writes them so; PyTorch wants to know every operator."""
    torch = pytest.importorskip("torch")
    from dpax.deepmd.torch_files import read_torch

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
