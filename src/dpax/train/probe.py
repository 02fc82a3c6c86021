"""A training run up to its first step, and what a step costs: what can be known before it is begun."""

import resource
import statistics
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import jax
import numpy as np

from dpax.computing import computing
from dpax.data import Batch
from dpax.model.blocks import make_mesh
from dpax.train.beginning import new_run
from dpax.train.origin import choose_origin
from dpax.train.reporter import Silent
from dpax.train.run import RunFolder
from dpax.train.settings import InputSettings
from dpax.train.training import Training

_STEPS = 3
"""Steps after the first, of which the median is taken."""


@dataclass(frozen=True)
class StepProbe:
    """What a step costs."""

    seconds_compile: float
    """Of the first step, which includes the compilation."""
    seconds_step: float
    """Median of further steps."""
    peak_memory_bytes: int
    """Of a GPU, or of the whole process where there is none."""
    n_atoms: int
    """Real atoms in the batch."""
    n_slots: int
    """Neighbour slots of each atom."""
    total_steps: int
    """Of the training."""


@contextmanager
def prepared(settings: InputSettings, base: Path | None = None) -> Iterator[tuple[Training, Batch]]:
    """A training run up to its first step, and its first batch; nothing is written that stays.

    Args:
        settings: a whole input.
        base: folder that relative paths in the settings start from.

    Raises:
        InputError: anything that a training run would refuse before its first step.
    """
    choose_origin(settings, restart=False, init_model=None, finetune=None)
    with tempfile.TemporaryDirectory() as folder, computing(settings.model.needs_x64):
        run, mesh = RunFolder(Path(folder)), make_mesh()
        training = Training(new_run(settings, run, base, None, mesh, Silent().message), run, mesh)
        with training.learner.open_loader() as loader:
            batch, _ = next(loader)
        yield training, batch


def time_steps(training: Training, batch: Batch) -> StepProbe:
    """Take the first steps of a prepared training run."""
    first, *others = (_timed(training, batch) for _ in range(1 + _STEPS))
    return StepProbe(
        seconds_compile=first,
        seconds_step=statistics.median(others),
        peak_memory_bytes=_peak_memory(training.mesh.devices.flat[0]),
        n_atoms=int(np.sum(np.asarray(batch.neighborhoods.types) >= 0)),
        n_slots=batch.neighborhoods.edges.shape[1],
        total_steps=training.total,
    )


def _timed(training: Training, batch: Batch) -> float:
    start = time.perf_counter()
    training.step(batch)
    jax.block_until_ready(training.learner.state)
    return time.perf_counter() - start


def _peak_memory(device: Any) -> int:
    memory = device.memory_stats() or {}
    if "peak_bytes_in_use" in memory:
        return int(memory["peak_bytes_in_use"])
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return peak if sys.platform == "darwin" else 1024 * peak  # kilobytes, except on macOS
