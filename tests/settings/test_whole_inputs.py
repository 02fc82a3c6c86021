"""Whole input files of DeePMD-kit train here as they are, aliases, comments and old spellings included."""

import json
import shutil
import warnings
from pathlib import Path

import jax
import numpy as np
import pytest

from data.builders import write_system
from dpax.errors import InputError
from dpax.train import train
from dpax.train.settings import read_settings

INPUTS = sorted((Path(__file__).parent / "inputs").glob("*.json"))


def write_data(folder: Path) -> None:
    """Two systems of other sizes with every kind of label, and a table of a pair potential."""
    rng = np.random.default_rng(0)
    for name, types in (("a", (0, 1, 1)), ("b", (0, 1, 1, 0, 1, 1))):
        write_system(folder / "water" / name, types=types, frames=4, rare=True)
        where = folder / "water" / name / "set.000"
        np.save(where / "aparam.npy", rng.normal(size=(4, len(types))))
        np.save(where / "fparam.npy", rng.normal(size=(4, 2)))
    (folder / "water" / "a" / "set.000" / "fparam.npy").unlink()
    distance = np.arange(0.02, 1.2, 0.02)
    np.savetxt(folder / "zbl.txt", np.column_stack([distance] + [1 / distance - 1 / 1.2] * 3))


@pytest.mark.parametrize("path", INPUTS, ids=lambda path: path.stem)
def test_input_file_of_deepmd_kit_trains(path, tmp_path, monkeypatch):
    shutil.copy(path, tmp_path / "input.json")
    write_data(tmp_path)
    monkeypatch.chdir(tmp_path)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", DeprecationWarning)
        settings = read_settings("input.json")
    result = train(settings, tmp_path / "run", base=tmp_path, devices=jax.devices()[:1])
    assert result.step == (4 if path.stem == "losses" else 2)
    assert (tmp_path / "run" / "model.dpax").is_file()
    rows = np.genfromtxt(tmp_path / "run" / settings.training.disp_file, names=True)
    assert np.isfinite(np.atleast_1d(rows)["rmse_trn"]).all()


@pytest.mark.parametrize("path", INPUTS, ids=lambda path: path.stem)
def test_input_file_is_one_of_deepmd_kit(path):
    compat = pytest.importorskip("deepmd.utils.compat")
    argcheck = pytest.importorskip("deepmd.utils.argcheck")
    content = json.loads(path.read_text())
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", FutureWarning)  # of keys that it has removed
        argcheck.normalize(compat.update_deepmd_input(content, warning=False))


@pytest.mark.parametrize(
    ("model", "words"),
    [
        ({"descriptor": {"type": "dpa2"}}, "dpax is for DPA-1"),
        ({"descriptor": {"type": "hybrid", "list": []}}, "dpax is for DPA-1"),
        ({"fitting_net": {"type": "dipole"}}, "dpax fits energies"),
        ({"type": "linear_ener", "models": []}, "model.type"),
        ({"spin": {"use_spin": [True, False]}}, "spin"),
    ],
    ids=["dpa2", "hybrid", "dipole", "linear_ener", "spin"],
)
def test_other_models_are_told_what_dpax_is_for(model, words, tmp_path):
    content = {
        "model": {"type_map": ["O", "H"], "descriptor": {"type": "se_atten"}} | model,
        "training": {"training_data": {"systems": "water"}, "numb_steps": 1},
    }
    (tmp_path / "input.json").write_text(json.dumps(content))
    with pytest.raises(InputError, match=words):
        read_settings(tmp_path / "input.json")
