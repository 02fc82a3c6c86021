"""The Gupta potential, which the demonstration learns instead of quantum-mechanical data.

Each atom repels its neighbours and is bound by the square root of a sum over them (the second moment of
the d band), so the energy is not a sum over pairs. Parameters: F. Cleri and V. Rosato, Phys. Rev. B 48, 22
(1993). Unlike atoms use the means of these: arithmetic for lengths and exponents, geometric for energies.
"""

from typing import Any, ClassVar

import ase
import numpy as np
from ase.calculators.calculator import Calculator, all_changes
from ase.stress import full_3x3_to_voigt_6_stress
from vesin import ase_neighbor_list

ELEMENTS = ("Cu", "Ag", "Au")
REPULSION = np.array([0.0855, 0.1028, 0.2061])
"""eV."""
BINDING = np.array([1.224, 1.178, 1.790])
"""eV."""
P = np.array([10.960, 10.928, 10.229])
Q = np.array([2.278, 3.139, 4.036])
R0 = np.array([2.556, 2.889, 2.884])
"""Å."""
R_ON, R_OFF = 4.0, 5.2
"""All interactions are switched off between these distances, Å."""


def mean(values: np.ndarray) -> np.ndarray:
    """Arithmetic means for all pairs of elements."""
    return 0.5 * (values[:, None] + values)


def geometric_mean(values: np.ndarray) -> np.ndarray:
    """Geometric means for all pairs of elements."""
    return np.sqrt(values[:, None] * values)


A, XI2, P2, Q2, R02 = (
    geometric_mean(REPULSION),
    geometric_mean(BINDING) ** 2,
    mean(P),
    mean(Q),
    mean(R0),
)


def switch(r: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """A twice differentiable factor, 1 below R_ON and 0 beyond R_OFF, and its derivative in 1/Å."""
    u = np.clip((r - R_ON) / (R_OFF - R_ON), 0.0, 1.0)
    return 1 - u**3 * (10 - 15 * u + 6 * u**2), -30 * (u * (1 - u)) ** 2 / (R_OFF - R_ON)


class Gupta(Calculator):
    """ASE calculator for the potential; all atoms must be Cu, Ag or Au."""

    implemented_properties: ClassVar[list[str]] = ["energy", "forces", "stress"]

    def calculate(
        self, atoms: ase.Atoms | None = None, properties: Any = ("energy",), system_changes: Any = all_changes
    ) -> None:
        """Energy, forces and stress at once."""
        super().calculate(atoms, properties, system_changes)
        structure: ase.Atoms = self.atoms
        n = len(structure)
        i, j, r, vectors = ase_neighbor_list("ijdD", structure, R_OFF)
        types = np.array([ELEMENTS.index(symbol) for symbol in structure.symbols])
        pair = types[i], types[j]
        f, df = switch(r)
        stretch = r / R02[pair] - 1
        repulsion = A[pair] * np.exp(-P2[pair] * stretch)
        band = XI2[pair] * np.exp(-2 * Q2[pair] * stretch)
        root = np.sqrt(np.bincount(i, weights=band * f, minlength=n))
        slope = repulsion * (df - f * P2[pair] / R02[pair])
        slope -= band * (df - 2 * f * Q2[pair] / R02[pair]) / (2 * root[i])
        pull = (slope / r)[:, None] * vectors
        forces = np.zeros((n, 3))
        np.add.at(forces, i, pull)
        np.add.at(forces, j, -pull)
        stress = np.einsum("ea,eb->ab", vectors, pull) / structure.get_volume()
        self.results = {
            "energy": float(np.sum(repulsion * f) - np.sum(root)),
            "forces": forces,
            "stress": full_3x3_to_voigt_6_stress(0.5 * (stress + stress.T)),
        }
