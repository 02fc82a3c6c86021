"""What all sides of a comparison agree on."""

import os
from collections.abc import Callable
from typing import Any

Case = dict[str, Any]
"""JSON-able. task ("step", "molecules" or "forces"); precision; molecules (of water) and repeats (of their
box in each direction); dynamics (whether atoms hardly move from one evaluation to the next); type_map,
descriptor and fitting (settings); compressed; tf32 (whether float32 products are made in TF32); warm_up; and
the file of the model, through which all sides share the weights."""
Repetition = Callable[[], dict[str, Any] | None]
"""Does the work once and returns what can be compared between the sides: loss, or energy and forces."""

LOSS = {"start_pref_e": 0.02, "limit_pref_e": 1.0, "start_pref_f": 1000.0, "limit_pref_f": 1.0}
LEARNING_RATE: dict[str, Any] = {"type": "exp", "start_lr": 1e-3, "stop_lr": 1e-4, "decay_steps": 100}
STEPS = 1000
"""Length of the training that the steps are taken from."""


class UnavailableError(Exception):
    """A side cannot do what a case asks for; the message says why."""


def cores() -> int:
    """The number of cores that this process may use."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
