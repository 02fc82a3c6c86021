"""Analyse a simulation: radial distribution functions, compared with a reference, and the energy drift.

dpax md run/best.dpax start.xyz -o nve.xyz -e nve -t 300 -n 2000
python examples/molecular_dynamics.py nve.xyz --reference demo/test.xyz --output nve.png
"""

import argparse
from itertools import combinations_with_replacement
from pathlib import Path

import ase.io
import numpy as np
from ase.neighborlist import neighbor_list
from matplotlib.figure import Figure


def radial_distributions(frames: list[ase.Atoms], reach: float, bins: int = 80):
    """Distances (Å), and g(r) for each pair of elements."""
    edges = np.linspace(0.0, reach, bins + 1)
    shells = 4 / 3 * np.pi * np.diff(edges**3)
    elements = sorted(set(frames[0].get_chemical_symbols()))
    curves = {}
    for first, second in combinations_with_replacement(elements, 2):
        counts, expected = np.zeros(bins), np.zeros(bins)
        for atoms in frames:
            symbols = np.array(atoms.get_chemical_symbols())
            i, j, distance = neighbor_list("ijd", atoms, reach)
            counts += np.histogram(distance[(symbols[i] == first) & (symbols[j] == second)], edges)[0]
            pairs = (symbols == first).sum() * ((symbols == second).sum() - (first == second))
            expected += pairs * shells / atoms.get_volume()
        curves[f"{first}–{second}"] = counts / np.maximum(expected, 1e-12)
    return (edges[1:] + edges[:-1]) / 2, curves


def drift(log: Path) -> tuple[np.ndarray, dict[str, np.ndarray]]:
    """The columns of a `dpax md` log, by name without units."""
    names = [name.split("[")[0] for name in log.read_text().splitlines()[0].strip("#").split()]
    columns = dict(zip(names, np.loadtxt(log, ndmin=2).T, strict=True))
    return columns["time"], columns


def main() -> None:
    """Read the arguments, analyse and plot."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("trajectory", type=Path, help="trajectory from `dpax md`, next to its log")
    parser.add_argument("--reference", type=Path, help="structures to compare with, e.g. the training data")
    parser.add_argument("--skip", type=int, default=0, help="number of frames to skip at the beginning")
    parser.add_argument("--reach", type=float, default=6.0, help="largest distance, Å")
    parser.add_argument("--output", type=Path, default=Path("simulation.png"))
    given = parser.parse_args()

    frames = ase.io.read(given.trajectory, index=slice(given.skip, None))
    time, columns = drift(given.trajectory.with_suffix(".log"))
    figure = Figure(figsize=(9.0, 3.6), layout="constrained")
    left, right = figure.subplots(1, 2)

    distance, curves = radial_distributions(frames, given.reach)
    lines = {name: left.plot(distance, curve, label=name)[0] for name, curve in curves.items()}
    if given.reference is not None:
        for name, curve in radial_distributions(ase.io.read(given.reference, index=":"), given.reach)[
            1
        ].items():
            color = lines[name].get_color() if name in lines else "0.7"
            left.plot(distance, curve, linestyle=":", color=color)
    left.set(xlabel="distance / Å", ylabel="g(r)", title="simulation —, reference ···")
    left.legend(frameon=False)

    energy = columns.get("conserved", columns["total"]) / len(frames[0])
    slope = np.polyfit(time / 1000, energy, 1)[0] if len(time) > 1 else 0.0
    print(f"mean temperature {columns['temperature'].mean():.1f} K, drift {slope:.2e} eV/atom/ps")
    right.plot(time, 1000 * (energy - energy[0]))
    right.set(xlabel="time / fs", ylabel="conserved energy / meV per atom", title=f"{slope:.1e} eV/atom/ps")
    figure.savefig(given.output, dpi=150)


if __name__ == "__main__":
    main()
