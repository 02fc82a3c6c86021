"""A run of molecular dynamics: what surrounds the integrator's step."""

import signal
import time
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

import ase

from dpax.errors import InputError
from dpax.faults import naming_checkpoint
from dpax.files import remove_temporaries
from dpax.infer import Potential
from dpax.interrupt import Interrupt, listening
from dpax.lock import locked
from dpax.simulate.checkpoint import Checkpoint
from dpax.simulate.files import MDFiles
from dpax.simulate.output import ThermoLog, Trajectory, open_trajectory, snapshot
from dpax.simulate.settings import MDSettings
from dpax.simulate.simulation import Marks, Simulation, new_simulation, resumed_simulation
from dpax.simulate.thermo import Thermo


@dataclass(frozen=True)
class MDResult:
    """How a simulation ended."""

    step: int
    """The last one done."""
    signal: int | None
    """What stopped it before its end, if anything did."""


class Reporter(Protocol):
    """Receives the progress of a simulation."""

    def start(self, settings: MDSettings, first_step: int, text: str) -> None:
        """It begins or continues after `first_step` steps; the text describes it."""
        ...

    def tick(self, step: int) -> None:
        """A step is done."""
        ...

    def line(self, thermo: Thermo, drift: float | None, ns_per_day: float | None) -> None:
        """A line was logged; drift of the conserved quantity since the beginning, eV/atom."""
        ...

    def finish(self, text: str = "") -> None:
        """It has ended, for any reason."""
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

    A restarted simulation continues bit for bit as an uninterrupted one on the same machine. One that was
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
        reporter: receives the progress.

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
        if checkpoint is None:
            simulation = new_simulation(potential, atoms, settings)
            # The first thing that is written: whatever ends the simulation after it, a restart knows where it
            # began and what may be replaced.
            checkpoint = simulation.checkpoint(files.trajectory.suffix, overwrite, _NOTHING_WRITTEN)
            checkpoint.write(files.checkpoint)
        else:
            simulation = resumed_simulation(potential, atoms, settings, checkpoint, files.checkpoint)
            _check_beginning(files, checkpoint)
        return _run(simulation, files, checkpoint, reporter or Silent())


def _checkpoint_of(files: MDFiles) -> Checkpoint | None:
    """The checkpoint that a restart continues from; None if there is none yet.

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


_NOTHING_WRITTEN: Marks = {"trajectory": None, "log": None}


def _check_beginning(files: MDFiles, checkpoint: Checkpoint) -> None:
    """Before anything else was written than a checkpoint, trajectory and log were not there."""
    new, overwrite = checkpoint.facts["marks"]["log"] is None, checkpoint.facts.get("overwrite", False)
    there = files.trajectory.exists() or files.log.exists()
    if new and there and not (overwrite or files.begun):
        raise InputError(
            f"{files.checkpoint}: the simulation had not written anything yet, and {files.trajectory} or "
            f"{files.log} is not of its making; move it away, or replace it with --overwrite"
        )


def _run(simulation: Simulation, files: MDFiles, checkpoint: Checkpoint, reporter: Reporter) -> MDResult:
    """Simulate to the end, or until interrupted."""
    settings, marks = simulation.settings, checkpoint.facts["marks"]
    with ExitStack() as stack:
        interrupt = stack.enter_context(listening())
        trajectory = open_trajectory(files.trajectory, marks["trajectory"])
        stack.callback(trajectory.close)
        log = ThermoLog(files.log, marks["log"], ["step", *simulation.start.columns()])
        stack.callback(log.close)
        stack.callback(reporter.finish)
        loop = _Loop(simulation, files, checkpoint, trajectory, log, reporter)
        atoms = simulation.atoms
        text = f"{len(atoms)} atoms ({atoms.symbols}), {settings.ensemble.upper()}"
        reporter.start(settings, simulation.done, text)
        with naming_checkpoint(lambda: loop.saved if files.checkpoint.exists() else None):
            if marks["log"] is None:
                loop.write(simulation.start)
                loop.save()
            loop.steps(interrupt)
            if loop.saved < simulation.done:
                loop.save()
        stopped = interrupt.signal if simulation.done < settings.steps else None
        reporter.finish(_last_words(simulation.done, stopped, files))
        return MDResult(simulation.done, stopped)


def _last_words(step: int, stopped: int | None, files: MDFiles) -> str:
    if stopped is not None:
        name = signal.Signals(stopped).name
        return f"{name}: stopped at step {step} after a checkpoint; go on with --restart"
    return f"{step} steps done: {files.trajectory}, {files.log}"


class _Loop:
    """The steps of a simulation, with what is written and reported between them.

    Args:
        simulation: where it stands.
        files: of the simulation.
        checkpoint: the last one.
        trajectory: open for the frames that follow.
        log: open for the lines that follow.
        reporter: receives the progress.
    """

    def __init__(
        self,
        simulation: Simulation,
        files: MDFiles,
        checkpoint: Checkpoint,
        trajectory: Trajectory,
        log: ThermoLog,
        reporter: Reporter,
    ):
        self._simulation, self._files, self._reporter = simulation, files, reporter
        self._trajectory, self._log = trajectory, log
        self._overwrite = checkpoint.facts.get("overwrite", False)
        self.saved: int = checkpoint.facts["step"]
        """The step of the last checkpoint."""

    def steps(self, interrupt: Interrupt) -> None:
        """Step until the end or an interrupt."""
        simulation, settings = self._simulation, self._simulation.settings
        clock = _Clock(settings.time_step)
        while simulation.done < settings.steps and interrupt.signal is None:
            simulation.step()
            clock.tick()
            self._reporter.tick(simulation.done)
            thermo = simulation.thermo() if simulation.done % settings.log_every == 0 else None
            if thermo is not None:
                self._reporter.line(thermo, simulation.drift(thermo), clock.ns_per_day())
            self.write(thermo)
            if simulation.done % settings.checkpoint_every == 0:
                self.save()

    def write(self, thermo: Thermo | None) -> None:
        """Log and frame of this step, where they are due."""
        simulation = self._simulation
        if thermo is not None:
            self._log.write(thermo.step, list(thermo.columns().values()))
        if simulation.done % simulation.settings.every == 0:
            time_of_step = simulation.done * simulation.settings.time_step
            self._trajectory.write(snapshot(simulation.atoms, simulation.done, time_of_step))

    def save(self) -> None:
        """Write a checkpoint; trajectory and log are brought to the disk before it speaks of them."""
        marks = {"trajectory": self._trajectory.mark(), "log": self._log.mark()}
        suffix = self._files.trajectory.suffix
        self._simulation.checkpoint(suffix, self._overwrite, marks).write(self._files.checkpoint)
        self.saved = self._simulation.done


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
