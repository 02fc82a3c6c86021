"""Run an exported DPA-1 potential: this needs jax, numpy, and flatbuffers, with which jax reads programs.

    python run.py

evaluates the structures of check.json and compares the results with those that the exporter wrote there. From
a program of yours:

    from run import ExportedPotential

    potential = ExportedPotential("folder of the export")
    results = potential(positions, symbols, cell, pbc)
    results["energy"], results["forces"], results["virial"]

The search for neighbours below takes time and memory that grow with the square of the number of atoms. For
large systems bring a list of your own, and call `evaluate_pairs`.
"""

import json
import sys
from itertools import product
from pathlib import Path

import jax
import numpy as np
from jax import export


class ExportedPotential:
    """A potential from the folder that `dpax export` wrote."""

    def __init__(self, folder):
        folder = Path(folder)
        self.facts = json.loads((folder / "potential.json").read_text(encoding="utf-8"))
        program = export.deserialize(bytearray((folder / self.facts["program"]).read_bytes()))
        # JAX compiles it for each new shape of the arrays.
        self.program = jax.jit(program.call)
        self.slots = 0

    def __call__(self, positions, symbols, cell=None, pbc=(False, False, False), fparam=None, aparam=None):
        """Energy (eV), atomic energies, forces (eV/Å) and virial (eV, -dE/d(strain)) of a structure.

        positions: [atoms, 3], Å; symbols: [atoms]; cell: [3, 3], rows are lattice vectors, Å; pbc: [3].
        """
        positions = np.asarray(positions, np.float64)
        types = np.array([self.facts["type_map"].index(symbol) for symbol in symbols], np.int32)
        i, j, vectors = find_pairs(positions, cell, pbc, self.facts["rcut"])
        return self.evaluate_pairs(types, i, j, vectors, fparam, aparam)

    def evaluate_pairs(self, types, i, j, vectors, fparam=None, aparam=None):
        """The same from all ordered pairs within the cutoff: i, j [pairs], r_j - r_i [pairs, 3], Å."""
        n_atoms = len(types)
        counts = np.bincount(i, minlength=n_atoms)
        # So that few shapes are compiled; the program adds one slot, and multiples of 8 are quick.
        self.slots = slots = max(self.slots, -(-(counts.max(initial=0) + 1) // 8) * 8 - 1)
        kind = "cpu" if jax.default_backend() == "cpu" else "accelerator"
        block = max(1, min(n_atoms, round(self.facts["rows_of_a_block"][kind] / slots)))
        blocks = -(-n_atoms // block)

        order = np.argsort(i, kind="stable")
        i, j, vectors = i[order], j[order], vectors[order]
        column = np.arange(len(i)) - np.repeat(np.cumsum(counts) - counts, counts)
        edges = np.zeros((blocks * block, slots, 3))
        neighbors = np.full((blocks * block, slots), -1, np.int32)
        edges[i, column], neighbors[i, column] = vectors, j
        centres = np.full(blocks * block, -1, np.int32)
        centres[:n_atoms] = types

        arrays = [edges, neighbors, centres]
        if self.facts["fparam"] + self.facts["aparam"]:
            arrays.append(self._parameters(n_atoms, blocks * block, fparam, aparam))
        with jax.enable_x64(True):
            results = self.program(*(a.reshape(blocks, block, *a.shape[1:]) for a in arrays))
        results = {name: np.asarray(value) for name, value in results.items()}
        return {
            "energy": float(results["energy"]),
            "energies": results["energies"][:n_atoms],
            "forces": results["forces"][:n_atoms],
            "virial": results["virial"],
        }

    def _parameters(self, n_atoms, rows, fparam, aparam):
        n_frame, n_atomic = self.facts["fparam"], self.facts["aparam"]
        parameters = np.zeros((rows, n_frame + n_atomic))
        if n_frame:
            parameters[:n_atoms, :n_frame] = self.facts["default_fparam"] if fparam is None else fparam
        if n_atomic:
            parameters[:n_atoms, n_frame:] = aparam
        return parameters


def find_pairs(positions, cell, pbc, cutoff):
    """All ordered pairs within the cutoff, periodic images included: i, j, r_j - r_i."""
    periodic = np.asarray(pbc, bool)
    box = np.eye(3)
    if periodic.any():
        box = np.array(cell, np.float64)
        # Directions that are not periodic: unit vectors normal to the lattice.
        box[~periodic] = np.linalg.svd(box[periodic])[2][periodic.sum() :]
    inverse = np.linalg.inv(box)
    wrapped = positions - np.where(periodic, np.floor(positions @ inverse), 0.0) @ box
    images = np.where(periodic, np.ceil(cutoff * np.linalg.norm(inverse, axis=0)), 0).astype(int)
    pairs = []
    for shift in product(*(range(-n, n + 1) for n in images)):
        vectors = wrapped[None] + np.array(shift) @ box - wrapped[:, None]
        near = np.sum(vectors**2, axis=-1) <= cutoff**2
        if not any(shift):
            np.fill_diagonal(near, False)
        i, j = np.nonzero(near)
        pairs.append((i, j, vectors[i, j]))
    return tuple(np.concatenate(arrays) for arrays in zip(*pairs, strict=True))


def check(folder):
    """Evaluate check.json; the largest difference, relative to the largest number, of each result."""
    potential = ExportedPotential(folder)
    worst = {"energy": 0.0, "forces": 0.0, "virial": 0.0}
    for structure in json.loads((Path(folder) / "check.json").read_text(encoding="utf-8")):
        expected = structure.pop("expected")
        results = potential(**structure)
        for name in worst:
            apart = np.max(np.abs(results[name] - np.array(expected[name])))
            worst[name] = max(worst[name], apart / max(1.0, np.max(np.abs(expected[name]))))
    return worst, potential.facts["tolerance"]


if __name__ == "__main__":
    worst, tolerance = check(Path(__file__).resolve().parent)
    for name, apart in worst.items():
        print(f"{name:6}  differs by {apart:.1e}, allowed {tolerance:.0e}")
    sys.exit(any(apart > tolerance for apart in worst.values()))
