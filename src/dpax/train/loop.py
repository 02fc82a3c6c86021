"""The training loop: everything around the compiled step."""

import math
import secrets
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
from dpax.train.bias import with_adjusted_bias
from dpax.train.checkpoints import Checkpoint, Checkpoints, reads_contents, restored_model
from dpax.train.checks import Seen, check_labels, check_names, data_warnings, sel_warnings
from dpax.train.data_record import Sections, check_sizes, describe, digests, read
from dpax.train.error_sums import ErrorMeans, Errors
from dpax.train.full_validation import FullValidation, full_validations
from dpax.train.learner import Learner
from dpax.train.log import LearningCurve, shown_errors
from dpax.train.origin import Origin, choose_origin, started
from dpax.train.profile import Profile
from dpax.train.reporter import Reporter, Silent
from dpax.train.restart import Changes
from dpax.train.run import RunFolder
from dpax.train.settings import InputSettings, StartedFromSettings
from dpax.train.setup import (
    data_statistics,
    fresh_model,
    open_data,
    provenance,
    shared_statistics,
    statistics_sample,
    total_steps,
    weighed_labels,
    with_absolute_table,
)
from dpax.train.statistics import write_statistics
from dpax.train.validation import ValidationSet


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
        reporter: told of the progress.
        devices: JAX devices that share the work; all local ones by default.

    Raises:
        InputError: settings or data are wrong, the folder holds a run, or one that is under way, the trained
            model does not fit the settings, the restart would be another experiment, or the loss is no longer
            finite.
    """
    start_devices()
    origin = choose_origin(settings, restart, init_model, finetune)
    if allow_changes and not restart:
        raise InputError("--allow-changes is about a run that goes on; give --restart too, or leave it out")
    folder = RunFolder(Path(run_dir))
    if restart:
        folder.read_settings()  # no folder is made where no run is
    # The worker threads make NumPy arrays only, so this thread's precision is all that matters.
    with folder.locked(), computing(settings.model.needs_x64):
        if not restart:
            folder.check_new(overwrite)
        remove_temporaries(folder.path)
        training = Training(settings, folder, base, reporter or Silent(), devices, origin)
        return training.run(restart=restart, allow_changes=allow_changes)


class Training:
    """A training under way.

    Args:
        settings: a whole input.
        folder: of the run.
        base: folder that relative paths in the settings start from.
        reporter: told of the progress.
        devices: JAX devices that share the work.
        origin: a trained model to start from.
    """

    def __init__(
        self,
        settings: InputSettings,
        folder: RunFolder,
        base: Path | None,
        reporter: Reporter,
        devices: list[Any] | None,
        origin: Origin | None = None,
    ):
        self.asked_seed = settings.training.seed
        if settings.training.seed is None:
            # Whatever is drawn from here on is on record: the seed is written into the run's input.json.
            training = settings.training.model_copy(update={"seed": secrets.randbelow(2**31)})
            settings = settings.model_copy(update={"training": training})
        if origin is not None and settings.dpax.started_from is None:
            record = {"started_from": StartedFromSettings(how=origin.how)}
            settings = settings.model_copy(update={"dpax": settings.dpax.model_copy(update=record)})
        self.settings = with_absolute_table(settings, base)
        self.origin = origin
        self.folder = folder
        self.base = base
        self.reporter = reporter
        self.mesh = make_mesh(devices)
        self.done = 0  # steps
        self.saved: int | None = None  # step of the last checkpoint
        self.data = open_data(settings.training.training_data, settings.model.type_map, base)
        check_labels(settings, self.data)
        section = settings.training.validation_data
        self.valid_data = None if section is None else open_data(section, settings.model.type_map, base)
        if self.valid_data is not None:
            check_names(settings, self.valid_data)
        self.total = total_steps(settings.training, self.data)
        self.shown = ErrorMeans()  # what the next line of the learning curve shows
        self.validations = full_validations(settings, self.total, folder)
        self.changes = Changes()

    def run(self, *, restart: bool, allow_changes: bool) -> TrainResult:
        """Train from the beginning or from the last checkpoint to the end, or until interrupted.

        The folder must be locked, and for a new run it must have been checked.
        """
        with ExitStack() as stack:
            checkpoint = self._read_run(allow_changes) if restart else self._begin()
            self.build(checkpoint)
            loader = stack.enter_context(self.learner.open_loader())
            # The first batch shows what is wrong with the data: nothing is written before.
            first = next(loader)
            interrupt = stack.enter_context(listening())
            self.curve = self._open_folder(stack, restart)
            traced = self.settings.training.profiling or self.settings.training.enable_profiler
            profile = stack.enter_context(Profile(self.folder.profile if traced else None))
            with naming_checkpoint(lambda: self.saved):
                self._train(chain([first], loader), interrupt, profile)
                return self._finish(interrupt)

    def _train(self, batches: Iterator[Any], interrupt: Interrupt, profile: Profile) -> None:
        """Step until the end or an interrupt."""
        training = self.settings.training
        clock, counted = time.monotonic(), self.done
        while self.done < self.total and interrupt.signal is None:
            batch, order_state = next(batches)
            profile.before(self.done + 1)
            lr, errors = self.step(batch)
            profile.after(self.done)
            self.learner.taken(order_state)
            if not training.disp_avg:
                self.shown = ErrorMeans()
            self.shown.add(errors)
            if self.done == 1 or self.done % training.disp_freq == 0:
                self._display(lr, (self.done - counted) / (time.monotonic() - clock))
                clock, counted = time.monotonic(), self.done
            for validation in self.validations:
                if validation.due(self.done):
                    self._validate(validation)
            if self.done % training.save_freq == 0:
                self._save()
            self.reporter.tick(self.done)

    # Preparation

    def _begin(self) -> None:
        """A new run: nothing is noted of another one, whose settings may have been taken."""
        self.settings = self._with_dpax(restarts=())
        self.record = self._describe_data()
        valid = [] if self.valid_data is None else self.valid_data.systems
        for system in (*self.data.systems, *valid):
            self.folder.check_data(system)

    def _describe_data(self) -> Sections:
        valid = [] if self.valid_data is None else self.valid_data.systems
        return describe({"training_data": self.data.systems, "validation_data": valid})

    def _with_dpax(self, **values: Any) -> InputSettings:
        """The settings with values of the section dpax replaced."""
        return self.settings.model_copy(update={"dpax": self.settings.dpax.model_copy(update=values)})

    def _read_run(self, allow_changes: bool) -> Checkpoint | None:
        """Read the last good checkpoint, None if there is none yet, and see what has changed since."""
        before = self.folder.read_settings()
        self._keep(before)
        self.folder.check_model(before.model, self.settings.model)
        self.record = self._describe_data()
        checkpoint = self._last_checkpoint_of_run(before)
        done = 0 if checkpoint is None else checkpoint.meta["progress"]["step"]
        changes = self.changes
        recorded = read(self.folder.data)
        if checkpoint is not None and recorded is not None:
            check_sizes(recorded["training_data"], self.record["training_data"])
        # A run that was killed at once has not written a record yet.
        if checkpoint is not None or recorded is not None:
            changes.compare_data(recorded, self.record)
        changes.compare_settings(before, self.settings)
        changes.compare_rates(
            before, self.settings, (total_steps(before.training, self.data), self.total), done
        )
        changes.compare_seeds(before.training.seed, self.asked_seed)
        # A run that has learned nothing yet may become any experiment.
        if checkpoint is not None and not allow_changes:
            changes.check()
        for text in changes.texts:
            self.reporter.message(f"warning: --restart: {text}")
        noted = tuple(f"step {done}: {text}" for text in changes.texts)
        self.settings = self._with_dpax(restarts=before.dpax.restarts + noted)
        return checkpoint

    def _keep(self, before: InputSettings) -> None:
        """Take over what belongs to the run: what it started from, and the seed, which it may have drawn."""
        kept = {"started_from": before.dpax.started_from, "restarts": before.dpax.restarts}
        self.settings = self._with_dpax(**kept).model_copy(
            update={
                "model": self.settings.model.model_copy(update={"finetune_head": before.model.finetune_head}),
                "training": self.settings.training.model_copy(update={"seed": before.training.seed}),
            }
        )

    def _last_checkpoint_of_run(self, before: InputSettings) -> Checkpoint | None:
        if self.folder.checkpoints.is_dir():
            with Checkpoints(self.folder.checkpoints, read_only=True) as checkpoints:
                if checkpoints.steps():
                    return checkpoints.latest(self.reporter.message)
        if before.dpax.started_from is not None:
            raise InputError(
                f"{self.folder.path}: the run started from a trained model and has no checkpoint yet; repeat "
                f"--{before.dpax.started_from.how} with --overwrite"
            )
        return None

    def build(self, checkpoint: Checkpoint | None = None) -> None:
        """The model, the compiled functions and the state of everything that moves."""
        seed = self.settings.training.seed
        assert seed is not None
        sel = None if self.origin is None else self.origin.sel
        if checkpoint is not None and self.settings.dpax.started_from is not None:
            sel = checkpoint.meta["sel"]
        self.stat_file, shared = shared_statistics(self.settings, self.base)
        for path in shared:
            self.folder.check_shared("training.stat_file", path, self.settings)
        caches = [self.folder.statistics, *shared]
        self.statistics = data_statistics(self.settings, self.data, caches, sel)
        if checkpoint is not None and self.statistics.sel != checkpoint.meta["sel"]:
            # The data have changed, and with them what "auto" would be; it belongs to the weights.
            self.statistics = data_statistics(self.settings, self.data, caches, checkpoint.meta["sel"])
        model = fresh_model(self.settings, self.statistics, seed)
        if self.origin is not None and checkpoint is None:
            model = self._started(model, self.origin)
        if checkpoint is not None:
            model = restored_model(model, checkpoint)
        self.learner = Learner(self.settings, self.data, model, self.mesh, self.total)
        self.valid = self._open_validation(model, seed)
        self._warn()
        if checkpoint is not None:
            self._restore(checkpoint)

    def _warn(self) -> None:
        """Tell of what is suspicious about the data, as far as the statistics have looked."""
        found, systems = self.statistics, list(self.data.systems)
        if self.valid is not None:
            systems += self.valid.data.systems
        types = frozenset(found.observed)
        seen = Seen(types, found.max_neighbors, found.crowded, found.min_distance, "the training data")
        texts = data_warnings(self.settings, systems, [seen]) + sel_warnings(found.sel, [seen])
        for text in texts:
            self.reporter.message(f"warning: {text}")

    def _open_validation(self, model: EnergyModel, seed: int) -> ValidationSet | None:
        data = self.valid_data
        if data is None:
            return None
        return ValidationSet(data, model, weighed_labels(self.settings.loss, data), seed, self.learner)

    @reads_contents
    def _restore(self, checkpoint: Checkpoint) -> None:
        """Put everything that moves, but for the model, where it was."""
        meta = checkpoint.meta
        self.done = self.saved = meta["progress"]["step"]
        self.shown = ErrorMeans(**meta["shown"])
        if not self.changes.reranked:
            if self.valid is not None and meta["valid"] is not None:
                self.valid.restore(meta["valid"])
            for validation in self.validations:
                validation.restore(meta["best"].get(validation.name, []))
        self.learner.restore(checkpoint)

    def _started(self, fresh: EnergyModel, origin: Origin) -> EnergyModel:
        """The model that the training starts with: the fresh one with what it takes over."""
        model = started(fresh, origin, self.reporter.message)
        if origin.how == "finetune" and not origin.random_fitting and "energy" in self.data.labels:
            return self._with_adjusted_bias(model)
        return model

    def _with_adjusted_bias(self, model: EnergyModel) -> EnergyModel:
        """The model with its energy bias shifted by what it leaves of the energies of the training data."""
        frames = statistics_sample(self.settings, self.data)
        return with_adjusted_bias(model, frames, self.mesh, self.reporter.message)

    def _open_folder(self, stack: ExitStack, restart: bool) -> LearningCurve:
        """Make the folder of a new run, or that of an old one ready to go on."""
        training, first = self.settings.training, self.done
        if not restart:
            self.folder.prepare_new(training.disp_file, *(one.log.name for one in self.validations))
        self.folder.write_settings(self.settings)
        stack.enter_context(digests(self.record, self.folder.data))
        write_statistics(self.folder.statistics, self.statistics)
        if self.stat_file is not None:
            write_statistics(self.stat_file, self.statistics)
        kept = training.kept_checkpoints(self.total)
        self.checkpoints = stack.enter_context(Checkpoints(self.folder.checkpoints, kept))
        self.checkpoints.drop_after(first)
        for validation in self.validations:
            validation.open_log(first)
        if self.origin is not None:
            self._save()  # a restart must not need the trained model
        curve = stack.enter_context(self._open_curve())
        self.reporter.start(self.settings, self.total, first)
        stack.callback(self.reporter.finish)
        return curve

    def _open_curve(self) -> LearningCurve:
        return LearningCurve(
            self.folder.path / self.settings.training.disp_file,
            self.folder.log,
            shown_errors(self.settings.loss, self.data.labels),
            self.valid is not None,
            self.done,
        )

    # Steps

    def step(self, batch: Batch) -> tuple[float, Errors]:
        """Take a step.

        Returns:
            The learning rate, and the errors before the step.

        Raises:
            InputError: the loss is not finite.
        """
        lr = self.learner.schedule(self.done)
        errors = self.learner.step(batch, self.done)
        if not math.isfinite(errors.loss):
            raise InputError(
                f"step {self.done + 1}: the loss is no longer finite, with "
                f"{', '.join(batch.sources)}. Look at these frames, or lower learning_rate.start_lr"
            )
        self.done += 1
        return lr, errors

    def _display(self, lr: float, steps_per_second: float) -> None:
        """Add a line to the learning curve."""
        loss, section = self.settings.loss, self.settings.training.validation_data
        found = {"_trn": self.shown.shown(loss)}
        if self.valid is not None and section is not None:
            means = self.valid.some(self.done - 1, section.numb_btch)
            found["_val"] = means.shown(loss)
        record: dict[str, Any] = {
            f"{name}{kind}": value for kind, errors in found.items() for name, value in errors.items()
        }
        self.curve.add(self.done, {"lr": lr, **record, "steps_per_second": steps_per_second})
        shown = {name.removesuffix("_trn"): value for name, value in record.items()}
        shown |= {"loss": self.shown.mean_loss, "lr": lr, "steps_per_second": steps_per_second}
        self.reporter.step(self.done, shown)
        self.shown = ErrorMeans()

    def _validate(self, validation: FullValidation) -> None:
        """Evaluate the whole validation set; keep the model if it is among the best so far."""
        assert self.valid is not None
        means = self.valid.whole(self.done, averaged=validation.averaged)
        found = means.shown(self.settings.loss)
        validation.write_log(self.done, means)
        self.curve.note({"step": self.done, validation.name: found})
        rank = validation.rank(self.done, means)
        if rank is not None:
            averaged = validation.averaged
            validation.keep(self.done, rank, lambda path: self._write_model(path, found, averaged=averaged))
        whose = " of the averaged weights" if validation.averaged else ""
        text = ", ".join(
            f"{name} {value:.4g}{_unit(name)}" for name, value in found.items() if name != "rmse"
        )
        best = " (best so far)" if rank == 0 else ""
        self.reporter.message(f"step {self.done}: whole validation set{whose}: {text}{best}")

    # Saving

    def _save(self) -> None:
        self._check_weights()
        meta = {
            **self.learner.meta(),
            "progress": {"step": self.done},
            "seed": self.settings.training.seed,
            "valid": None if self.valid is None else self.valid.state(),
            "best": {validation.name: validation.state() for validation in self.validations},
            "shown": asdict(self.shown),
            "sel": self.statistics.sel,
        }
        self.checkpoints.save(self.done, Checkpoint(self.learner.arrays(), meta))
        self.saved = self.done

    def _check_weights(self) -> None:
        """Weights that are not finite must not replace good ones."""
        if not self.learner.is_finite():
            raise InputError(
                f"step {self.done}: the weights are no longer finite; lower learning_rate.start_lr"
            )

    def _write_model(
        self,
        path: Path,
        errors: Mapping[str, float] | None = None,
        *,
        averaged: bool = False,
        shifted: bool = False,
    ) -> None:
        model = self.learner.model(averaged=averaged)
        if shifted:
            model = self._with_adjusted_bias(model)
        seen = self.statistics.observed, self.statistics.min_distance
        trained_on = {system.name: len(system) for system in self.data.systems}
        facts = provenance(self.settings, self.done, errors, *seen)
        save_model(path, model, facts | {"trained_on": trained_on})

    def _finish(self, interrupt: Interrupt) -> TrainResult:
        step, best = self.done, self.validations[0].best if self.validations else []
        best_step = best[0].step if best else None
        if step != self.saved:
            self._save()
        if interrupt.signal is not None and step < self.total:
            name = signal.Signals(interrupt.signal).name
            self.reporter.finish(f"{name}: stopped at step {step} after a checkpoint; go on with --restart")
            return TrainResult(self.folder.path, step, interrupt.signal, best_step)
        shifted = self.settings.training.change_bias_after_training
        self._write_model(self.folder.model, shifted=shifted)
        if self.settings.training.enable_ema:
            self._write_model(self.folder.averaged_model, averaged=True, shifted=shifted)
        self.reporter.finish(f"{step} steps done; the model is {self.folder.model}")
        return TrainResult(self.folder.path, step, None, best_step)


def _unit(name: str) -> str:
    return {"e": " eV/atom", "f": " eV/Å", "v": " eV/atom", "ae": " eV"}.get(name.partition("_")[2], "")
