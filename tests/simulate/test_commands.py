"""`dpax md` and `dpax relax` as they are typed, killed and continued."""

import io
import os
import random
import signal
import subprocess
import sys
import time
from pathlib import Path

import ase.io
import jax
import numpy as np
import pytest
from rich.console import Console

from cli.commands import dpax, error_of
from dpax.cli.md_progress import MDReporter, summary
from dpax.model.file import save_model
from dpax.simulate.checkpoint import Checkpoint
from dpax.simulate.settings import MDSettings
from dpax.simulate.thermo import Thermo

from .support import crystal, metal

PATIENCE = 300
"""Seconds until something has to happen: the start, the compilation, and other work on the machine."""
CHECKPOINT_EVERY = 20


@pytest.fixture(scope="module")
def folder(tmp_path_factory) -> Path:
    """A model and a structure, and the programs that have been compiled for them."""
    folder = tmp_path_factory.mktemp("simulate")
    save_model(folder / "metal.dpax", metal(folder), {})
    ase.io.write(folder / "start.xyz", [crystal(1), crystal()])
    return folder


@pytest.fixture(autouse=True)
def programs(folder, monkeypatch):
    monkeypatch.setenv("JAX_COMPILATION_CACHE_DIR", str(folder / "programs"))
    monkeypatch.setenv("JAX_PERSISTENT_CACHE_MIN_COMPILE_TIME_SECS", "0")


def arguments(folder: Path, output: Path, steps: int) -> list[str]:
    files = f"{folder}/metal.dpax {folder}/start.xyz -o {output} --checkpoint-every {CHECKPOINT_EVERY}"
    # As many devices as in the process of the tests, or the last bits would differ.
    options = f"-n {steps} -t 300 --time-step 2 --every 5 --log-every 1 --devices {jax.device_count()}"
    return ["md", *files.split(), *options.split()]


def logged(output: Path) -> list[int]:
    """The steps of the complete lines in the log."""
    log = output.with_suffix(".log")
    lines = log.read_text().splitlines(keepends=True)[1:] if log.exists() else []
    return [int(line.split()[0]) for line in lines if line.endswith("\n")]


def test_killed_at_any_moment_and_continued(folder, tmp_path):
    """Twice, and every step is there once, as if nothing had happened."""
    output, whole, chance = tmp_path / "a.xyz", tmp_path / "whole.xyz", random.Random()
    code, saved = "from dpax.cli import main; main()", 0
    for restart in ([], ["--restart"]):
        command = [sys.executable, "-c", code, *arguments(folder, output, 10**6), *restart]
        process = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE)
        deadline = time.monotonic() + PATIENCE
        while len(logged(output)) <= saved + CHECKPOINT_EVERY + 3:
            assert process.poll() is None, process.communicate()
            assert time.monotonic() < deadline
            time.sleep(0.01)
        time.sleep(chance.uniform(0.0, 0.2))
        process.send_signal(signal.SIGKILL)
        assert process.wait(PATIENCE) == -signal.SIGKILL
        saved = Checkpoint.read(output.with_suffix(".checkpoint")).facts["step"]
        assert logged(output)[-1] - CHECKPOINT_EVERY <= saved
    end = saved + 3
    shown = dpax(*arguments(folder, output, end), "--restart").stdout
    assert f"32 atoms (AgCu31), NVT: the simulation continues from step {saved}; {end} steps in all" in shown
    assert f"step {end}/{end}: " in shown
    dpax(*arguments(folder, whole, end))
    assert logged(output) == list(range(end + 1))
    assert output.with_suffix(".log").read_bytes() == whole.with_suffix(".log").read_bytes()
    assert output.read_bytes() == whole.read_bytes()


def test_ctrl_c_saves_and_says_so(folder, tmp_path):
    output, code = tmp_path / "a.traj", "from dpax.cli import main; main()"
    command = [sys.executable, "-c", code, *arguments(folder, output, 10**6)]
    process = subprocess.Popen(
        command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, env=os.environ
    )
    deadline = time.monotonic() + PATIENCE
    while len(logged(output)) < 3:
        assert process.poll() is None, process.communicate()
        assert time.monotonic() < deadline
        time.sleep(0.01)
    process.send_signal(signal.SIGINT)
    out, err = process.communicate(timeout=PATIENCE)
    assert (process.returncode, err) == (130, "")
    step = Checkpoint.read(output.with_suffix(".checkpoint")).facts["step"]
    assert f"SIGINT: stopped at step {step} after a checkpoint; go on with --restart" in out
    assert logged(output) == list(range(step + 1))


def test_from_relaxation_to_npt(folder, tmp_path):
    relaxed = tmp_path / "relaxed.cif"
    shown = dpax(
        "relax", folder / "metal.dpax", folder / "start.xyz", "-o", relaxed, "--index", 0, "--fmax", 0.1
    )
    assert "relaxed in" in shown.stdout
    assert len(ase.io.read(relaxed)) == 4
    options = "-n 4 -t 100:200 -e npt -p 1000 --log-every 2 --every 4 --supercell 2 1 1"
    dpax("md", folder / "metal.dpax", relaxed, "-o", tmp_path / "a.xyz", *options.split())
    frames = ase.io.read(tmp_path / "a.xyz", index=":")
    assert [len(frame) for frame in frames] == [8, 8]
    assert frames[0].get_volume() != frames[1].get_volume()
    assert np.loadtxt(tmp_path / "a.log")[:, 0].tolist() == [0, 2, 4]


def test_mistakes_are_one_line(folder, tmp_path):
    model, start, out = folder / "metal.dpax", folder / "start.xyz", tmp_path / "a.xyz"
    gold, copper = tmp_path / "gold.xyz", tmp_path / "copper.xyz"
    for path, formula in ((gold, "Au2"), (copper, "Cu2")):
        ase.io.write(path, ase.Atoms(formula, positions=[[0, 0, 0], [0, 0, 2.5]]))
    rest = ["-o", out, "-n", 5, "-t", 300]
    assert "no such model file" in error_of("md", tmp_path / "none.dpax", start, *rest)
    assert "none.xyz: no such file" in error_of("md", model, tmp_path / "none.xyz", *rest)
    unknown = f"{gold}: contains Au, which the model does not know; its elements are Cu, Ag"
    assert unknown in error_of("md", model, gold, *rest)
    assert unknown in error_of("relax", model, gold, "-o", out)
    assert unknown in error_of("ipi", model, gold, "--unix", "dpax")
    assert "NPT needs a cell" in error_of("md", model, copper, *rest, "-e", "npt", "--devices", 1)
    assert not out.exists()


@pytest.mark.parametrize(
    ("options", "words"),
    [
        (["md", "-t", "hot"], "--temperature: expected K as in 300"),
        (["md", "-t", "1:2:3"], "--temperature: expected K as in 300"),
        (["md", "--supercell", "2", "2", "2", "-t", "300"], "gas.xyz is not periodic along lattice vector 1"),
        (["md", "--index", "7", "-t", "300"], "has no structure with the index 7"),
        (["relax"], "ASE writes no format of this name"),
    ],
)
def test_options_that_are_refused(folder, tmp_path, options, words):
    gas = tmp_path / "gas.xyz"
    ase.io.write(gas, ase.Atoms("Cu2", positions=[[0, 0, 0], [0, 0, 2.5]]))
    name, *rest = options
    steps = ["-n", 5]
    output = tmp_path / ("a.xyz" if name == "md" else "a.unknown")
    assert words in error_of(name, folder / "metal.dpax", gas, "-o", output, *steps, *rest)


def reported(terminal: bool) -> str:
    stream = io.StringIO()
    reporter = MDReporter(Console(file=stream, force_terminal=terminal, width=150))
    reporter.start(MDSettings(steps=100, temperature=(300.0, 300.0)), 40, "3 atoms")
    reporter.tick(41)
    thermo = Thermo(50, 50.0, 301.4, -11.0, -10.5, -10.5, None, None)
    reporter.line(thermo, 2.5e-6, 1.234)
    reporter.finish("done")
    return stream.getvalue()


def test_progress():
    lines = reported(terminal=False).splitlines()
    assert lines == [
        "3 atoms: the simulation continues from step 40; 100 steps in all",
        "step 50/100: 301 K, E -10.5000 eV, drift +0.0025 meV/atom, 1.23 ns/day",
        "done",
    ]
    assert "50/100" in reported(terminal=True)
    assert "drift +0.0025 meV/atom" in reported(terminal=True)
    assert summary(Thermo(1, 1.0, 5.0, -1.0, -1.0, None, None, None), None, None) == "5 K, E -1.0000 eV"
