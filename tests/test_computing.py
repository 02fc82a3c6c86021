"""A fork of a process in which JAX has started is told so at once, by everything that computes."""

import ast
import json
import multiprocessing
import os
import pickle
import select
import signal
import subprocess
import sys
import warnings
from pathlib import Path

import ase
import numpy as np
import pytest

import dpax
from dpax.geometry.neighborhoods import Capacity, pack, surroundings
from dpax.geometry.neighbors import find_edges
from dpax.infer import Potential
from dpax.model.file import save_model
from dpax.train.settings import InputSettings
from infer.support import OPTIONS, water
from infer.workers import energy
from model.support import tiny_model

PACKAGE = Path(dpax.__file__).parent

pytestmark = [
    pytest.mark.skipif(not hasattr(os, "fork"), reason="no fork on this system"),
    pytest.mark.filterwarnings("ignore:.*fork"),
]


@pytest.fixture(scope="module")
def potential() -> Potential:
    found = Potential(tiny_model(**OPTIONS))
    found.evaluate(water())
    return found


def in_fork(function, seconds=60):
    """What a function returns in a forked process; it is killed if it hangs."""
    reading, writing = os.pipe()
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # JAX and Python warn of forks
        pid = os.fork()
    if pid == 0:
        try:
            os.write(writing, json.dumps(function()).encode())
        finally:
            os._exit(0)
    os.close(writing)
    ready, _, _ = select.select([reading], [], [], seconds)
    os.kill(pid, signal.SIGKILL)
    os.waitpid(pid, 0)
    with os.fdopen(reading, "rb") as pipe:
        assert ready, "the forked process hangs"
        return json.loads(pipe.read())


def message_of(action) -> str:
    try:
        action()
    except dpax.InputError as error:
        return str(error)
    return "no error"


def neighborhoods(atoms):
    edges = find_edges(atoms.positions, atoms.cell.array, atoms.pbc, 4.0)
    return pack([surroundings(edges, np.arange(len(atoms)) % 2)], Capacity(24, 48), np.float64)


def test_everything_that_computes_refuses(potential, tmp_path):
    path, atoms = tmp_path / "model.dpax", water()
    save_model(path, potential.model, {})
    calculator, packed = dpax.Calculator(potential), pickle.dumps(dpax.Calculator(potential))
    settings = InputSettings.model_validate(
        {
            "model": {"type_map": ["O", "H"], "descriptor": {"type": "se_atten", "sel": 20}},
            "training": {"training_data": {"systems": str(tmp_path)}, "numb_steps": 1},
        }
    )
    actions = {
        "evaluate": lambda: potential.evaluate(atoms),
        "a list": lambda: potential.evaluate([atoms]),
        "hessian": lambda: potential.hessian(atoms),
        "descriptors": lambda: potential.descriptors([atoms]),
        "edge_gradients": lambda: potential.edge_gradients(neighborhoods(atoms)),
        "calculator": lambda: calculator.get_potential_energy(atoms),
        "unpickled": lambda: pickle.loads(packed).get_potential_energy(atoms),
        "load": lambda: dpax.load(path),
        "train": lambda: dpax.train(settings, tmp_path / "run"),
    }
    found = in_fork(lambda: {name: message_of(action) for name, action in actions.items()})
    for name, message in found.items():
        assert "was forked after JAX had started" in message, name
        assert "get_context('spawn')" in message, name
    assert np.isfinite(potential.evaluate(atoms).energy)  # here it goes on


def test_a_fork_of_a_fork(potential):
    found = in_fork(lambda: in_fork(lambda: message_of(lambda: potential.evaluate(water()))))
    assert "was forked after JAX had started" in found


def test_a_forked_pool_reports_it(potential):
    """The error comes when the task computes: one while it is unpickled would hang the pool."""
    atoms = water()
    atoms.calc = dpax.Calculator(potential)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        pool = multiprocessing.get_context("fork").Pool(1)
    with pool, pytest.raises(dpax.InputError, match="was forked after JAX had started"):
        pool.map_async(energy, [atoms]).get(60)


def test_a_fork_before_anything_is_computed_computes(potential, tmp_path):
    path, atoms = tmp_path / "model.dpax", ase.Atoms("OH2", [[0, 0, 0], [1.0, 0.1, 0], [-0.3, 0.9, 0.1]])
    save_model(path, potential.model, {})
    code = f"""
import os, dpax, ase
dpax.configure(devices=1)
pid = os.fork()
if pid:
    os.waitpid(pid, 0)
else:
    atoms = ase.Atoms("OH2", {atoms.positions.tolist()})
    print(dpax.load({str(path)!r}).evaluate(atoms).energy, flush=True)
os._exit(0)
"""
    command = [sys.executable, "-c", code]
    run = subprocess.run(command, capture_output=True, text=True, timeout=600, check=True)
    assert float(run.stdout) == pytest.approx(potential.evaluate(atoms).energy, rel=1e-12)


def test_nothing_computes_without_asking():
    """JAX's precision is set in one place, which looks whether JAX can compute."""
    exempt = {PACKAGE / "computing.py", PACKAGE / "interfaces" / "run_exported.py"}  # it needs no dpax
    for path in set(PACKAGE.rglob("*.py")) - exempt:
        names = {
            node.attr for node in ast.walk(ast.parse(path.read_text())) if isinstance(node, ast.Attribute)
        }
        assert "enable_x64" not in names, path


@pytest.mark.skipif(not Path("/proc/self/task").is_dir(), reason="only Linux tells the threads of a process")
def test_a_child_that_imports_dpax_after_the_fork_is_told_so():
    program = """
import os, jax.numpy as jnp
jnp.ones(3).sum().block_until_ready()
pid = os.fork()
if pid:
    os._exit(os.waitpid(pid, 0)[1])
from dpax.computing import computing
try:
    computing(False)
except ValueError as error:
    print(error, flush=True)
os._exit(0)
"""
    done = subprocess.run(
        [sys.executable, "-W", "ignore", "-c", program], capture_output=True, text=True, timeout=120
    )
    assert "was forked after JAX had started" in done.stdout, done.stderr
