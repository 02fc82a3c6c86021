"""The exported program says what the potential says, with jax and numpy alone."""

import json
import os
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from dpax import InputError, Potential
from dpax.data import Frame
from dpax.geometry.neighbors import find_edges
from dpax.interfaces.export import PLATFORMS, export_potential
from dpax.interfaces.model_files import write_model
from dpax.interfaces.run_exported import ExportedPotential, find_pairs
from dpax.model.energy_model import initial_model
from model.support import tiny_descriptor, tiny_model, tiny_spec

CUTOFF = 4.0
CELL = np.array([[8.6, 0.0, 0.0], [1.0, 8.4, 0.0], [-0.8, 1.2, 8.8]])
PERIODIC, SLAB, CLUSTER = (True, True, True), (True, True, False), (False, False, False)


def frame_of(pbc, cell=CELL, seed=0) -> Frame:
    rng = np.random.default_rng(seed)
    grid = np.stack(np.meshgrid(*[np.arange(3)] * 3, indexing="ij"), -1).reshape(-1, 3) / 3
    positions = grid @ cell + rng.uniform(-0.3, 0.3, grid.shape)
    return Frame(positions, rng.integers(2, size=27), cell if any(pbc) else None, pbc, "frame")


def evaluated(program, frame, type_map=("O", "H"), **told):
    return program(frame.positions, [type_map[t] for t in frame.types], frame.cell, frame.pbc, **told)


def assert_equal(found, expected, rtol=1e-12):
    for name in ("energy", "energies", "forces", "virial"):
        wanted = np.asarray(getattr(expected, name))
        np.testing.assert_allclose(
            found[name], wanted, rtol=0, atol=rtol * np.abs(wanted).max(), err_msg=name
        )


@pytest.fixture(scope="module")
def exported(tmp_path_factory) -> tuple[Potential, Path]:
    potential = Potential(tiny_model(version=2, rcut=CUTOFF))
    folder = tmp_path_factory.mktemp("export") / "program"
    assert max(export_potential(potential, folder).values()) < 1e-12
    return potential, folder


def test_same_numbers_as_the_potential(exported):
    """Crystals, slabs and clusters, and a cell thinner than the cutoff."""
    potential, folder = exported
    program = ExportedPotential(folder)
    frames = [frame_of(pbc, seed=seed) for seed in range(2) for pbc in (PERIODIC, SLAB, CLUSTER)]
    frames.append(frame_of(PERIODIC, CELL * np.array([[1.0], [1.0], [0.45]])))
    for frame in frames:
        assert_equal(evaluated(program, frame), potential.evaluate(frame))


def test_the_size_of_blocks_and_pairs_beyond_the_cutoff_do_not_matter(exported):
    potential, folder = exported
    program = ExportedPotential(folder)
    program.facts["rows_of_a_block"]["cpu"] = 200
    frame = frame_of(PERIODIC)
    pairs = find_pairs(frame.positions, frame.cell, frame.pbc, CUTOFF + 0.5)
    assert_equal(program.evaluate_pairs(frame.types, *pairs), potential.evaluate(frame))


@pytest.mark.parametrize("pbc", [PERIODIC, SLAB, (False, True, False), CLUSTER])
def test_pairs_are_those_of_dpax(pbc):
    rng = np.random.default_rng(1)
    positions, cell = rng.normal(scale=6.0, size=(9, 3)), 0.6 * CELL
    i, j, vectors = find_pairs(positions, cell, pbc, CUTOFF)
    expected = find_edges(positions, cell, pbc, CUTOFF)
    mine, theirs = (
        np.array(sorted(zip(i, j, *np.round(v, 8).T, strict=True)))
        for i, j, v in ((i, j, vectors), (expected.i, expected.j, expected.vectors))
    )
    np.testing.assert_allclose(mine, theirs, atol=1e-7)


def test_runs_without_dpax(exported):
    """`run.py` in the folder, in a process that cannot import dpax or what dpax needs but jax does not."""
    _, folder = exported
    absent = ("dpax", "flax", "ase", "vesin", "jaxtyping", "safetensors", "pydantic")
    code = (
        f"import sys, runpy; sys.modules.update(dict.fromkeys({absent!r}))\n"
        f"runpy.run_path({str(folder / 'run.py')!r}, run_name='__main__')"
    )
    command = [sys.executable, "-c", code]
    environment = os.environ | {"JAX_PLATFORMS": "cpu"}
    done = subprocess.run(command, capture_output=True, text=True, timeout=600, check=False, env=environment)
    assert done.returncode == 0, done.stderr
    assert done.stdout.count("differs by") == 3
    checks = json.loads((folder / "check.json").read_text())
    checks[1]["expected"]["energy"] += 1e-6
    wrong = folder.parent / "wrong"
    wrong.mkdir()
    for path in folder.iterdir():
        (wrong / path.name).write_bytes(path.read_bytes())
    (wrong / "check.json").write_text(json.dumps(checks))
    command[-1] = code.replace(str(folder), str(wrong))
    assert (
        subprocess.run(command, capture_output=True, timeout=600, check=False, env=environment).returncode
        == 1
    )


def test_what_it_needs_is_beside_it(exported):
    potential, folder = exported
    facts = json.loads((folder / "potential.json").read_text(encoding="utf-8"))
    assert facts["rcut"] == CUTOFF
    assert facts["type_map"] == ["O", "H"]
    assert facts["bias"] == list(potential.model.bias)
    assert tuple(facts["platforms"]) == PLATFORMS
    readme = (folder / "README.md").read_text(encoding="utf-8")
    assert all(f"| `{array['name']}` |" in readme for array in facts["inputs"] + facts["outputs"])


@pytest.mark.slow
def test_a_model_with_every_kind_of_option(tmp_path):
    """Concatenated type embeddings, parameters, atoms without energy, unseen pairs; float32 descriptor."""
    spec = tiny_spec(
        tiny_descriptor(1, rcut=CUTOFF, precision="float32", lmax=2),
        (8, 8),
        fitting_precision="float64",
        fitting_numb_fparam=1,
        fitting_numb_aparam=2,
        fitting_default_fparam=[0.4],
        atom_exclude_types=[1],
        pair_exclude_types=[(0, 1)],
    )
    model = initial_model(spec, seed=2).with_bias([-3e3, 20.0])
    potential, folder = Potential(model), tmp_path / "program"
    export_potential(potential, folder, ["cpu"])
    frame = frame_of(PERIODIC)
    aparam = np.random.default_rng(3).normal(size=(27, 2))
    for fparam in (None, np.array([0.9])):
        expected = potential.evaluate(replace(frame, aparam=aparam, fparam=fparam))
        assert_equal(
            evaluated(ExportedPotential(folder), frame, aparam=aparam, fparam=fparam), expected, rtol=1e-5
        )


def test_mistakes_leave_nothing_behind(exported, tmp_path, monkeypatch):
    potential, folder = exported
    for arguments, reason in (
        ((folder,), "exists already"),
        ((tmp_path / "no" / "folder",), "does not exist"),
        ((tmp_path / "new", ["abacus"]), "platforms: abacus"),
        ((tmp_path / "new", ["tpu"]), "cpu must be among them"),
    ):
        with pytest.raises(InputError, match=reason):
            export_potential(potential, *arguments)
    shifted = Potential(tiny_model(version=2, rcut=CUTOFF, seed=2))
    monkeypatch.setattr(shifted, "evaluate", potential.evaluate)
    with pytest.raises(RuntimeError, match="differs"):
        export_potential(shifted, tmp_path / "new", ["cpu"])
    assert not list(tmp_path.iterdir())


def test_on_the_command_line(tmp_path):
    write_model(tmp_path / "model.dpax", tiny_model(version=2, rcut=CUTOFF), {})
    command = [
        sys.executable,
        "-c",
        "from dpax.cli import main; main()",
        "export",
        "model.dpax",
        "-o",
        "program",
        "--platforms",
        "cpu",
    ]
    done = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, timeout=600, check=False)
    assert done.returncode == 0, done.stderr
    assert done.stdout.startswith("program: differs from the model by at most")
    assert (tmp_path / "program" / "run.py").is_file()
