"""The commands as a user types them, on a run of a few steps."""

import json
import re
from pathlib import Path

import numpy as np
import pytest
import yaml
from ase.build import bulk
from ase.calculators.emt import EMT
from ase.calculators.singlepoint import SinglePointCalculator
from ase.io import read, write

from cli.commands import dpax, error_of
from dpax import load

INPUT = {
    "model": {
        "type_map": ["Cu", "Au"],
        "descriptor": {
            "type": "se_atten_v2",
            "rcut": 3.5,
            "rcut_smth": 1.0,
            "neuron": [4, 8],
            "axis_neuron": 2,
            "attn": 8,
            "attn_layer": 1,
        },
        "fitting_net": {"neuron": [8]},
    },
    "loss": {"start_pref_v": 0.1, "limit_pref_v": 0.1},
    "training": {
        "training_data": {"systems": "train.xyz", "batch_size": 2},
        "validation_data": {"systems": "valid.xyz"},
        "numb_steps": 4,
        "seed": 1,
        "disp_freq": 2,
        "save_freq": 2,
    },
}


def alloys(frames: int, seed: int) -> list:
    rng = np.random.default_rng(seed)
    images = []
    for number in range(frames):
        atoms = bulk("Cu", "fcc", a=3.8, cubic=True)
        atoms.symbols[: number % 4] = "Au"
        atoms.rattle(0.1, rng=rng)
        atoms.calc = EMT()
        energy, forces, stress = atoms.get_potential_energy(), atoms.get_forces(), atoms.get_stress()
        atoms.calc = SinglePointCalculator(atoms, energy=energy, forces=forces, stress=stress)
        images.append(atoms)
    return images


def write_input(folder: Path, name: str = "input.yaml", **changes: object) -> Path:
    """Write the input with changed values, by dotted path with __ for the dots."""
    content = json.loads(json.dumps(INPUT))
    for path, value in changes.items():
        *sections, key = path.split("__")
        place = content
        for section in sections:
            place = place.setdefault(section, {})
        place[key] = value
    (folder / name).write_text(yaml.safe_dump(content))
    return folder / name


@pytest.fixture(scope="module")
def folder(tmp_path_factory) -> Path:
    """A folder with data, an input and a finished run."""
    folder = tmp_path_factory.mktemp("cli")
    write(folder / "train.xyz", alloys(6, 0), format="extxyz")
    write(folder / "valid.xyz", alloys(3, 1), format="extxyz")
    shown = dpax("train", write_input(folder), "-o", folder / "run").stdout
    assert "training begins; 4 steps in all" in shown
    assert re.search(r"step 4/4: loss \S+, E \S+ \| \S+ meV/atom, F ", shown)
    return folder


def test_training_leaves_its_files(folder):
    names = {path.name for path in (folder / "run").iterdir()}
    assert names >= {"best.dpax", "model.dpax", "lcurve.out", "log.jsonl", "input.json", "checkpoints"}


def test_training_does_not_touch_a_run_that_is_there(folder):
    before = {path: path.stat().st_mtime_ns for path in (folder / "run").rglob("*")}
    assert "--overwrite" in error_of("train", folder / "input.yaml", "-o", folder / "run")
    assert {path: path.stat().st_mtime_ns for path in (folder / "run").rglob("*")} == before


def test_mistake_in_the_input_is_one_line(folder):
    wrong = write_input(folder, "wrong.yaml", model__descriptor__axis_neurn=4)
    text = error_of("train", wrong, "-o", folder / "other")
    assert text == f"{wrong}: model.descriptor.axis_neurn: unknown key; did you mean axis_neuron?"
    assert not (folder / "other").exists()


def test_errors_of_a_model(folder):
    report, prefix = folder / "test.json", folder / "detail"
    model, data = folder / "run" / "best.dpax", folder / "valid.xyz"
    shown = dpax("test", "-m", model, "-s", data, "--json", report, "-d", prefix).stdout
    assert "force component" in shown
    images, potential = read(data, index=":"), load(model)
    found = potential.evaluate(images)
    forces = np.concatenate([f.forces - a.get_forces() for f, a in zip(found, images, strict=True)])
    energy = np.array([f.energy - a.get_potential_energy() for f, a in zip(found, images, strict=True)])
    stress = np.array(
        [(f.stress - a.get_stress())[:3] * a.cell.volume for f, a in zip(found, images, strict=True)]
    )
    errors = json.loads(report.read_text())["all"]
    assert errors["frames"] == 3
    assert errors["energy_mae_ev"] == pytest.approx(np.abs(energy).mean())
    assert errors["energy_per_atom_rmse_ev"] == pytest.approx(np.sqrt((energy**2).mean()) / 4)
    assert errors["force_rmse_ev_per_angstrom"] == pytest.approx(np.sqrt((forces**2).mean()))
    assert errors["force_mae_ev_per_angstrom"] == pytest.approx(np.abs(forces).mean())
    table = np.loadtxt(f"{prefix}.f.out")
    assert table.shape == (12, 6)
    np.testing.assert_allclose(table[:, 3:] - table[:, :3], forces, atol=1e-9)
    virials = np.loadtxt(f"{prefix}.v.out")
    np.testing.assert_allclose((virials[:, 9:] - virials[:, :9])[:, ::4], -stress, atol=1e-8)
    peratom = np.loadtxt(f"{prefix}.v_peratom.out")
    np.testing.assert_allclose(4 * peratom, virials, atol=1e-8)
    assert errors["virial_per_atom_rmse_ev"] == pytest.approx(errors["virial_rmse_ev"] / 4)
    one = folder / "one.json"
    dpax("test", "-m", model, "-s", data, "-s", folder / "train.xyz", "-n", 1, "--json", one)
    assert {name: part["frames"] for name, part in json.loads(one.read_text()).items()} == {
        str(data): 1,
        str(folder / "train.xyz"): 1,
        "all": 2,
    }


def test_structures_evaluated(folder):
    model, out = folder / "run" / "model.dpax", folder / "out.xyz"
    molecule = bulk("Cu", cubic=True)
    molecule.pbc = False
    structures = [*alloys(2, 5), molecule]
    write(folder / "structures.traj", structures)
    dpax("eval", folder / "structures.traj", "-m", model, "-o", out)
    results = read(out, index=":")
    assert len(results) == 3
    for result, atoms, expected in zip(results, structures, load(model).evaluate(structures), strict=True):
        np.testing.assert_allclose(result.positions, atoms.positions, atol=1e-7)
        assert result.get_potential_energy() == pytest.approx(expected.energy, abs=1e-7)
        np.testing.assert_allclose(result.get_forces(), expected.forces, atol=1e-7)
        if atoms.pbc.all():
            np.testing.assert_allclose(result.get_stress(), expected.stress, atol=1e-9)
    content = out.read_text()
    assert "--overwrite" in error_of("eval", folder / "structures.traj", "-m", model, "-o", out)
    foreign = bulk("Ag")
    write(folder / "foreign.xyz", [*alloys(1, 5), foreign])
    text = error_of("eval", folder / "foreign.xyz", "-m", model, "-o", out, "--overwrite")
    assert "frame 1" in text
    assert "Ag" in text
    assert out.read_text() == content
    assert not list(folder.glob("*.part"))


def test_model_described(folder):
    shown = dpax("inspect", folder / "run" / "best.dpax").stdout
    assert "elements: Cu Au" in shown
    assert "rcut: 3.5" in shown
    counts = [int(n) for n in re.search(r"parameters\n(.*?)\n\nstat", shown, re.S)[1].split() if n.isdigit()]
    assert sum(counts[:-1]) == counts[-1]
    assert "input.training.numb_steps: 4" in shown


def test_any_checkpoint_frozen(folder):
    last, first = folder / "last.dpax", folder / "first.dpax"
    dpax("freeze", folder / "run", "-o", last)
    dpax("freeze", folder / "run", "-o", first, "--step", 2)
    atoms = alloys(2, 7)[1]
    energies = [load(path).evaluate(atoms).energy for path in (folder / "run" / "model.dpax", last, first)]
    assert energies[0] == energies[1] != energies[2]
    assert load(first).provenance["step"] == 2
    assert "there are: 2, 4" in error_of("freeze", folder / "run", "-o", folder / "no.dpax", "--step", 3)
    assert "--overwrite" in error_of("freeze", folder / "run", "-o", last)
    assert "no run" in error_of("freeze", folder, "-o", folder / "no.dpax")


def test_sound_input_validated(folder):
    done = dpax("validate", folder / "input.yaml")
    assert "ready to train" in done.stdout
    assert "one step: " in done.stdout
    assert done.stderr == ""


def test_doubtful_input_is_warned_of(folder):
    doubtful = write_input(
        folder,
        "doubtful.yaml",
        model__type_map=["Cu", "Au", "Ag"],
        model__descriptor__type="se_atten",
        model__descriptor__sel=5,
        model__descriptor__stripped_type_embedding=True,
    )
    done = dpax("validate", doubtful, "--no-step")
    assert "smooth_type_embedding is false" in done.stderr
    assert "neighbours, more than sel = 5" in done.stderr
    assert "no atom of Ag in the training data" in done.stderr
    assert "stripped_type_embedding is deprecated" in done.stderr


def test_spoilt_data_are_named(folder):
    images = alloys(6, 3)
    images[4].calc.results["forces"][2, 0] = np.nan
    system = folder / "spoilt"
    (system / "set.000").mkdir(parents=True)
    (system / "type_map.raw").write_text("Cu\n")
    (system / "type.raw").write_text("0 0 0 0\n")
    arrays = {
        "coord": [a.positions.ravel() for a in images],
        "box": [a.cell.array.ravel() for a in images],
        "energy": [a.calc.results["energy"] for a in images],
        "force": [a.calc.results["forces"].ravel() for a in images],
    }
    arrays["coord"][5][3:6] = arrays["coord"][5][:3]
    for name, array in arrays.items():
        np.save(system / "set.000" / f"{name}.npy", np.array(array))
    spoilt = write_input(folder, "spoilt.yaml", training__training_data__systems="spoilt")
    text = error_of("validate", spoilt)
    assert re.search(r"force\.npy: frame 4 .*NaN", text)
    assert re.search(r"frame 5.*same position", text)
