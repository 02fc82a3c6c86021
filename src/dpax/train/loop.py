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

import jax
import numpy as np
from flax import nnx

from dpax.data import Batch, BatchLoader, BatchOrder, CapacityPlanner, Labels, make_batch
from dpax.errors import InputError
from dpax.model.derivatives import make_mesh
from dpax.model.file import save_model
from dpax.model.potential import EnergyModel
from dpax.train.bias import adjusted_bias
from dpax.train.checkpoints import Checkpoint, Checkpoints, from_named_arrays, named_arrays
from dpax.train.interrupt import Interrupt, listening
from dpax.train.log import LearningCurve, shown_errors
from dpax.train.loss import Errors, Prefactors, prefactors, without_bias
from dpax.train.origin import Origin, choose_origin, started
from dpax.train.probabilities import system_probabilities
from dpax.train.reporter import Reporter, Silent
from dpax.train.run import RunFolder
from dpax.train.schedule import make_schedule
from dpax.train.settings import InputSettings, StartedFromSettings
from dpax.train.setup import Data, check_labels, data_statistics, initial_model, open_data, provenance
from dpax.train.statistics import sampled_frames, write_statistics
from dpax.train.step import TrainState, make_functions, replicated
from dpax.train.validation import ErrorMeans, validation_error

_ATOM_MULTIPLE = 8
"""Atoms of a batch are padded to a multiple of this on every device, so that blocks divide evenly."""


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


@dataclass
class Progress:
    """Where a training stands, beyond its arrays."""

    step: int = 0
    best_step: int | None = None
    best_error: float | None = None


def train(
    settings: InputSettings,
    run_dir: Path | str,
    *,
    base: Path | None = None,
    restart: bool = False,
    overwrite: bool = False,
    init_model: EnergyModel | None = None,
    finetune: EnergyModel | None = None,
    reporter: Reporter | None = None,
    devices: list[Any] | None = None,
) -> TrainResult:
    """Train a model.

    The run's folder gets `input.json` (the settings as resolved), the learning curve (`lcurve.out` and
    `log.jsonl`), `checkpoints/`, `best.dpax` and `model.dpax`. It is made only when settings, data,
    statistics and the first batch were found good. From then on Ctrl-C or SIGTERM stops after the step under
    way and a checkpoint; before, there is nothing to be saved.

    Args:
        settings: a whole input.
        run_dir: the run's folder.
        base: folder that relative paths in the settings start from; the working directory by default.
        restart: go on from the last checkpoint of the run, bit for bit as if it had not stopped; from the
            beginning if there is none yet.
        overwrite: replace a run that is there.
        init_model: a trained model to start from: weights, statistics and energy bias are its own.
        finetune: a trained model to start from on other data: its types become those of the settings, and
            its energy bias is adjusted to them. With `model.finetune_head: RANDOM` the fitting net is new.
        reporter: told of the progress.
        devices: JAX devices that share the work; all local ones by default.

    Raises:
        InputError: settings or data are wrong, the folder holds a run, the trained model does not fit the
            settings, or the loss is no longer finite.
    """
    origin = choose_origin(settings, restart, init_model, finetune)
    # The worker threads make NumPy arrays only, so this thread's precision is all that matters.
    with jax.enable_x64(settings.model.needs_x64):
        training = Training(settings, RunFolder(Path(run_dir)), base, reporter or Silent(), devices, origin)
        return training.run(restart=restart, overwrite=overwrite)


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
        if settings.training.seed is None:
            # Whatever is drawn from here on is on record: the seed is written into the run's input.json.
            training = settings.training.model_copy(update={"seed": secrets.randbelow(2**31)})
            settings = settings.model_copy(update={"training": training})
        if origin is not None and settings.dpax.started_from is None:
            record = {"started_from": StartedFromSettings(how=origin.how)}
            settings = settings.model_copy(update={"dpax": settings.dpax.model_copy(update=record)})
        self.settings = settings
        self.origin = origin
        self.folder = folder
        self.base = base
        self.reporter = reporter
        self.mesh = make_mesh(devices)
        self.progress = Progress()
        self.saved: int | None = None  # step of the last checkpoint
        self.schedule = make_schedule(settings.learning_rate, settings.training.numb_steps)
        type_map = settings.model.type_map
        self.data = open_data(settings.training.training_data, type_map, base)
        valid = settings.training.validation_data
        self.valid = None if valid is None else open_data(valid, type_map, base)
        check_labels(settings, self.data)

    def run(self, *, restart: bool, overwrite: bool) -> TrainResult:
        """Train from the beginning or from the last checkpoint to the end, or until interrupted."""
        with ExitStack() as stack:
            checkpoint = self._read_run(restart, overwrite)
            self.build(checkpoint)
            loader = stack.enter_context(self.open_loader())
            # The first batch shows what is wrong with the data: nothing is written before.
            first = next(loader)
            interrupt = stack.enter_context(listening())
            curve = self._open_folder(stack, restart)
            self._train(curve, chain([first], loader), interrupt)
            return self._finish(interrupt)

    def _train(self, curve: LearningCurve, batches: Iterator[Any], interrupt: Interrupt) -> None:
        """Step until the end or an interrupt."""
        training = self.settings.training
        clock, counted = time.monotonic(), self.progress.step
        while self.progress.step < training.numb_steps and interrupt.signal is None:
            batch, order_state = next(batches)
            lr, errors = self.step(batch)
            self.order_state, self.planner_state = order_state, self.planner.state()
            done = self.progress.step
            if done == 1 or done % training.disp_freq == 0:
                speed = (done - counted) / (time.monotonic() - clock)
                self._display(curve, batch.labels, lr, errors, speed)
                clock, counted = time.monotonic(), done
            if self.valid is not None and (
                done % self.settings.valid_freq == 0 or done == training.numb_steps
            ):
                self._validate(curve)
            if done % training.save_freq == 0:
                self._save()
            self.reporter.tick(done)

    # Preparation

    def _read_run(self, restart: bool, overwrite: bool) -> Checkpoint | None:
        """See that a run may begin here, or with `restart` read the last good checkpoint."""
        if not restart:
            self.folder.check_new(overwrite)
            return None
        before = self.folder.read_settings()
        # What the run started from is a part of what is continued, and so is the seed below.
        kept = {
            "model": self.settings.model.model_copy(update={"finetune_head": before.model.finetune_head}),
            "dpax": self.settings.dpax.model_copy(update={"started_from": before.dpax.started_from}),
        }
        self.settings = self.settings.model_copy(update=kept)
        if before.model != self.settings.model:
            changes = _differences(before.model.resolved(), self.settings.model.resolved(), "model")
            raise InputError(
                f"{self.folder.input}: the run was started with another model section: {', '.join(changes)}. "
                "A restart must keep the model: undo the change, or start anew in another folder"
            )
        # The run's seed, which it may have drawn itself, is a part of what is continued.
        training = self.settings.training.model_copy(update={"seed": before.training.seed})
        self.settings = self.settings.model_copy(update={"training": training})
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
        self.statistics = data_statistics(self.settings, self.data, self.folder.statistics, sel)
        self._warn_of_neighbors()
        model = initial_model(self.settings, self.statistics, seed)
        if self.origin is not None and checkpoint is None:
            model = self._started(model, self.origin)
        self.planner = CapacityPlanner(atom_multiple=_ATOM_MULTIPLE * self.mesh.size)
        self.valid_planner = CapacityPlanner(atom_multiple=_ATOM_MULTIPLE * self.mesh.size)
        rule = self.settings.training.training_data
        probabilities = system_probabilities(self.data.n_batches, rule.auto_prob, rule.sys_probs)
        self.order = BatchOrder(self.data.systems, self.data.batch_sizes, seed, probabilities)
        if self.valid is not None:
            self.valid_order = BatchOrder(self.valid.systems, self.valid.batch_sizes, seed)
        if checkpoint is not None:
            model = restored_model(model, checkpoint)
            meta = checkpoint.meta
            self.progress = Progress(**meta["progress"])
            self.saved = self.progress.step
            self.order.restore(meta["order"])
            self.planner.restore(meta["planner"])
            self.valid_planner.restore(meta["valid_planner"])
            if self.valid is not None and meta["valid_order"] is not None:
                self.valid_order.restore(meta["valid_order"])
        self.order_state, self.planner_state = self.order.state(), self.planner.state()
        self.bias = np.array(model.bias)
        self.dtype = model.dtype
        self.rcut = model.rcut
        self.fixed = named_arrays(nnx.state(model, nnx.Not(nnx.Param)), "fixed")
        self.functions = make_functions(
            model, self.settings.optimizer, self.mesh, self.settings.dpax.block_size
        )
        self.state = self.functions.init()
        if not jax.tree.leaves(self.state.params):
            raise InputError(
                "nothing is trainable: descriptor and fitting net are both frozen by 'trainable'"
            )
        if checkpoint is not None:
            optimizer = from_named_arrays(self.state.optimizer, "optimizer", checkpoint.arrays)
            self.state = replicated(TrainState(self.state.params, optimizer), self.mesh)

    def _started(self, fresh: EnergyModel, origin: Origin) -> EnergyModel:
        """The model that the training starts with: the fresh one with what it takes over."""
        model = started(fresh, origin, self.reporter.message)
        if origin.how == "finetune" and not origin.random_fitting and "energy" in self.data.labels:
            self._adjust_bias(model)
        return model

    def _adjust_bias(self, model: EnergyModel) -> None:
        """Shift the energy bias of a model by what it leaves of the energies of the training data."""
        n_batches = self.settings.model.data_stat_nbatch
        frames = sampled_frames(self.data.systems, self.data.batch_sizes, n_batches)
        before, model.bias = model.bias, tuple(adjusted_bias(model, frames, "change", self.mesh))
        changes = zip(model.type_map, before, model.bias, strict=True)
        text = ", ".join(f"{element} {old:.6g} to {new:.6g}" for element, old, new in changes)
        self.reporter.message(f"energy bias in eV: {text}")

    def _warn_of_neighbors(self) -> None:
        sel, most = self.statistics.sel, self.statistics.max_neighbors
        if most > sel:
            self.reporter.message(
                f"warning: {self.statistics.crowded}: an atom has {most} neighbours, more than sel = {sel}; "
                f"dpax uses all of them, DeePMD-kit would drop some. Set sel to at least {most}"
            )

    def _open_folder(self, stack: ExitStack, restart: bool) -> LearningCurve:
        """Make the folder of a new run, or that of an old one ready to go on."""
        training, first = self.settings.training, self.progress.step
        if not restart:
            self.folder.prepare_new(training.disp_file)
        self.folder.write_settings(self.settings)
        write_statistics(self.folder.statistics, self.statistics)
        self.checkpoints = stack.enter_context(Checkpoints(self.folder.checkpoints, training.max_ckpt_keep))
        self.checkpoints.drop_after(first)
        if self.origin is not None:
            self._save()  # a restart must not need the trained model
        curve = stack.enter_context(self._open_curve())
        self.reporter.start(self.settings, training.numb_steps, first)
        stack.callback(self.reporter.finish)
        return curve

    def _open_curve(self) -> LearningCurve:
        loss = self.settings.loss
        virial = bool(loss.start_pref_v or loss.limit_pref_v) and "virial" in self.data.labels
        atomic = bool(loss.start_pref_ae or loss.limit_pref_ae) and "atom_energies" in self.data.labels
        return LearningCurve(
            self.folder.path / self.settings.training.disp_file,
            self.folder.log,
            shown_errors(virial, atomic),
            self.valid is not None,
            self.progress.step,
        )

    def open_loader(self) -> BatchLoader:
        """The batches of the training, from where it stands."""
        return BatchLoader(self.data.systems, self.order, self.rcut, self.planner, self.dtype)

    # Steps

    def _weights(self) -> tuple[float, Prefactors]:
        lr = self.schedule(self.progress.step)
        return lr, prefactors(self.settings.loss, lr / self.settings.learning_rate.start_lr)

    def _labels(self, batch: Batch) -> Labels:
        nb = batch.neighborhoods
        return without_bias(batch.labels, np.asarray(nb.types), np.asarray(nb.frames), self.bias, self.dtype)

    def step(self, batch: Batch) -> tuple[float, Errors]:
        """Take a step.

        Returns:
            The learning rate, and the errors before the step.

        Raises:
            InputError: the loss is not finite.
        """
        lr, weights = self._weights()
        labels = self._labels(batch)
        self.state, errors = self.functions.step(self.state, batch.neighborhoods, labels, weights, lr)
        errors = jax.device_get(errors)
        if not math.isfinite(errors.loss):
            raise InputError(
                f"step {self.progress.step + 1}: the loss is no longer finite, with "
                f"{', '.join(batch.sources)}. Look at these frames, or lower learning_rate.start_lr. "
                f"{self._last_checkpoint()}"
            )
        self.progress.step += 1
        return lr, errors

    def _errors(self, batch: Batch, weights: Prefactors) -> tuple[Errors, Labels]:
        labels = self._labels(batch)
        errors = self.functions.errors(self.state.params, batch.neighborhoods, labels, weights)
        return jax.device_get(errors), labels

    def _display(
        self, curve: LearningCurve, labels: Labels, lr: float, errors: Errors, steps_per_second: float
    ) -> None:
        trained = ErrorMeans()
        trained.add(errors, labels)
        found = {"_trn": trained.roots()}
        if self.valid is not None:
            assert self.settings.training.validation_data is not None
            means = ErrorMeans()
            weights = prefactors(self.settings.loss, lr / self.settings.learning_rate.start_lr)
            for _ in range(self.settings.training.validation_data.numb_btch):
                system, frames = self.valid_order.next()
                batch = self._valid_batch(self.valid, system, frames)
                means.add(*self._errors(batch, weights))
            found["_val"] = means.roots()
        record: dict[str, Any] = {
            f"{name}{kind}": value for kind, roots in found.items() for name, value in roots.items()
        }
        curve.add(self.progress.step, {"lr": lr, **record, "steps_per_second": steps_per_second})
        shown = {name.removesuffix("_trn"): value for name, value in record.items()}
        shown |= {"loss": float(errors.loss), "lr": lr, "steps_per_second": steps_per_second}
        self.reporter.step(self.progress.step, shown)

    def _valid_batch(self, data: Data, system: int, frames: Any) -> Batch:
        picked = [data.systems[system].frame(int(index)) for index in frames]
        return make_batch(picked, self.rcut, self.valid_planner, self.dtype)

    def _validate(self, curve: LearningCurve) -> None:
        """Evaluate the whole validation set; keep the model if it is the best so far."""
        assert self.valid is not None
        means = ErrorMeans()
        weights = self._weights()[1]
        for number, (system, size) in enumerate(zip(self.valid.systems, self.valid.batch_sizes, strict=True)):
            for start in range(0, len(system), size):
                batch = self._valid_batch(self.valid, number, range(start, min(start + size, len(system))))
                means.add(*self._errors(batch, weights))
        roots = means.roots()
        error = validation_error(roots, self.settings.loss)
        step = self.progress.step
        curve.note({"step": step, "full_validation": roots})
        best = self.progress.best_error is None or error < self.progress.best_error
        if best:
            self.progress.best_step, self.progress.best_error = step, error
            self._write_model(self.folder.best, roots)
        text = ", ".join(f"{name} {roots[name]:.4g} {unit}" for name, unit in _UNITS.items() if name in roots)
        self.reporter.message(f"step {step}: whole validation set: {text}{' (best so far)' if best else ''}")

    # Saving

    def _save(self) -> None:
        self._check_weights()
        arrays = {
            **named_arrays(self.state.params, "params"),
            **self.fixed,
            **named_arrays(self.state.optimizer, "optimizer"),
        }
        meta = {
            "progress": asdict(self.progress),
            "seed": self.settings.training.seed,
            "order": self.order_state,
            "valid_order": None if self.valid is None else self.valid_order.state(),
            "planner": self.planner_state,
            "valid_planner": self.valid_planner.state(),
            "bias": list(map(float, self.bias)),
            "sel": self.statistics.sel,
        }
        self.checkpoints.save(self.progress.step, Checkpoint(arrays, meta))
        self.saved = self.progress.step

    def _check_weights(self) -> None:
        """A gradient can be infinite where the loss is not: such weights must not replace good ones."""
        if not all(np.isfinite(array).all() for array in jax.tree.leaves(jax.device_get(self.state.params))):
            raise InputError(
                f"step {self.progress.step}: the weights are no longer finite; lower learning_rate.start_lr. "
                f"{self._last_checkpoint()}"
            )

    def _last_checkpoint(self) -> str:
        if self.saved is None:
            return "There is no checkpoint yet"
        return f"The last checkpoint is that of step {self.saved}"

    def _write_model(self, path: Path, errors: Mapping[str, float] | None = None) -> None:
        facts = provenance(self.settings, self.data, self.progress.step, errors)
        save_model(path, self.functions.model(self.state.params), facts)

    def _finish(self, interrupt: Interrupt) -> TrainResult:
        step = self.progress.step
        if step != self.saved:
            self._save()
        if interrupt.signal is not None and step < self.settings.training.numb_steps:
            name = signal.Signals(interrupt.signal).name
            self.reporter.finish(f"{name}: stopped at step {step} after a checkpoint; go on with --restart")
            return TrainResult(self.folder.path, step, interrupt.signal, self.progress.best_step)
        self._write_model(self.folder.model)
        self.reporter.finish(f"{step} steps done; the model is {self.folder.model}")
        return TrainResult(self.folder.path, step, None, self.progress.best_step)


_UNITS = {"rmse_e": "eV/atom", "rmse_f": "eV/Å", "rmse_v": "eV/atom"}


def restored_model(model: EnergyModel, checkpoint: Checkpoint) -> EnergyModel:
    """The model with all its arrays and its energy bias taken from a checkpoint.

    Raises:
        InputError: the checkpoint is of another model.
    """
    graph, params, fixed = nnx.split(model, nnx.Param, ...)
    params = from_named_arrays(params, "params", checkpoint.arrays)
    fixed = from_named_arrays(fixed, "fixed", checkpoint.arrays)
    restored = nnx.merge(graph, *jax.tree.map(jax.numpy.asarray, (params, fixed)))
    restored.bias = tuple(checkpoint.meta["bias"])
    return restored


def _differences(before: Any, now: Any, path: str) -> list[str]:
    """What differs between two trees of plain settings."""
    if before == now:
        return []
    if not (isinstance(before, dict) and isinstance(now, dict)):
        return [f"{path} was {before!r} and is now {now!r}"]
    keys = dict.fromkeys([*before, *now])
    return [text for key in keys for text in _differences(before.get(key), now.get(key), f"{path}.{key}")]
