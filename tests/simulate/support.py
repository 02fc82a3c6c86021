"""A potential that holds a crystal together: a Morse pair potential with a random network on top."""

from pathlib import Path

import ase
import ase.build
import numpy as np

from dpax.infer import Potential
from dpax.model.energy_model import EnergyModel, initial_model
from dpax.model.pair_table import read_pair_table
from dpax.model.short_range import ShortRange
from model.support import tiny_descriptor, tiny_spec

RCUT = 4.0
LATTICE = 3.51
"""Å, of an fcc crystal near its minimum."""


def metal(folder: Path, precision: str = "float64") -> EnergyModel:
    """A model of Cu and Ag.

    Args:
        folder: for the file of the pair potential.
        precision: of both nets.
    """
    distance = np.linspace(0.05, 3.9, 400)
    stretch = np.exp(-1.6 * (distance - 2.55))
    morse = 0.35 * (stretch**2 - 2 * stretch) * np.clip((3.9 - distance) / 1.2, 0, 1) ** 2
    table = folder / "morse.txt"
    np.savetxt(table, np.column_stack([distance] + [morse] * 3))
    descriptor = tiny_descriptor(
        2,
        ("Cu", "Ag"),
        rcut=RCUT,
        rcut_smth=2.0,
        sel=30,
        neuron=[4, 8],
        axis_neuron=2,
        tebd_dim=8,
        attn=4,
        attn_layer=1,
        precision=precision,
    )
    short = ShortRange(table=read_pair_table(table, RCUT, ["Cu", "Ag"]), sw_rmin=2.3, sw_rmax=3.8)
    model = initial_model(tiny_spec(descriptor, (8,), short_range=short), seed=1)
    arrays = {"fitting/1/w": 0.1 * model.arrays["fitting/1/w"]}
    arrays["descriptor/stddev"] = np.full_like(model.arrays["descriptor/stddev"], 0.1)
    return model.with_arrays(arrays).with_bias([-3.0, -2.0])


def potential(folder: Path, precision: str = "float64") -> Potential:
    return Potential(metal(folder, precision), {"step": 1})


def crystal(times: int = 2) -> ase.Atoms:
    """4 times³ atoms, one of them silver, a little out of their places."""
    atoms = ase.build.bulk("Cu", "fcc", a=LATTICE, cubic=True).repeat(times)
    atoms.symbols[0] = "Ag"
    atoms.rattle(0.02, seed=1)
    return atoms
