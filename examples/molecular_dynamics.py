"""Molecular dynamics with a trained model and ASE: Langevin at a temperature, or NVE without one.

    python examples/molecular_dynamics.py run/best.dpax start.xyz --temperature 300 --steps 1000

Appends to a trajectory and prints energies and temperature as it goes.
"""

import argparse
from pathlib import Path

import ase.io
import numpy as np
from ase import units
from ase.md.langevin import Langevin
from ase.md.verlet import VelocityVerlet

import dpax


def make_dynamics(atoms: ase.Atoms, temperature: float | None, time_step: float, seed: int):
    """The integrator; temperature in K, time step in fs."""
    if temperature is None:
        return VelocityVerlet(atoms, time_step * units.fs)
    rng = np.random.default_rng(seed)
    friction = 0.01 / units.fs
    return Langevin(
        atoms, time_step * units.fs, temperature_K=temperature, friction=friction, fixcm=False, rng=rng
    )


def main() -> None:
    """Read the arguments and run."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("model", type=Path, help="model file (.dpax)")
    parser.add_argument("structure", type=Path, help="any file that ASE reads; its last frame is taken")
    parser.add_argument("--temperature", type=float, help="K; without it the energy is conserved")
    parser.add_argument("--time-step", type=float, default=1.0, help="fs")
    parser.add_argument("--steps", type=int, default=1000)
    parser.add_argument("--every", type=int, default=10, help="steps between two frames of the trajectory")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--output", type=Path, default=Path("trajectory.xyz"))
    given = parser.parse_args()

    dpax.configure()  # all cores, and what was compiled before
    atoms = ase.io.read(given.structure, index=-1)
    atoms.calc = dpax.Calculator(given.model)
    dynamics = make_dynamics(atoms, given.temperature, given.time_step, given.seed)

    def report() -> None:
        potential, total = atoms.get_potential_energy() / len(atoms), atoms.get_total_energy() / len(atoms)
        print(
            f"{dynamics.get_time() / units.fs:10.1f} fs  {atoms.get_temperature():7.1f} K  "
            f"potential {potential:12.6f}  total {total:12.6f} eV/atom",
            flush=True,
        )
        ase.io.write(given.output, atoms, format="extxyz", append=True)

    dynamics.attach(report, interval=given.every)
    dynamics.run(given.steps)


if __name__ == "__main__":
    main()
