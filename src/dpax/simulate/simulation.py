"""A simulation at some step: the atoms, the integrator, and what goes into a checkpoint."""

from collections.abc import Mapping
from pathlib import Path

import ase
import numpy as np
from ase import units

from dpax.errors import InputError
from dpax.infer import Potential
from dpax.interfaces.ase import Calculator
from dpax.simulate.checkpoint import Checkpoint
from dpax.simulate.guard import Guard
from dpax.simulate.integrator import Integrator, draw_velocities
from dpax.simulate.settings import MDSettings, check_unchanged
from dpax.simulate.thermo import Thermo

_SAME_ENERGY = 1e-4
"""eV/atom: two models differ by more, the same model on two machines by less."""

Marks = Mapping[str, int | None]
"""Where trajectory and log end; None where nothing has been written."""


class Simulation:
    """A simulation at some step.

    Args:
        potential: computes the forces.
        settings: of the simulation.
        atoms: the structure, with the calculator of the potential.
        rng: random numbers of the integrator.
        integrator: of the atoms.
        done: steps that are done.
        start: how the simulation began; None if it begins now.
    """

    def __init__(
        self,
        potential: Potential,
        settings: MDSettings,
        atoms: ase.Atoms,
        rng: np.random.Generator,
        integrator: Integrator,
        done: int = 0,
        start: Thermo | None = None,
    ):
        self.settings, self.atoms, self.done = settings, atoms, done
        self._potential, self._rng, self._integrator = potential, rng, integrator
        self.start = self.thermo() if start is None else start
        self._guard = Guard(settings, potential.provenance, self.start.temperature)

    def step(self) -> None:
        """Take a step.

        Raises:
            InputError: the simulation has blown up.
        """
        try:
            # What overflows here is what the guard is for.
            with np.errstate(all="ignore"):
                self._integrator.step(self.done)
        except (InputError, np.linalg.LinAlgError) as error:
            raise self._blown_up(str(error)) from None
        self.done += 1
        self.check()

    def check(self) -> None:
        """Check that the atoms still behave like atoms.

        Raises:
            InputError: they do not.
        """
        complaint = self._guard.complaint(self.atoms, self.done)
        if complaint is not None:
            raise self._blown_up(complaint)

    def _blown_up(self, complaint: str) -> InputError:
        if self.done == 0:
            return InputError(f"the structure is not one to start a simulation from: {complaint}")
        return InputError(
            f"the simulation blew up at step {self.done}: {complaint}. Try a smaller --time-step, a start "
            "that `dpax relax` has relaxed, or a model trained on structures like these"
        )

    def thermo(self) -> Thermo:
        """What is logged of this step."""
        atoms, inside = self.atoms, self.atoms.pbc.all()
        potential = float(atoms.get_potential_energy())
        stress = atoms.get_stress(voigt=False, include_ideal_gas=True) if inside else None
        return Thermo(
            step=self.done,
            time=self.done * self.settings.time_step,
            temperature=float(atoms.get_temperature()),
            potential=potential,
            total=potential + float(atoms.get_kinetic_energy()),
            conserved=self._integrator.conserved(),
            pressure=None if stress is None else float(-np.trace(stress) / 3 / units.bar),
            volume=float(atoms.get_volume()) if inside else None,
        )

    def drift(self, thermo: Thermo) -> float | None:
        """Of the conserved quantity since the beginning, eV/atom; None if nothing is conserved."""
        if thermo.conserved is None or self.start.conserved is None:
            return None
        return (thermo.conserved - self.start.conserved) / len(self.atoms)

    def checkpoint(self, suffix: str, overwrite: bool, marks: Marks) -> Checkpoint:
        """All that a restart needs.

        Args:
            suffix: of the trajectory.
            overwrite: whether the simulation may replace files.
            marks: where its files end.
        """
        atoms = self.atoms
        arrays = {
            "numbers": atoms.numbers,
            "positions": atoms.positions,
            "momenta": atoms.get_momenta(),
            "cell": atoms.cell.array,
        }
        facts = {
            "step": self.done,
            "energy": float(atoms.get_potential_energy()),
            "start": vars(self.start),
            "settings": self.settings.physics(),
            "rng": self._rng.bit_generator.state,
            "capacities": self._potential.capacities,
            "suffix": suffix,
            "overwrite": overwrite,
            "marks": dict(marks),
        }
        return Checkpoint(arrays | self._integrator.state(), facts)


def new_simulation(potential: Potential, structure: ase.Atoms, settings: MDSettings) -> Simulation:
    """A simulation that begins at a structure, which is not changed.

    Raises:
        InputError: it is not one to start from, or has no velocities although they are to be kept.
    """
    atoms, rng = _ready(potential, structure), np.random.default_rng(settings.seed)
    if not settings.keep_velocities:
        draw_velocities(atoms, settings.first_temperature, rng)
    elif not atoms.has("momenta"):
        raise InputError("--keep-velocities: the structure has none; leave it out to draw random ones")
    simulation = Simulation(potential, settings, atoms, rng, Integrator(atoms, settings, rng))
    simulation.check()
    return simulation


def resumed_simulation(
    potential: Potential, structure: ase.Atoms, settings: MDSettings, checkpoint: Checkpoint, path: Path
) -> Simulation:
    """A simulation where its checkpoint was written.

    Args:
        potential: that it began with.
        structure: that it began with; elements, masses and constraints are taken from it.
        settings: of the simulation.
        checkpoint: of the simulation.
        path: of the checkpoint, for messages.

    Raises:
        InputError: another structure or model, or settings that would make another simulation.
    """
    atoms, rng = _ready(potential, structure), np.random.default_rng()
    arrays, facts = dict(checkpoint.arrays), checkpoint.facts
    if arrays.pop("numbers").tolist() != atoms.numbers.tolist():
        raise InputError(
            f"{path}: was written for other atoms than those of the structure; give the structure (--index, "
            "--supercell) that the simulation began with"
        )
    check_unchanged(facts["settings"], settings)
    potential.capacities = facts["capacities"]
    atoms.set_cell(arrays.pop("cell"))
    atoms.set_positions(arrays.pop("positions"), apply_constraint=False)
    atoms.set_momenta(arrays.pop("momenta"), apply_constraint=False)
    integrator = Integrator(atoms, settings, rng)
    integrator.restore(arrays)
    rng.bit_generator.state = facts["rng"]
    start = Thermo(**facts["start"])
    simulation = Simulation(potential, settings, atoms, rng, integrator, facts["step"], start)
    change = abs(atoms.get_potential_energy() - facts["energy"]) / len(atoms)
    if not change < _SAME_ENERGY:
        raise InputError(
            f"{path}: the model's energy is {change:.2g} eV/atom away from the one that it holds; give the "
            "model that the simulation began with"
        )
    return simulation


def _ready(potential: Potential, structure: ase.Atoms) -> ase.Atoms:
    atoms = structure.copy()
    atoms.calc = Calculator(potential)
    return atoms
