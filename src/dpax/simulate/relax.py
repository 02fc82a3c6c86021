"""Positions, and perhaps the cell, of least energy, by ASE's optimizers."""

import math
import warnings
from collections.abc import Callable
from dataclasses import dataclass

import ase
import ase.optimize
import numpy as np
from ase import units
from ase.filters import FrechetCellFilter

from dpax.errors import InputError
from dpax.infer import Potential
from dpax.interfaces.ase import Calculator
from dpax.simulate.settings import OptimizerName


@dataclass(frozen=True)
class Relaxed:
    """The end of a relaxation."""

    atoms: ase.Atoms
    """With a calculator that knows energy and forces."""
    steps: int
    """Steps of the optimizer."""
    converged: bool
    """Whether `fmax` was reached."""
    fmax: float
    """The largest force, and with the cell the largest of the stress's shares of it, eV/Å."""


def relax(
    potential: Potential,
    atoms: ase.Atoms,
    *,
    cell: bool = False,
    pressure: float = 0.0,
    fmax: float = 0.01,
    steps: int = 1000,
    optimizer: OptimizerName = "BFGS",
    report: Callable[[int, float, float], None] | None = None,
) -> Relaxed:
    """Move atoms downhill until no force is larger than `fmax`.

    Args:
        potential: computes the forces.
        atoms: the structure; not changed. Its constraints are honoured.
        cell: relax the cell too, with ASE's `FrechetCellFilter`.
        pressure: Pressure to which the cell is relaxed, bar.
        fmax: eV/Å.
        steps: after which to give up.
        optimizer: one of ASE's.
        report: called with the step, the energy (eV) and the largest force (eV/Å).

    Raises:
        InputError: a number that makes no sense, an element that the potential does not know, a cell that
            cannot be relaxed, or atoms that ran into each other.
    """
    if not 0 < fmax < math.inf:
        raise InputError(f"--fmax: should be positive and finite, got {fmax}")
    if steps < 0:
        raise InputError(f"--steps: should not be negative, got {steps}")
    if not math.isfinite(pressure):
        raise InputError(f"--pressure: should be finite, got {pressure}")
    if cell and not atoms.pbc.all():
        raise InputError(
            "--cell: the structure is not periodic in all three directions; leave the option out"
        )
    if pressure and not cell:
        raise InputError("--pressure: only acts on a cell that is relaxed too; add --cell")
    moved = atoms.copy()
    moved.calc = Calculator(potential)
    target = FrechetCellFilter(moved, scalar_pressure=pressure * units.bar) if cell else moved
    driver = getattr(ase.optimize, optimizer)(target, logfile=None)

    def largest() -> float:
        return float(np.linalg.norm(target.get_forces(), axis=1).max())

    if report is not None:
        tell = report
        driver.attach(lambda: tell(driver.nsteps, float(moved.get_potential_energy()), largest()))
    with warnings.catch_warnings():
        # Of SciPy, about the thirteenth digit of the cell's logarithm.
        warnings.filterwarnings("ignore", message="logm result may be inaccurate")
        converged = bool(driver.run(fmax=fmax, steps=steps))
    return Relaxed(moved, driver.nsteps, converged, largest())
