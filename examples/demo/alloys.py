"""Labelled data for the demonstration: Cu-Ag-Au alloys from molecular dynamics."""

from pathlib import Path

import numpy as np
from ase import Atoms, units
from ase.build import bulk
from ase.calculators.singlepoint import SinglePointCalculator
from ase.io import write
from ase.md.langevin import Langevin
from gupta import ELEMENTS, Gupta

LATTICE = {"Cu": 3.615, "Ag": 4.085, "Au": 4.078}
"""Lattice constants, Å."""

# Fractions of Cu, Ag and Au, and a temperature in K. Test compositions are not in the training data.
TRAINING = [
    ((1.0, 0.0, 0.0), 600),
    ((0.0, 1.0, 0.0), 600),
    ((0.0, 0.0, 1.0), 600),
    ((0.5, 0.5, 0.0), 300),
    ((0.5, 0.0, 0.5), 900),
    ((0.0, 0.5, 0.5), 600),
    ((0.34, 0.33, 0.33), 300),
    ((0.34, 0.33, 0.33), 900),
    ((0.6, 0.2, 0.2), 600),
    ((0.2, 0.6, 0.2), 900),
    ((0.2, 0.2, 0.6), 600),
    ((0.75, 0.25, 0.0), 900),
    ((0.25, 0.0, 0.75), 600),
    ((0.0, 0.75, 0.25), 300),
    ((0.4, 0.4, 0.2), 900),
    ((0.2, 0.4, 0.4), 600),
]
VALIDATION = [((0.45, 0.1, 0.45), 600), ((0.1, 0.3, 0.6), 900), ((0.6, 0.4, 0.0), 600)]
TEST = [((0.3, 0.2, 0.5), 700), ((0.5, 0.3, 0.2), 500)]


def random_alloy(fractions: tuple[float, ...], repeat: int, rng: np.random.Generator) -> Atoms:
    """A slightly strained fcc crystal with the elements on random sites."""
    counts = np.rint(4 * repeat**3 * np.array(fractions)).astype(int)
    counts[np.argmax(counts)] += 4 * repeat**3 - counts.sum()
    symbols = np.repeat(ELEMENTS, counts)
    constant = sum(f * LATTICE[e] for f, e in zip(fractions, ELEMENTS, strict=True))
    atoms = bulk("Cu", "fcc", a=constant, cubic=True).repeat(repeat)
    atoms.set_chemical_symbols(list(rng.permutation(symbols)))
    strain = np.eye(3) + rng.uniform(-0.02, 0.02, (3, 3))
    atoms.set_cell(atoms.cell @ strain, scale_atoms=True)
    return atoms


def thermalize(atoms: Atoms, temperature: float, rng: np.random.Generator) -> None:
    """Draw momenta from the Maxwell-Boltzmann distribution, with zero total momentum."""
    spread = np.sqrt(units.kB * temperature * atoms.get_masses())[:, None]
    momenta = spread * rng.normal(size=(len(atoms), 3))
    atoms.set_momenta(momenta - momenta.mean(axis=0))


def trajectory(fractions: tuple[float, ...], temperature: float, frames: int, seed: int) -> list[Atoms]:
    """Frames of a Langevin run, each with energy, forces and stress."""
    rng = np.random.default_rng(seed)
    atoms = random_alloy(fractions, 2, rng)
    atoms.calc = Gupta()
    thermalize(atoms, 2 * temperature, rng)  # half of it becomes potential energy
    dynamics = Langevin(
        atoms, 4 * units.fs, temperature_K=temperature, friction=0.02 / units.fs, fixcm=False, rng=rng
    )
    sampled = []
    for _ in range(frames):
        dynamics.run(25)
        frame = Atoms(atoms.symbols, positions=atoms.positions, cell=atoms.cell, pbc=True)
        frame.calc = SinglePointCalculator(
            frame, energy=atoms.get_potential_energy(), forces=atoms.get_forces(), stress=atoms.get_stress()
        )
        sampled.append(frame)
    return sampled


def write_data(folder: Path) -> None:
    """Write train.xyz, valid.xyz and test.xyz."""
    seed = 0
    for name, runs, frames in (("train", TRAINING, 16), ("valid", VALIDATION, 8), ("test", TEST, 12)):
        images = []
        for fractions, temperature in runs:
            images += trajectory(fractions, temperature, frames, seed)
            seed += 1
        write(folder / f"{name}.xyz", images, format="extxyz")
        print(f"{folder / name}.xyz: {len(images)} frames of {len(images[0])} atoms")
