"""Steps of `dpax md` in a second beside bare evaluations of energy, forces and virial in a second.

    python benchmarks/md_speed.py MODEL STRUCTURE [--repeat 1 2] [--steps 200] [--rounds 3]

The two take turns. A bare evaluation is the compiled program alone, on arrays that are at hand: no neighbour
list, no integrator, no output. The simulation (NVE, 0.5 fs, from 300 K) writes a frame and a line every 100
steps.
"""

import argparse
import statistics
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

import ase
import jax

import dpax
from dpax.data import frame_from_atoms
from dpax.infer import Potential
from dpax.simulate.md import molecular_dynamics
from dpax.simulate.settings import MDSettings
from dpax.simulate.structure import read_structure


def bare(potential: Potential, atoms: ase.Atoms) -> Callable[[], object]:
    """The compiled program of energy, forces and virial."""
    (prepared,) = potential.preparation.prepare([frame_from_atoms(atoms, potential.type_map)])

    def evaluate() -> object:
        return jax.block_until_ready(potential.computation.predict(prepared.neighborhoods, n_frames=1))

    return evaluate


def per_second(work: Callable[[], object], times: int) -> float:
    """How often in a second, where one call counts for several times."""
    start = time.perf_counter()
    work()
    return times / (time.perf_counter() - start)


def main() -> None:
    """Print a line for each size."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("model", type=Path)
    parser.add_argument("structure", type=Path)
    parser.add_argument("--repeat", type=int, nargs="+", default=[1, 2], help="along all three directions")
    parser.add_argument("--steps", type=int, default=200)
    parser.add_argument("--rounds", type=int, default=3)
    given = parser.parse_args()
    dpax.configure()
    potential = dpax.load(given.model)
    for times in given.repeat:
        atoms = read_structure(given.structure).repeat(times)
        evaluate = bare(potential, atoms)
        evaluate()

        def simulate(steps: int, atoms: ase.Atoms = atoms) -> None:
            settings = MDSettings(steps=steps, temperature=(300.0, 300.0), time_step=0.5, every=100)
            with tempfile.TemporaryDirectory() as folder:
                molecular_dynamics(potential, atoms.copy(), settings, Path(folder) / "water.xyz")

        def evaluations(evaluate: Callable[[], object] = evaluate) -> None:
            for _ in range(given.steps):
                evaluate()

        simulate(2)
        rounds = [
            (per_second(evaluations, given.steps), per_second(lambda: simulate(given.steps), given.steps))
            for _ in range(given.rounds)
        ]
        alone, steps = (statistics.median(rates) for rates in zip(*rounds, strict=True))
        ratio = statistics.median(two / one for one, two in rounds)
        print(f"{len(atoms)} atoms: {alone:.2f} evaluations/s, {steps:.2f} steps/s, ratio {ratio:.3f}")


if __name__ == "__main__":
    main()
