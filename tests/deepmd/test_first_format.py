"""Files of dpax's first format are read as ever, and saved again they are of the present one, bit for bit."""

import json
import shutil
from pathlib import Path

import ase
import numpy as np
import pytest

import dpax
from dpax.errors import InputError
from dpax.interfaces.model_files import open_model, write_model
from dpax.model.file import VERSION, load_model, read_header
from model.test_file import assert_same, path_with, read_parts, rewritten

FILES = Path(__file__).parent / "first_format"
"""Written by the last version that wrote this format, as is `expected.json`: what it said of a structure."""
EXPECTED = json.loads((FILES / "expected.json").read_text())
NAMES = ("concat", "compressed")


def evaluated(path, name: str) -> dict[str, np.ndarray]:
    """Energy, atomic energies, forces and virial of the structure of an expectation."""
    told = EXPECTED[name]
    atoms = ase.Atoms(told["symbols"], told["positions"], cell=told["cell"], pbc=True)
    found = dpax.load(path).evaluate(atoms)
    return {key: np.asarray(getattr(found, key)) for key in ("energy", "energies", "forces", "virial")}


@pytest.fixture(params=NAMES)
def copy(request, tmp_path) -> Path:
    return Path(shutil.copy(FILES / f"{request.param}.dpax", tmp_path / f"{request.param}.dpax"))


@pytest.mark.parametrize("name", NAMES)
def test_predictions_are_those_of_then(name):
    for key, found in evaluated(FILES / f"{name}.dpax", name).items():
        expected = np.array(EXPECTED[name][key])
        np.testing.assert_allclose(found, expected, rtol=1e-12, atol=1e-12 * np.abs(expected).max())


def test_it_is_described(copy):
    header = read_header(copy)
    assert header.version == 1
    assert header.digest is not None
    assert (header.provenance["dpax"], header.provenance["step"]) == ("0.1.0", 4)
    model, provenance = open_model(copy)
    assert provenance == header.provenance
    assert model.type_map == ("O", "H")


def test_saved_again_it_is_of_the_present_format_and_the_same(copy, tmp_path):
    model, provenance = open_model(copy)
    write_model(tmp_path / "new.dpax", model, provenance)
    assert read_header(tmp_path / "new.dpax").version == VERSION
    again, told = load_model(tmp_path / "new.dpax")
    assert_same(again, model)
    assert told == provenance
    before, now = (evaluated(path, copy.stem) for path in (copy, tmp_path / "new.dpax"))
    for key, expected in before.items():
        np.testing.assert_array_equal(now[key], expected)


def test_a_flipped_bit_is_noticed(copy):
    """In the arrays always; in the header unless it changes nothing."""
    content, expected = copy.read_bytes(), open_model(copy)[0]
    header = int.from_bytes(content[:8], "little")
    for number, place in enumerate(range(header // 40, len(content), len(content) // 60)):
        changed = bytearray(content)
        changed[place] ^= 1 << number % 8
        copy.write_bytes(changed)
        if place >= 8 + header:
            with pytest.raises(InputError, match="its contents are not those that its digest was made of"):
                open_model(copy)
            continue
        try:
            model, _ = open_model(copy)
        except InputError:
            continue
        assert_same(model, expected)


def test_files_without_a_digest_are_read(copy):
    """As the first ones were."""
    expected = open_model(copy)[0]
    rewritten(copy)
    assert read_header(copy).digest is None
    assert_same(open_model(copy)[0], expected)


def test_who_reads_the_present_format_alone_says_so(copy):
    with pytest.raises(InputError, match=rf"{copy.name}: format version 1"):
        load_model(copy)


def out_of_place(array):
    return lambda model: model["@variables"].update(out_bias=array)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (out_of_place({"@array": "nowhere"}), "damaged, or not written by dpax .*'nowhere'"),
        (out_of_place({"@array": []}), "damaged, or not written by dpax"),
        (out_of_place({"@array": "descriptor/davg"}), "out_bias has shape"),
        (out_of_place(None), "array out_bias is missing"),
        (lambda model: model["fitting"].pop("nets"), "damaged, or not written by dpax .*'nets'"),
        (lambda model: model["descriptor"].update(flavour="lemon"), "no setting 'flavour'"),
        (lambda model: model["descriptor"].update(sel=[21]), r"stddev|mean .*\(2, 21, 4\)"),
        (lambda model: model["descriptor"].update({"@version": 99}), "'Descriptor' has version 99"),
    ],
)
def test_a_description_that_is_none_is_refused(tmp_path, change, message):
    path = Path(shutil.copy(FILES / "concat.dpax", tmp_path / "model.dpax"))
    rewritten(path, model=path_with(path, change))
    with pytest.raises(InputError, match=rf"model\.dpax: .*({message})"):
        open_model(path)


def test_numbers_that_no_model_computes_with_are_refused(tmp_path):
    path = Path(shutil.copy(FILES / "concat.dpax", tmp_path / "model.dpax"))
    _, arrays = read_parts(path)
    rewritten(path, {"descriptor/dstd": -arrays["descriptor/dstd"]})
    with pytest.raises(InputError, match=r"model\.dpax: .*stddev, .* is not positive"):
        open_model(path)
