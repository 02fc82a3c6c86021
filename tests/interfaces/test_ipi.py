"""i-PI gets from dpax what dpax says: through its direct driver, and over a socket."""

import os
import re
import shutil
import socket
import subprocess
import sys
import uuid
from pathlib import Path

import ase
import ase.io
import numpy as np
import pytest

import dpax
from dpax import InputError
from dpax.interfaces.ipi_client import Address, connect, serve
from dpax.interfaces.model_files import write_model
from model.support import tiny_model

pytest.importorskip("ipi", reason="the extra ipi is not installed")
from ipi.utils.units import unit_to_internal, unit_to_user  # isort: skip
from dpax.interfaces.ipi_driver import Driver  # isort: skip

ROOT = Path(__file__).resolve().parents[2]
EXAMPLES = ROOT / "examples" / "ipi"
STEPS = 2


def structure(pbc=True, seed=0) -> ase.Atoms:
    rng = np.random.default_rng(seed)
    grid = np.stack(np.meshgrid(*[np.arange(3)] * 3, indexing="ij"), -1).reshape(-1, 3) / 3
    cell = np.array([[6.6, 0.0, 0.0], [1.0, 6.4, 0.0], [-0.8, 1.2, 6.8]])
    atoms = ase.Atoms(rng.choice(["O", "H"], 27), scaled_positions=grid, cell=cell, pbc=pbc)
    atoms.rattle(0.1, rng=rng)
    return atoms


@pytest.fixture
def folder(tmp_path) -> Path:
    """The examples, a model and a structure, and fewer steps."""
    for path in EXAMPLES.iterdir():
        shutil.copy(path, tmp_path)
    for path in tmp_path.glob("*.xml"):
        text = re.sub(r"(<total_steps>)\d+", rf"\g<1>{STEPS}", path.read_text(encoding="utf-8"))
        path.write_text(text, encoding="utf-8")
    write_model(tmp_path / "model.dpax", tiny_model(version=2, rcut=3.0), {})
    ase.io.write(tmp_path / "start.xyz", structure())
    return tmp_path


def start(folder, *command):
    environment = os.environ | {
        "JAX_PLATFORMS": "cpu",
        "JAX_COMPILATION_CACHE_DIR": str(ROOT / ".pytest_cache" / "jax"),
    }
    return subprocess.Popen(
        command, cwd=folder, env=environment, text=True, stdout=subprocess.PIPE, stderr=subprocess.STDOUT
    )


def start_ipi(folder, name):
    return start(folder, str(Path(sys.executable).with_name("i-pi")), name)


def assert_trajectory(folder, prefix):
    """What i-PI wrote down, with the digits that it writes, is what dpax says of the positions there."""
    potential = dpax.load(folder / "model.dpax")
    energies = np.loadtxt(folder / f"{prefix}.out")[:, 3]
    positions, forces = (
        ase.io.read(folder / f"{prefix}.{name}_0.extxyz", ":") for name in ("positions", "forces")
    )
    assert len(positions) == STEPS + 1
    for atoms, image, energy in zip(positions, forces, energies, strict=True):
        expected = potential.evaluate(atoms)
        assert energy == pytest.approx(expected.energy, abs=2e-6)
        np.testing.assert_allclose(image.get_forces(), expected.forces, atol=2e-6)


@pytest.mark.parametrize("pbc", [True, (True, True, False), False], ids=["crystal", "slab", "cluster"])
def test_the_direct_driver_says_what_dpax_says(folder, pbc):
    """All digits, in i-PI's own units; two beads at once as one at a time."""
    atoms = structure(pbc, seed=1)
    ase.io.write(folder / "template.xyz", atoms)
    driver = Driver(model=folder / "model.dpax", template=str(folder / "template.xyz"), verbosity=1)
    moved = atoms.copy()
    moved.rattle(0.05, seed=2)
    cell = unit_to_internal("length", "angstrom", atoms.cell[:].T)
    positions = [unit_to_internal("length", "angstrom", each.positions) for each in (atoms, moved)]
    together = driver([cell, cell], positions)
    for each, x, answer in zip((atoms, moved), positions, together, strict=True):
        expected = driver.potential.evaluate(each)
        for energy, forces, virial, _ in (answer, driver(cell, x)):
            assert unit_to_user("energy", "electronvolt", energy) == pytest.approx(expected.energy, rel=1e-10)
            found = unit_to_user("force", "ev/ang", forces)
            np.testing.assert_allclose(found, expected.forces, atol=1e-10 * np.abs(expected.forces).max())
            found = unit_to_user("energy", "electronvolt", virial)
            np.testing.assert_allclose(found, expected.virial, atol=1e-10 * np.abs(expected.virial).max())


def test_the_direct_driver_in_ipi(folder):
    ipi = start_ipi(folder, "direct.xml")
    log, _ = ipi.communicate(timeout=600)
    assert ipi.returncode == 0, log
    assert_trajectory(folder, "direct")


def test_the_command_over_a_unix_socket(folder):
    address = f"dpax-{uuid.uuid4().hex[:8]}"
    path = folder / "socket.xml"
    path.write_text(path.read_text(encoding="utf-8").replace(">water<", f">{address}<"), encoding="utf-8")
    code = "from dpax.cli import main; main()"
    client = start(folder, sys.executable, "-c", code, "ipi", "model.dpax", "start.xyz", "--unix", address)
    ipi = start_ipi(folder, "socket.xml")
    try:
        log, _ = ipi.communicate(timeout=600)
        said, _ = client.communicate(timeout=600)
    finally:
        ipi.kill()
        client.kill()
        Path(f"/tmp/ipi_{address}").unlink(missing_ok=True)
    assert ipi.returncode == 0, log
    assert client.returncode == 0, said
    assert f"connected to i-PI at /tmp/ipi_{address}" in said
    assert f"{STEPS + 1} structures evaluated" in said
    assert_trajectory(folder, "socket")


def test_over_tcp(folder):
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    path = folder / "socket.xml"
    text = path.read_text(encoding="utf-8").replace('mode="unix"', 'mode="inet"')
    here = f"<address>127.0.0.1</address> <port>{port}</port>"
    path.write_text(text.replace("<address>water</address>", here), encoding="utf-8")
    ipi = start_ipi(folder, "socket.xml")
    try:
        client = connect(Address(host="127.0.0.1", port=port), patience=300.0)
        answers = list(serve(client, dpax.load(folder / "model.dpax"), structure()))
        log, _ = ipi.communicate(timeout=600)
    finally:
        ipi.kill()
    assert ipi.returncode == 0, log
    assert answers == list(range(1, STEPS + 2))
    assert_trajectory(folder, "socket")


def test_mistakes_are_named(folder):
    with pytest.raises(InputError, match=r"nobody listens at /tmp/ipi_no-such-address.*start i-PI first"):
        connect(Address(unix="no-such-address"))
    ase.io.write(folder / "iron.xyz", ase.Atoms("Fe"))
    with pytest.raises(InputError, match="Fe"):
        Driver(model=folder / "model.dpax", template=folder / "iron.xyz")
    code = "from dpax.cli import main; main()"
    for address in ([], ["--unix", "a", "--port", "31415"], ["--host", "localhost"]):
        client = start(folder, sys.executable, "-c", code, "ipi", "model.dpax", "start.xyz", *address)
        said, _ = client.communicate(timeout=600)
        assert client.returncode == 2
        assert "give i-PI's address" in said
