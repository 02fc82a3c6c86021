"""ASE's integrators of the ensembles, with the numbers that one of them needs to go on where it stopped."""

from typing import Any

import ase
import numpy as np
from ase import units
from ase.md.langevin import Langevin
from ase.md.md import MolecularDynamics
from ase.md.nose_hoover_chain import MTKNPT, IsotropicMTKNPT, NoseHooverChainNVT
from ase.md.velocitydistribution import Stationary, ZeroRotation, force_temperature
from ase.md.verlet import VelocityVerlet

from dpax.errors import InputError
from dpax.simulate.settings import MDSettings


class Integrator:
    """One of ASE's integrators.

    Args:
        atoms: the structure, with a calculator; moved by `step`.
        settings: of the simulation.
        rng: for Langevin's random forces.

    Raises:
        InputError: a structure that the ensemble does not allow.
    """

    def __init__(self, atoms: ase.Atoms, settings: MDSettings, rng: np.random.Generator):
        _check(atoms, settings)
        self._settings = settings
        self._dynamics: Any = _dynamics(atoms, settings, rng)
        self._work = 0.0

    def step(self, step: int) -> None:
        """Move the atoms from a step to the next.

        Args:
            step: the number of the step before.
        """
        if self._settings.is_ramp:
            self._set_temperature(self._settings.target(step + 1))
        self._dynamics.step()

    def conserved(self) -> float | None:
        """The energy (eV) that is conserved up to integration errors; None: Langevin has none.

        Along a ramp, what the change of the thermostat's temperature adds is taken off.
        """
        if isinstance(self._dynamics, VelocityVerlet):
            return float(self._dynamics.atoms.get_total_energy())
        if isinstance(self._dynamics, Langevin):
            return None
        return self._dynamics.get_conserved_energy() - self._work

    def _set_temperature(self, kelvin: float) -> None:
        if isinstance(self._dynamics, Langevin):
            self._dynamics.set_temperature(temperature_K=kelvin)
            return
        before = self._dynamics.get_conserved_energy()
        for part in self._parts().values():
            if hasattr(part, "_kT"):
                part._kT = units.kB * kelvin
        self._work += self._dynamics.get_conserved_energy() - before

    def _parts(self) -> dict[str, Any]:
        """What has a state: the integrator itself, and thermostat and barostat where it has them."""
        parts = {name: getattr(self._dynamics, name, None) for name in ("_thermostat", "_barostat")}
        return {"": self._dynamics} | {name: part for name, part in parts.items() if part is not None}

    def state(self) -> dict[str, np.ndarray]:
        """Every private number of ASE's objects; positions and momenta of the atoms are not all of it."""
        numbers = {
            f"{part}.{name}": np.array(value)
            for part, owner in self._parts().items()
            for name, value in vars(owner).items()
            if name.startswith("_") and isinstance(value, (float, np.ndarray))
        }
        return numbers | {"work": np.array(self._work)}

    def restore(self, state: dict[str, np.ndarray]) -> None:
        """Go on from where `state` was taken.

        Raises:
            InputError: the state is that of another integrator, or of another version of ASE.
        """
        expected = self.state()
        if state.keys() != expected.keys():
            raise InputError(
                "--restart: the checkpoint was written with another version of ASE, whose integrators have "
                f"other variables ({', '.join(sorted(state.keys() ^ expected.keys()))})"
            )
        changed = [key for key, value in state.items() if value.shape != expected[key].shape]
        if changed:
            actual, needed = (numbers[changed[0]].shape for numbers in (state, expected))
            raise InputError(
                f"--restart: the checkpoint's {changed[0]} has shape {actual}; the integrator's has {needed}"
            )
        parts = self._parts()
        for key, value in state.items():
            owner, _, name = key.rpartition(".")
            if key == "work":
                self._work = float(value)
            else:
                setattr(parts[owner], name, value.copy() if value.ndim else float(value))


def draw_velocities(atoms: ase.Atoms, kelvin: float, rng: np.random.Generator) -> None:
    """Give the atoms random velocities of exactly this temperature.

    Without total momentum, and in a molecule without angular momentum; with constraints both are left as
    they come.
    """
    deviation = np.sqrt(atoms.get_masses() * units.kB * kelvin)
    atoms.set_momenta(deviation[:, None] * rng.standard_normal((len(atoms), 3)))
    if len(atoms) > 1 and not atoms.constraints:
        Stationary(atoms)
        if len(atoms) > 2 and not atoms.pbc.any():
            ZeroRotation(atoms)
    if atoms.get_kinetic_energy() > 0:
        force_temperature(atoms, kelvin)


def _check(atoms: ase.Atoms, settings: MDSettings) -> None:
    chains = settings.ensemble == "npt" or (settings.ensemble == "nvt" and settings.thermostat != "langevin")
    if chains and atoms.constraints:
        raise InputError(
            f"the structure has constraints ({type(atoms.constraints[0]).__name__}), which ASE's Nosé–Hoover "
            "chains do not honour; use --thermostat langevin or NVE, or remove them"
        )
    if settings.ensemble == "npt" and not (atoms.pbc.all() and atoms.cell.volume > 0):
        periodic = " ".join("T" if periodic else "F" for periodic in atoms.pbc)
        raise InputError(
            "NPT needs a cell that is periodic in all three directions; the structure has pbc "
            f"{periodic} and lattice vectors {atoms.cell.array.tolist()}"
        )


def _dynamics(atoms: ase.Atoms, settings: MDSettings, rng: np.random.Generator) -> MolecularDynamics:
    step, period = settings.time_step * units.fs, settings.thermostat_time * units.fs
    if settings.ensemble == "nve":
        return VelocityVerlet(atoms, step)
    kelvin = settings.first_temperature
    if settings.ensemble == "nvt" and settings.thermostat == "langevin":
        return Langevin(atoms, step, temperature_K=kelvin, friction=1 / period, fixcm=False, rng=rng)
    if settings.ensemble == "nvt":
        return NoseHooverChainNVT(atoms, step, temperature_K=kelvin, tdamp=period)
    barostat = MTKNPT if settings.cell_motion == "full" else IsotropicMTKNPT
    return barostat(
        atoms,
        step,
        temperature_K=kelvin,
        pressure_au=settings.pressure * units.bar,
        tdamp=period,
        pdamp=settings.barostat_time * units.fs,
    )
