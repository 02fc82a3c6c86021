"""A potential that holds a crystal together: a Morse pair potential with a random network on top."""

from pathlib import Path

import ase
import ase.build
import numpy as np

from dpax.descriptor.se_atten_v2 import DescrptSeAttenV2
from dpax.infer import Potential
from dpax.model.fitting import EnergyFitting
from dpax.model.pair_table import read_pair_table
from dpax.model.potential import EnergyModel
from dpax.model.short_range import ShortRange

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
    options = {
        "neuron": [4, 8],
        "axis_neuron": 2,
        "attn": 4,
        "attn_layer": 1,
        "seed": 1,
        "precision": precision,
    }
    descriptor = DescrptSeAttenV2(RCUT, 2.0, 30, 2, type_map=["Cu", "Ag"], **options)
    descriptor.se_atten.set_statistics(np.zeros((2, 4)), np.full((2, 4), 0.1))
    fitting = EnergyFitting(2, descriptor.get_dim_out(), [8], precision=precision, seed=1)
    fitting.net.layers[-1].w = 0.1 * fitting.net.layers[-1].w[...]
    short = ShortRange(read_pair_table(table, RCUT, ["Cu", "Ag"]), sw_rmin=2.3, sw_rmax=3.8)
    return EnergyModel(descriptor, fitting, ["Cu", "Ag"], bias=np.array([-3.0, -2.0]), short_range=short)


def potential(folder: Path, precision: str = "float64") -> Potential:
    return Potential(metal(folder, precision), {"step": 1})


def crystal(times: int = 2) -> ase.Atoms:
    """4 times³ atoms, one of them silver, a little out of their places."""
    atoms = ase.build.bulk("Cu", "fcc", a=LATTICE, cubic=True).repeat(times)
    atoms.symbols[0] = "Ag"
    atoms.rattle(0.02, seed=1)
    return atoms
