"""Phonon bands and density of states of an elemental metal, at the lattice constant predicted by the model.

python examples/phonons.py demo/run/best.dpax Cu --output phonons.png
"""

import argparse
import tempfile
from pathlib import Path

import ase
import ase.build
import numpy as np
from ase.filters import StrainFilter
from ase.optimize import BFGS
from ase.phonons import Phonons
from ase.units import invcm
from matplotlib.figure import Figure

import dpax


def main() -> None:
    """Relax the cell, displace one atom, and plot."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("model", type=Path, help="model file")
    parser.add_argument("element", help="an element whose primitive cell has one atom: Cu, Al, Fe, …")
    parser.add_argument("--supercell", type=int, default=5, help="number of copies along each lattice vector")
    parser.add_argument("--output", type=Path, default=Path("phonons.png"))
    given = parser.parse_args()
    dpax.configure()

    atoms = ase.build.bulk(given.element)
    atoms.calc = dpax.Calculator(given.model)
    BFGS(StrainFilter(atoms), logfile=None).run(fmax=1e-3, steps=100)
    nearest = atoms.cell.reciprocal().lengths().max()
    print(f"{given.element}: {atoms.get_volume():.3f} Å³ per atom, planes {1 / nearest:.3f} Å apart")

    with tempfile.TemporaryDirectory() as folder:
        name = str(Path(folder) / "phonon")
        phonons = Phonons(atoms, atoms.calc, (given.supercell,) * 3, delta=0.01, name=name)
        phonons.run()
        phonons.read(acoustic=True)
    path = atoms.cell.bandpath(npoints=120)
    bands = phonons.get_band_structure(path)
    states = phonons.get_dos(kpts=(12, 12, 12)).sample_grid(npts=200, width=3e-4)

    figure = Figure(figsize=(7.5, 3.6), layout="constrained")
    left, right = figure.subplots(1, 2, sharey=True, width_ratios=(3, 1))
    distance, ticks, labels = path.get_linear_kpoint_axis()
    frequencies = bands.energies[0] / invcm
    left.plot(distance, frequencies, color="C0")
    left.set_xticks(ticks, labels)
    left.set(xlim=(0, distance[-1]), ylabel="frequency / cm⁻¹", title=f"{given.element}, {path.path}")
    left.grid(axis="x")
    right.fill_betweenx(states.get_energies() / invcm, states.get_weights(), alpha=0.5)
    right.set(xlabel="density of states", xticks=[])
    figure.savefig(given.output, dpi=150)
    print(f"highest frequency {frequencies.max():.1f} cm⁻¹, lowest {np.min(frequencies):.1f}: {given.output}")


if __name__ == "__main__":
    main()
