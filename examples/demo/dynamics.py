"""Molecular dynamics with a trained model: how well is the energy conserved?"""

from pathlib import Path

import numpy as np
from alloys import random_alloy, thermalize
from ase import units
from ase.md.verlet import VelocityVerlet

import dpax

STEPS, EVERY, TIME_STEP = 500, 5, 2.0
"""Number of steps, steps between samples, and time step in fs."""


def nve(model: Path) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """An NVE run of a crystal that is larger than any in the data.

    Returns:
        Time [samples] in fs, potential energy and total energy [samples] in eV/atom.
    """
    rng = np.random.default_rng(7)
    atoms = random_alloy((0.34, 0.33, 0.33), 3, rng)
    atoms.calc = dpax.Calculator(model)
    thermalize(atoms, 600, rng)
    dynamics = VelocityVerlet(atoms, TIME_STEP * units.fs)
    samples = []
    for sample in range(STEPS // EVERY + 1):
        if sample:
            dynamics.run(EVERY)
        energies = np.array([atoms.get_potential_energy(), atoms.get_total_energy()]) / len(atoms)
        samples.append((sample * EVERY * TIME_STEP, *energies))
    time, potential, total = np.array(samples).T
    return time, potential, total


def drift(time: np.ndarray, total: np.ndarray) -> float:
    """Slope of the total energy, meV/atom per ps."""
    return float(1e6 * np.polyfit(time, total, 1)[0])
