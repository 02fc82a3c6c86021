"""The training loop: everything around the compiled step."""

import signal
import time
from collections.abc import Iterator, Mapping
from contextlib import ExitStack
from dataclasses import asdict, dataclass
from itertools import chain
from pathlib import Path
from typing import Any

from dpax.computing import computing
from dpax.data import Batch
from dpax.errors import InputError
from dpax.faults import naming_checkpoint
from dpax.files import remove_temporaries
from dpax.interrupt import Interrupt, listening
from dpax.machine import start_devices
from dpax.model.blocks import make_mesh
from dpax.model.energy_model import EnergyModel
from dpax.model.file import save_model
from dpax.train.beginning import adjusted, new_run, restarted_run
from dpax.train.checkpoints import Checkpoint, Checkpoints
from dpax.train.data_record import digests
from dpax.train.error_sums import ErrorMeans
from dpax.train.full_validation import FullValidation
from dpax.train.log import LearningCurve, shown_errors
from dpax.train.origin import choose_origin
from dpax.train.profile import Profile
from dpax.train.reporter import Reporter, Silent
from dpax.train.run import RunFolder
from dpax.train.settings import InputSettings
from dpax.train.setup import provenance, statistics_files
from dpax.train.statistics import write_statistics
from dpax.train.training import Training


@dataclass(frozen=True)
class TrainResult:
    """How a training ended."""

    run_dir: Path
    step: int
    """Steps done."""
    signal: int | None
    """The signal that stopped it before its end; None if it came to its end."""
    best_step: int | None
    """The step of best.dpax; None without validation data."""


def train(
    settings: InputSettings,
    run_dir: Path | str,
    *,
    base: Path | None = None,
    restart: bool = False,
    allow_changes: bool = False,
    overwrite: bool = False,
    init_model: EnergyModel | None = None,
    finetune: EnergyModel | None = None,
    reporter: Reporter | None = None,
    devices: list[Any] | None = None,
) -> TrainResult:
    """Train a model.

    The run's folder gets `input.json` (the settings as resolved), the learning curve (`lcurve.out` and
    `log.jsonl`), `checkpoints/`, `best.dpax` and `model.dpax`, when settings, data, statistics and the first
    batch were found good. From then on Ctrl-C, SIGTERM or SIGHUP stops after the step under way and a
    checkpoint; before, there is nothing to be saved. Until the training ends, the folder is locked.

    Args:
        settings: a whole input.
        run_dir: the run's folder.
        base: folder that relative paths in the settings start from; the working directory by default.
        restart: go on from the last checkpoint of the run, bit for bit as if it had not stopped; from the
            beginning if there is none yet.
        allow_changes: of data and settings, even those that make the restart another experiment.
        overwrite: replace a run that is there.
        init_model: a trained model to start from: weights, statistics and energy bias are its own.
        finetune: a trained model to start from on other data: its types become those of the settings, and
            its energy bias is adjusted to them. With `model.finetune_head: RANDOM` the fitting net is new.
        reporter: receives the progress.
        devices: JAX devices that share the work; all local ones by default.

    Raises:
        InputError: settings or data are wrong, the folder holds a run, or one that is under way, the trained
            model does not fit the settings, the restart would be another experiment, or the loss is no longer
            finite.
    """
    start_devices()
    origin = choose_origin(settings, restart, init_model, finetune)
    if allow_changes and not restart:
        raise InputError("--allow-changes needs --restart: it is about changes to a run that is restarted")
    folder, reporter = RunFolder(Path(run_dir)), reporter or Silent()
    if restart:
        folder.read_settings()  # no folder is made where no run is
    # The worker threads make NumPy arrays only, so this thread's precision is all that matters.
    with folder.locked(), computing(settings.model.needs_x64):
        if not restart:
            folder.check_new(overwrite)
        remove_temporaries(folder.path)
        mesh = make_mesh(devices)
        if restart:
            beginning = restarted_run(settings, folder, base, allow_changes, reporter.message)
        else:
            beginning = new_run(settings, folder, base, origin, mesh, reporter.message)
        return _run(Training(beginning, folder, mesh), reporter)


def _run(training: Training, reporter: Reporter) -> TrainResult:
    """Train to the end, or until interrupted, in a locked folder."""
    with ExitStack() as stack:
        loader = stack.enter_context(training.learner.open_loader())
        # The first batch shows what is wrong with the data: nothing is written before.
        first = next(loader)
        interrupt = stack.enter_context(listening())
        checkpoints, curve = _open_folder(stack, training)
        loop = _Loop(training, checkpoints, curve, reporter)
        if training.beginning.is_new and training.settings.dpax.started_from is not None:
            loop.save()  # a restart must not need the trained model
        reporter.start(training.settings, training.total, training.done)
        stack.callback(reporter.finish)
        chosen = training.settings.training
        traced = chosen.profiling or chosen.enable_profiler
        profile = stack.enter_context(Profile(training.folder.profile if traced else None))
        with naming_checkpoint(lambda: training.saved):
            loop.steps(chain([first], loader), interrupt, profile)
            return loop.finish(interrupt)


def _open_folder(stack: ExitStack, training: Training) -> tuple[Checkpoints, LearningCurve]:
    """Make the folder of a new run, or that of an old one ready to go on."""
    folder, beginning, settings = training.folder, training.beginning, training.settings
    if beginning.is_new:
        logs = [validation.log.name for validation in training.validations]
        folder.prepare_new(settings.training.disp_file, *logs)
    folder.write_settings(beginning.resolved.portable())
    stack.enter_context(digests(beginning.record, folder.data))
    write_statistics(folder.statistics, beginning.statistics)
    if settings.training.stat_file_mode == "update":
        for path in statistics_files(settings, beginning.resolved.base):
            write_statistics(path, beginning.statistics)
    n_checkpoints = settings.training.kept_checkpoints(training.total)
    checkpoints = stack.enter_context(Checkpoints(folder.checkpoints, n_checkpoints))
    checkpoints.drop_after(training.done)
    for validation in training.validations:
        validation.open_log(training.done)
    curve = LearningCurve(
        folder.path / settings.training.disp_file,
        folder.log,
        shown_errors(settings.loss, training.data.labels),
        training.valid is not None,
        training.done,
    )
    return checkpoints, stack.enter_context(curve)


class _Loop:
    """The steps of a training run, with what is written and reported between them.

    Args:
        training: where the run stands.
        checkpoints: of the run.
        curve: its learning curve.
        reporter: receives the progress.
    """

    def __init__(
        self, training: Training, checkpoints: Checkpoints, curve: LearningCurve, reporter: Reporter
    ):
        self._training, self._settings = training, training.settings
        self._checkpoints, self._curve, self._reporter = checkpoints, curve, reporter

    def steps(
        self, batches: Iterator[tuple[Batch, dict[str, Any]]], interrupt: Interrupt, profile: Profile
    ) -> None:
        """Step until the end or an interrupt."""
        training, chosen = self._training, self._settings.training
        clock, counted = time.monotonic(), training.done
        while training.done < training.total and interrupt.signal is None:
            batch, order_state = next(batches)
            profile.before(training.done + 1)
            lr, errors = training.step(batch)
            profile.after(training.done)
            training.learner.taken(order_state)
            if not chosen.disp_avg:
                training.shown = ErrorMeans()
            training.shown.add(errors)
            if training.done == 1 or training.done % chosen.disp_freq == 0:
                self._display(lr, (training.done - counted) / (time.monotonic() - clock))
                clock, counted = time.monotonic(), training.done
            for validation in training.validations:
                if validation.due(training.done):
                    self._validate(validation)
            if training.done % chosen.save_freq == 0:
                self.save()
            self._reporter.tick(training.done)

    def _display(self, lr: float, steps_per_second: float) -> None:
        """Add a line to the learning curve."""
        training, loss, section = self._training, self._settings.loss, self._settings.training.validation_data
        errors = {"_trn": training.shown.shown(loss)}
        if training.valid is not None and section is not None:
            errors["_val"] = training.valid.some(training.done - 1, section.numb_btch).shown(loss)
        record: dict[str, Any] = {
            f"{name}{kind}": value for kind, values in errors.items() for name, value in values.items()
        }
        self._curve.add(training.done, {"lr": lr, **record, "steps_per_second": steps_per_second})
        shown = {name.removesuffix("_trn"): value for name, value in record.items()}
        shown |= {"loss": training.shown.mean_loss, "lr": lr, "steps_per_second": steps_per_second}
        self._reporter.step(training.done, shown)
        training.shown = ErrorMeans()

    def _validate(self, validation: FullValidation) -> None:
        """Evaluate the whole validation set; keep the model if it is among the best so far."""
        training, averaged = self._training, validation.averaged
        assert training.valid is not None
        means = training.valid.whole(training.done, averaged=averaged)
        errors = means.shown(self._settings.loss)
        validation.write_log(training.done, means)
        self._curve.note({"step": training.done, validation.name: errors})
        rank = validation.rank(training.done, means)
        if rank is not None:
            validation.keep(
                training.done, rank, lambda path: self._write_model(path, errors, averaged=averaged)
            )
        whose = " of the averaged weights" if averaged else ""
        text = ", ".join(
            f"{name} {value:.4g}{_unit(name)}" for name, value in errors.items() if name != "rmse"
        )
        best = " (best so far)" if rank == 0 else ""
        self._reporter.message(f"step {training.done}: whole validation set{whose}: {text}{best}")

    def save(self) -> None:
        """Write a checkpoint.

        Raises:
            InputError: the weights are not finite; they must not replace good ones.
        """
        training = self._training
        if not training.learner.is_finite():
            raise InputError(
                f"step {training.done}: the weights are no longer finite; lower learning_rate.start_lr"
            )
        meta = {
            **training.learner.meta(),
            "progress": {"step": training.done},
            "seed": self._settings.training.seed,
            "valid": None if training.valid is None else training.valid.state(),
            "best": {validation.name: validation.state() for validation in training.validations},
            "shown": asdict(training.shown),
            "sel": self._settings.model.descriptor.fixed_sel,
        }
        self._checkpoints.save(training.done, Checkpoint(training.learner.arrays(), meta))
        training.saved = training.done

    def _write_model(
        self,
        path: Path,
        errors: Mapping[str, float] | None = None,
        *,
        averaged: bool = False,
        shifted: bool = False,
    ) -> None:
        training, beginning = self._training, self._training.beginning
        model = training.learner.model(averaged=averaged)
        if shifted:
            model = adjusted(model, beginning.resolved, training.mesh, self._reporter.message)
        seen = beginning.statistics.observed, beginning.statistics.min_distance
        trained_on = {system.name: len(system) for system in training.data.systems}
        facts = provenance(self._settings, training.done, errors, *seen)
        save_model(path, model, facts | {"trained_on": trained_on})

    def finish(self, interrupt: Interrupt) -> TrainResult:
        """Write what a run leaves behind, at its end or where it was interrupted."""
        training, folder = self._training, self._training.folder
        step, best = training.done, training.validations[0].best if training.validations else []
        best_step = best[0].step if best else None
        if step != training.saved:
            self.save()
        if interrupt.signal is not None and step < training.total:
            name = signal.Signals(interrupt.signal).name
            self._reporter.finish(f"{name}: stopped at step {step} after a checkpoint; go on with --restart")
            return TrainResult(folder.path, step, interrupt.signal, best_step)
        shifted = self._settings.training.change_bias_after_training
        self._write_model(folder.model, shifted=shifted)
        if self._settings.training.enable_ema:
            self._write_model(folder.averaged_model, averaged=True, shifted=shifted)
        self._reporter.finish(f"{step} steps done; the model is {folder.model}")
        return TrainResult(folder.path, step, None, best_step)


def _unit(name: str) -> str:
    return {"e": " eV/atom", "f": " eV/Å", "v": " eV/atom", "ae": " eV"}.get(name.partition("_")[2], "")
