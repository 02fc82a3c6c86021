"""The model of a training run, from one of its checkpoints."""

from collections.abc import Callable
from typing import Any

from dpax.errors import InputError
from dpax.model.energy_model import EnergyModel, initial_model, spec_of
from dpax.train.checkpoints import Checkpoints, restored_model
from dpax.train.run import RunFolder
from dpax.train.setup import provenance


def model_of_run(
    folder: RunFolder, step: int | None = None, *, averaged: bool = False, warn: Callable[[str], None]
) -> tuple[EnergyModel, dict[str, Any]]:
    """The model of a checkpoint, and where it comes from.

    Args:
        folder: of the run.
        step: of the checkpoint; None takes the last one that is not damaged.
        averaged: take the moving average of the weights.
        warn: hears of damaged checkpoints.

    Raises:
        InputError: no run, or no such checkpoint.
    """
    settings = folder.read_settings()
    if not folder.checkpoints.is_dir():
        raise InputError(
            f"{folder.path}: the run has no checkpoint yet; wait for one, or train with --restart"
        )
    with Checkpoints(folder.checkpoints, read_only=True) as checkpoints:
        checkpoint = checkpoints.latest(warn) if step is None else checkpoints.restore(step)
    fresh = initial_model(spec_of(settings.model, checkpoint.meta["sel"]), seed=0)
    model = restored_model(fresh, checkpoint, averaged=averaged)
    return model, provenance(settings, checkpoint.meta["progress"]["step"], None)
