"""A run of molecular dynamics: what surrounds the integrator's step."""

import signal
import time
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

import ase
import numpy as np
from ase import units

from dpax.errors import InputError, MachineError
from dpax.faults import last_checkpoint, naming_checkpoint
from dpax.files import remove_temporaries
from dpax.infer import Potential
from dpax.interfaces.ase import Calculator
from dpax.interrupt import Interrupt, listening
from dpax.lock import locked
from dpax.simulate.checkpoint import Checkpoint
from dpax.simulate.files import MDFiles
from dpax.simulate.guard import Guard
from dpax.simulate.integrator import Integrator, draw_velocities
from dpax.simulate.output import ThermoLog, open_trajectory, snapshot
from dpax.simulate.settings import MDSettings, check_unchanged
from dpax.simulate.thermo import Thermo

_SAME_ENERGY = 1e-4
"""eV/atom: two models differ by more, the same model on two machines by less."""


@dataclass(frozen=True)
class MDResult:
    """How a simulation ended."""

    step: int
    """The last one done."""
    signal: int | None
    """What stopped it before its end, if anything did."""


class Reporter(Protocol):
    """Is told of a simulation's progress."""

    def start(self, settings: MDSettings, first_step: int, text: str) -> None:
        """It begins, or goes on, after `first_step` steps; the text says of what."""
        ...

    def tick(self, step: int) -> None:
        """A step is done."""
        ...

    def line(self, thermo: Thermo, drift: float | None, ns_per_day: float | None) -> None:
        """A line was logged; drift of the conserved quantity since the beginning, eV/atom."""
        ...

    def finish(self, text: str = "") -> None:
        """It is over, for whatever reason."""
        ...


class Silent:
    """A reporter that says nothing."""

    def start(self, settings: MDSettings, first_step: int, text: str) -> None:
        """Nothing."""

    def tick(self, step: int) -> None:
        """Nothing."""

    def line(self, thermo: Thermo, drift: float | None, ns_per_day: float | None) -> None:
        """Nothing."""

    def finish(self, text: str = "") -> None:
        """Nothing."""


def molecular_dynamics(
    potential: Potential,
    atoms: ase.Atoms,
    settings: MDSettings,
    output: Path,
    *,
    restart: bool = False,
    overwrite: bool = False,
    reporter: Reporter | None = None,
) -> MDResult:
    """Simulate, and write trajectory, log and checkpoints.

    A restarted simulation goes on as it would have gone on, bit for bit on the same machine. One that was
    killed loses the steps since its last checkpoint, and nothing of them stays in its files. SIGINT, SIGTERM
    and SIGHUP end it after a checkpoint. While it runs, its files are locked.

    Args:
        potential: computes the forces.
        atoms: the structure at the beginning; not changed. A restart takes elements, masses and constraints
            from it.
        settings: of the simulation.
        output: the trajectory, `.xyz`, `.extxyz` or `.traj`; log and checkpoint have its name and end in
            `.log` and `.checkpoint`.
        restart: go on from the checkpoint; from the beginning, if it ended before it had written one.
        overwrite: replace files that are there.
        reporter: is told of the progress.

    Raises:
        InputError: a structure or settings that do not fit each other or the potential, files that are there
            already or in use, a checkpoint of another simulation, or a simulation that blew up.
    """
    files = MDFiles(output)
    files.check_place()
    advice = "wait until it has ended, or stop it; another simulation needs another --output"
    with locked(files.lock, f"{output} with its log and checkpoint", advice):
        checkpoint = _checkpoint_of(files) if restart else None
        if not (restart or overwrite):
            files.check_new()
        remove_temporaries(output.absolute().parent, [path.name for path in files.paths])
        simulation = _Simulation(potential, atoms, settings, files, reporter or Silent())
        simulation.begin(overwrite) if checkpoint is None else simulation.resume(checkpoint)
        return simulation.run()


def _checkpoint_of(files: MDFiles) -> Checkpoint | None:
    """What a restart goes on from; None if there is no more than a beginning.

    Raises:
        InputError: there is neither, or the files of the checkpoint are in another format.
    """
    if not files.checkpoint.exists() and files.begun:
        return None
    checkpoint = Checkpoint.read(files.checkpoint)
    suffix = checkpoint.facts.get("suffix", files.trajectory.suffix)
    if suffix != files.trajectory.suffix:
        raise InputError(
            f"{files.checkpoint}: belongs to a trajectory that ends in {suffix}, not to {files.trajectory}"
        )
    return checkpoint


class _Simulation:
    def __init__(
        self, potential: Potential, atoms: ase.Atoms, settings: MDSettings, files: MDFiles, reporter: Reporter
    ):
        self.potential = potential
        self.settings = settings
        self.files = files
        self.reporter = reporter
        self.atoms = atoms.copy()
        self.atoms.calc = Calculator(potential)
        self.rng = np.random.default_rng(settings.seed)
        self.done = self.saved = 0
        self.marks: dict[str, int | None] = {"trajectory": None, "log": None}
        self.overwrite = False

    def begin(self, overwrite: bool) -> None:
        """At the structure that was given.

        A checkpoint is the first thing that is written: whatever ends the simulation after it, a restart
        knows where it began and what may be replaced.
        """
        if not self.settings.keep_velocities:
            draw_velocities(self.atoms, self.settings.first_temperature, self.rng)
        elif not self.atoms.has("momenta"):
            raise InputError("--keep-velocities: the structure has none; leave it out to draw random ones")
        self.integrator = Integrator(self.atoms, self.settings, self.rng)
        self.start = self._thermo()
        self.guard = Guard(self.settings, self.potential.provenance, self.start.temperature)
        self._check()
        self.overwrite = overwrite
        self._save()

    def resume(self, checkpoint: Checkpoint) -> None:
        """Where the checkpoint was written."""
        arrays, facts = dict(checkpoint.arrays), checkpoint.facts
        if arrays.pop("numbers").tolist() != self.atoms.numbers.tolist():
            raise InputError(
                f"{self.files.checkpoint}: was written for other atoms than those of the structure; give the "
                "structure (--index, --supercell) that the simulation began with"
            )
        check_unchanged(facts["settings"], self.settings)
        self.potential.capacities = facts["capacities"]
        self.atoms.set_cell(arrays.pop("cell"))
        self.atoms.set_positions(arrays.pop("positions"), apply_constraint=False)
        self.atoms.set_momenta(arrays.pop("momenta"), apply_constraint=False)
        self.integrator = Integrator(self.atoms, self.settings, self.rng)
        self.integrator.restore(arrays)
        self.rng.bit_generator.state = facts["rng"]
        self.done = self.saved = facts["step"]
        self.start = Thermo(**facts["start"])
        self.guard = Guard(self.settings, self.potential.provenance, self.start.temperature)
        self.marks = facts["marks"]
        self.overwrite = facts.get("overwrite", False)
        self._check_beginning()
        change = abs(self.atoms.get_potential_energy() - facts["energy"]) / len(self.atoms)
        if not change < _SAME_ENERGY:
            raise InputError(
                f"{self.files.checkpoint}: the model's energy is {change:.2g} eV/atom away from the one that "
                "it holds; give the model that the simulation began with"
            )

    def _check_beginning(self) -> None:
        """Before anything else was written than a checkpoint, trajectory and log were not there."""
        files, new = self.files, self.marks["log"] is None
        there = files.trajectory.exists() or files.log.exists()
        if new and there and not (self.overwrite or files.begun):
            raise InputError(
                f"{files.checkpoint}: the simulation had not written anything yet, and {files.trajectory} or "
                f"{files.log} is not of its making; move it away, or replace it with --overwrite"
            )

    def run(self) -> MDResult:
        """To the end, or until interrupted."""
        settings, new = self.settings, self.marks["log"] is None
        with ExitStack() as stack:
            interrupt = stack.enter_context(listening())
            self.trajectory = open_trajectory(self.files.trajectory, self.marks["trajectory"])
            stack.callback(self.trajectory.close)
            self.log = ThermoLog(self.files.log, self.marks["log"], ["step", *self.start.columns()])
            stack.callback(self.log.close)
            stack.callback(self.reporter.finish)
            text = f"{len(self.atoms)} atoms ({self.atoms.symbols}), {settings.ensemble.upper()}"
            self.reporter.start(settings, self.done, text)
            with naming_checkpoint(self._last_checkpoint, MachineError):
                if new:
                    self._write(self.start)
                    self._save_with_marks()
                self._steps(interrupt)
                if self.saved < self.done:
                    self._save_with_marks()
            stopped = interrupt.signal if self.done < settings.steps else None
            self.reporter.finish(self._last_words(stopped))
            return MDResult(self.done, stopped)

    def _last_checkpoint(self) -> int | None:
        return self.saved if self.files.checkpoint.exists() else None

    def _steps(self, interrupt: Interrupt) -> None:
        clock = _Clock(self.settings.time_step)
        while self.done < self.settings.steps and interrupt.signal is None:
            self._step()
            clock.tick()
            self.reporter.tick(self.done)
            logged = self.done % self.settings.log_every == 0
            thermo = self._thermo() if logged else None
            if thermo is not None:
                self.reporter.line(thermo, self._drift(thermo), clock.ns_per_day())
            self._write(thermo)
            if self.done % self.settings.checkpoint_every == 0:
                self._save_with_marks()

    def _step(self) -> None:
        try:
            # What overflows here is what the checks below are for.
            with np.errstate(all="ignore"):
                self.integrator.step(self.done)
        except (InputError, np.linalg.LinAlgError) as error:
            raise self._blown_up(str(error)) from None
        self.done += 1
        self._check()

    def _check(self) -> None:
        complaint = self.guard.complaint(self.atoms, self.done)
        if complaint is not None:
            raise self._blown_up(complaint)

    def _blown_up(self, complaint: str) -> InputError:
        if self.done == 0:
            return InputError(f"the structure is not one to start a simulation from: {complaint}")
        return InputError(
            f"the simulation blew up at step {self.done}: {complaint}. "
            f"{last_checkpoint(self._last_checkpoint())}. Try a "
            "smaller --time-step, a start that `dpax relax` has relaxed, or a model trained on structures "
            "like these"
        )

    def _write(self, thermo: Thermo | None) -> None:
        """Log and frame of this step, where they are due."""
        if thermo is not None:
            self.log.write(thermo.step, list(thermo.columns().values()))
        if self.done % self.settings.every == 0:
            self.trajectory.write(snapshot(self.atoms, self.done, self.done * self.settings.time_step))

    def _save_with_marks(self) -> None:
        """Write a checkpoint; trajectory and log are brought to the disk before it speaks of them."""
        self.marks = {"trajectory": self.trajectory.mark(), "log": self.log.mark()}
        self._save()

    def _save(self) -> None:
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
            "rng": self.rng.bit_generator.state,
            "capacities": self.potential.capacities,
            "suffix": self.files.trajectory.suffix,
            "overwrite": self.overwrite,
            "marks": self.marks,
        }
        Checkpoint(arrays | self.integrator.state(), facts).write(self.files.checkpoint)
        self.saved = self.done

    def _thermo(self) -> Thermo:
        atoms, inside = self.atoms, self.atoms.pbc.all()
        potential = float(atoms.get_potential_energy())
        stress = atoms.get_stress(voigt=False, include_ideal_gas=True) if inside else None
        return Thermo(
            step=self.done,
            time=self.done * self.settings.time_step,
            temperature=float(atoms.get_temperature()),
            potential=potential,
            total=potential + float(atoms.get_kinetic_energy()),
            conserved=self.integrator.conserved(),
            pressure=None if stress is None else float(-np.trace(stress) / 3 / units.bar),
            volume=float(atoms.get_volume()) if inside else None,
        )

    def _drift(self, thermo: Thermo) -> float | None:
        if thermo.conserved is None or self.start.conserved is None:
            return None
        return (thermo.conserved - self.start.conserved) / len(self.atoms)

    def _last_words(self, stopped: int | None) -> str:
        if stopped is not None:
            return (
                f"{signal.Signals(stopped).name}: stopped at step {self.done} after a checkpoint; "
                "go on with --restart"
            )
        return f"{self.done} steps done: {self.files.trajectory}, {self.files.log}"


class _Clock:
    """The speed of a simulation, its first step apart, which may compile a program.

    Args:
        time_step: fs.
    """

    def __init__(self, time_step: float):
        self._time_step = time_step
        self._steps = -1
        self._begin = 0.0

    def tick(self) -> None:
        """A step is done."""
        self._steps += 1
        if self._steps == 0:
            self._begin = time.perf_counter()

    def ns_per_day(self) -> float | None:
        """Simulated time for each day that passes; None after the first step."""
        if self._steps < 1:
            return None
        days = (time.perf_counter() - self._begin) / 86400
        return self._steps * self._time_step * 1e-6 / days
