"""Checkpoints: the complete state of a training run, stored by orbax, verified when read."""

import errno
import json
import logging
import sys
import tempfile
from collections.abc import Callable, Iterator, Mapping
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from functools import cache, wraps
from pathlib import Path
from typing import Any, ParamSpec, Self, TypeVar

import jax
import numpy as np
import orbax.checkpoint as ocp
from jaxtyping import PyTree

from dpax.contents import check_tree, sha256
from dpax.errors import WRONG_CONTENTS, InputError, MachineError, brief
from dpax.faults import error_number, machine_error
from dpax.files import writing
from dpax.model.energy_model import EnergyModel
from dpax.model.orbax_arrays import read_arrays
from dpax.nn.arrays import below, numbers

_DIGEST = "sha256"
_ITEMS = ("arrays", "meta")
_PATTERN = frozenset("*?[\\")
_NOT_DAMAGE = {errno.EMFILE, errno.ENFILE, errno.EACCES, errno.EPERM, errno.EIO, errno.ESTALE, errno.ENOMEM}
"""Reasons why a checkpoint cannot be read now, although it may be intact."""
P = ParamSpec("P")
T = TypeVar("T")


@dataclass(frozen=True)
class Checkpoint:
    """What a training run needs to continue as if it had not been interrupted."""

    arrays: dict[str, np.ndarray]
    """By name: parameters, their average, fixed arrays of the model, optimizer."""
    meta: dict[str, Any]
    """JSON-able: step, order of the data, best error, energy bias and so on."""


class _Facts(dict):
    """A dictionary of a checkpoint, where a missing key is no bug of the program."""

    def __missing__(self, key: str) -> Any:
        raise InputError(
            f"the checkpoint was written by another version of dpax: it lacks {key!r}. {_REMEDY}"
        )


_REMEDY = "Continue with that version, or start a new run from the run's model: --init-model RUN/model.dpax"


def reads_contents(function: Callable[P, T]) -> Callable[P, T]:
    """A function that takes a checkpoint apart; its failures become an `InputError`."""

    @wraps(function)
    def guarded(*args: P.args, **keywords: P.kwargs) -> T:
        try:
            return function(*args, **keywords)
        except InputError:
            raise
        except WRONG_CONTENTS as error:
            reason = f"{type(error).__name__}: {brief(error)}"
            raise InputError(
                f"the checkpoint was written by another version of dpax, or is damaged ({reason}). {_REMEDY}"
            ) from error

    return guarded


class Checkpoints:
    """The checkpoints in a folder.

    Args:
        folder: made if it is not there, unless it is only read.
        keep: how many of the latest are kept; None keeps all.
        read_only: change nothing: half-written files may belong to a training run in progress.
    """

    def __init__(self, folder: Path, keep: int | None = None, *, read_only: bool = False):
        # orbax logs every step and failure; the training run itself reports them to users.
        logging.getLogger("absl").setLevel(logging.CRITICAL)
        self.folder = folder
        self._link = ExitStack()
        if not read_only:
            with writing(folder):
                folder.mkdir(parents=True, exist_ok=True)
        self._path = self._link.enter_context(_plain_path(folder))
        self._manager = None if read_only else _manager(self._path, keep)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        if self._manager is not None:
            self._manager.close()
        self._link.close()

    def steps(self) -> list[int]:
        """Steps of the existing checkpoints, oldest first."""
        names = [path.name for path in self.folder.iterdir() if path.is_dir()]
        return sorted(int(name) for name in names if name.isdecimal())

    def save(self, step: int, checkpoint: Checkpoint) -> None:
        """Write a checkpoint of a step that is later than all others.

        Raises:
            MachineError: it cannot be written; the earlier ones are as they were.
        """
        assert self._manager is not None
        meta = {**checkpoint.meta, _DIGEST: _digest(checkpoint)}
        _ignore_late_writes()
        with writing(self.folder / str(step)):
            self._manager.save(
                step,
                force=True,
                args=ocp.args.Composite(
                    arrays=ocp.args.StandardSave(checkpoint.arrays), meta=ocp.args.JsonSave(meta)
                ),
            )

    def drop_after(self, step: int) -> None:
        """Remove the checkpoints of later steps: damaged ones, which a restarted run will rewrite."""
        assert self._manager is not None
        for later in self.steps():
            if later > step:
                self._manager.delete(later)

    def restore(self, step: int) -> Checkpoint:
        """Read one checkpoint.

        Raises:
            InputError: there is none for this step, or it is damaged.
        """
        if step not in self.steps():
            steps = ", ".join(map(str, self.steps())) or "none"
            raise InputError(f"{self.folder}: no checkpoint of step {step}; there are: {steps}")
        place = self.folder / str(step)
        try:
            arrays = {
                name: np.asarray(array)
                for name, array in read_arrays(self._path / str(step) / "arrays").items()
            }
            meta = json.loads((place / "meta" / "metadata").read_text(encoding="utf-8"))
            check_tree(meta)
        except Exception as error:  # orbax and its storage raise many kinds for damaged files
            passing = isinstance(error, MemoryError) or error_number(error) in _NOT_DAMAGE
            known = machine_error(error) if passing else None
            if known is not None:
                raise MachineError(f"{place}: {known}") from error
            raise InputError(f"{place}: damaged checkpoint ({type(error).__name__})") from None
        if not isinstance(meta, dict):
            raise InputError(f"{place}: damaged checkpoint (its metadata is not a dictionary)")
        digest = meta.pop(_DIGEST, None)
        checkpoint = Checkpoint(arrays, _with_names(meta))
        # Version 0.1 made its digests in another way; its arrays are refused where they are put into a model.
        if digest != _digest(checkpoint) and "digest" not in meta:
            raise InputError(f"{place}: damaged checkpoint (its contents have changed)")
        return checkpoint

    def latest(self, warn: Callable[[str], None]) -> Checkpoint:
        """Read the latest checkpoint that is not damaged; report each that is.

        Raises:
            InputError: there is none.
        """
        steps = self.steps()
        for step in reversed(steps):
            try:
                return self.restore(step)
            except MachineError:
                raise  # the training must not fall back behind a sound checkpoint
            except InputError as error:
                warn(f"{error}; trying the one before" if step != steps[0] else str(error))
        raise InputError(
            f"{self.folder}: no usable checkpoint; start the training anew with --overwrite, or in another "
            "folder"
        )


@contextmanager
def _plain_path(folder: Path) -> Iterator[Path]:
    """A path to a folder for orbax, in which characters of file patterns are escaped."""
    path = folder.absolute()
    if not _PATTERN.intersection(str(path)):
        yield path
        return
    with tempfile.TemporaryDirectory(prefix="dpax-") as temporary:
        link = Path(temporary) / folder.name.translate(dict.fromkeys(map(ord, _PATTERN), "_"))
        link.symlink_to(path, target_is_directory=True)
        yield link


def _manager(folder: Path, keep: int | None) -> ocp.CheckpointManager:
    """What writes and removes checkpoints. Unfinished ones belong to no process and are removed."""
    options = ocp.CheckpointManagerOptions(
        max_to_keep=keep,
        enable_async_checkpointing=False,
        create=True,
        cleanup_tmp_directories=True,
        save_interval_steps=1,
    )
    try:
        return ocp.CheckpointManager(folder, options=options, item_names=_ITEMS)
    except (TypeError, ValueError):
        # orbax reads the notes that it has made of each checkpoint; no checkpoint needs them.
        for notes in folder.glob("*/_CHECKPOINT_METADATA"):
            notes.unlink()
        return ocp.CheckpointManager(folder, options=options, item_names=_ITEMS)


@cache
def _ignore_late_writes() -> None:
    """Print nothing about writes that end after another one has failed: nothing waits for them any more.

    The storage library reports them to an event loop that is closed, from threads of its own, and the event
    loop reports the tasks of orbax that it had begun.
    """
    logging.getLogger("asyncio").addFilter(lambda record: "orbax" not in record.getMessage())
    report = sys.unraisablehook

    def hook(unraisable: Any) -> None:
        error = unraisable.exc_value
        if not (isinstance(error, RuntimeError) and "Event loop is closed" in str(error)):
            report(unraisable)

    sys.unraisablehook = hook


def named_arrays(tree: PyTree, prefix: str) -> dict[str, np.ndarray]:
    """The leaves of a tree by the names of their paths."""
    leaves = jax.tree_util.tree_leaves_with_path(tree)
    return {f"{prefix}{jax.tree_util.keystr(path)}": np.asarray(leaf) for path, leaf in leaves}


def from_named_arrays(template: PyTree, prefix: str, arrays: Mapping[str, np.ndarray]) -> PyTree:
    """A tree like the template with its leaves taken by name.

    Raises:
        InputError: a leaf is missing or has another shape: the checkpoint is of another model.
    """

    def take(path: Any, leaf: Any) -> np.ndarray:
        name = f"{prefix}{jax.tree_util.keystr(path)}"
        if name not in arrays:
            raise InputError(f"the checkpoint is of another model: it lacks {name}")
        if arrays[name].shape != np.shape(leaf):
            raise InputError(
                f"the checkpoint is of another model: {name} has shape {arrays[name].shape}, "
                f"expected {np.shape(leaf)}"
            )
        return arrays[name]

    return jax.tree_util.tree_map_with_path(take, template)


def restored_model(model: EnergyModel, checkpoint: Checkpoint, *, averaged: bool = False) -> EnergyModel:
    """The model with all its arrays and its energy bias taken from a checkpoint.

    Args:
        model: like that of the checkpoint.
        checkpoint: of a training.
        averaged: take the moving average of the weights instead of the weights.

    Raises:
        InputError: the checkpoint is of another model, or keeps no average.
    """
    parts = {part: below(checkpoint.arrays, part) for part in ("params", "fixed", "averaged")}
    if not parts["params"]:
        raise InputError(f"the checkpoint was written by another version of dpax. {_REMEDY}")
    if averaged and not parts["averaged"]:
        raise InputError("the checkpoint keeps no averaged weights; train with training.enable_ema")
    arrays = {**parts["fixed"], **parts["averaged" if averaged else "params"]}
    for name, own in model.arrays.items():
        if name not in arrays:
            raise InputError(f"the checkpoint is of another model: it lacks {name}")
        if arrays[name].shape != own.shape:
            raise InputError(
                f"the checkpoint is of another model: {name} has shape {arrays[name].shape}, "
                f"expected {own.shape}"
            )
    bias = numbers(checkpoint.meta, "bias", (len(model.type_map),))
    if not np.isfinite(bias).all():
        raise InputError(f"the checkpoint's energy bias is not finite: {bias.tolist()}")
    return model.with_arrays({name: arrays[name] for name in model.arrays}).with_bias(bias)


def _with_names(tree: Any) -> Any:
    """Plain facts; a missing key of theirs is reported by name."""
    if isinstance(tree, Mapping):
        return _Facts({key: _with_names(value) for key, value in tree.items()})
    return tree


def _digest(checkpoint: Checkpoint) -> str:
    return sha256(json.dumps(checkpoint.meta, sort_keys=True), checkpoint.arrays)
