"""Structures that move, and threads that evaluate them as unluckily as threads can."""

import sys
import threading
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from typing import Any

import ase
import jax
import numpy as np

from dpax import Potential
from dpax.model.energy_model import initial_model
from dpax.nn.arrays import placed
from model.support import tiny_model, tiny_spec

OPTIONS = {"attn_layer": 1, "neuron": [4, 8]}
"""Of the model of most tests of this room: its programs are compiled once."""


def water(seed: int = 0, n: int = 24, box: float = 7.0) -> ase.Atoms:
    """O and H, not closer than about 1 Å to each other."""
    rng = np.random.default_rng(seed)
    side = int(np.ceil(np.cbrt(n)))
    grid = np.array(np.meshgrid(*[np.arange(side)] * 3)).reshape(3, -1).T[:n] * box / side
    shaken = grid + rng.uniform(-0.2, 0.2, (n, 3))
    return ase.Atoms(["O", "H", "H"] * (n // 3), shaken, cell=[box] * 3, pbc=True)


def walk(seed: int, steps: int, n: int = 24) -> list[ase.Atoms]:
    """A structure whose atoms move a little from step to step."""
    structures = [water(seed, n)]
    for step in range(1, steps):
        moved = structures[-1].copy()
        moved.rattle(0.02, seed=1000 * seed + step)
        structures.append(moved)
    return structures


def told_potential(numb_fparam: int, numb_aparam: int, **options: Any) -> Potential:
    """Of a model that is told so many numbers of each frame and of each atom, with a random fitting net."""
    plain = tiny_model(**options)
    told = {"fitting_numb_fparam": numb_fparam, "fitting_numb_aparam": numb_aparam}
    model = initial_model(tiny_spec(plain.spec.descriptor, (16,), **told), seed=1)
    return Potential(model.with_arrays(placed(plain.descriptor, "descriptor")))


@contextmanager
def hasty_switching() -> Iterator[None]:
    """Python changes from thread to thread five hundred times as often as it does by itself."""
    before = sys.getswitchinterval()
    sys.setswitchinterval(1e-5)
    try:
        yield
    finally:
        sys.setswitchinterval(before)


def in_threads(function: Callable[[Any], object], arguments: Sequence[Any]) -> list[BaseException]:
    """Call a function with each argument in a thread of its own, all at once; the exceptions raised."""
    start, errors = threading.Barrier(len(arguments)), []

    def run(argument: Any) -> None:
        start.wait()
        try:
            function(argument)
        except Exception as error:
            errors.append(error)

    threads = [threading.Thread(target=run, args=(argument,), daemon=True) for argument in arguments]
    with hasty_switching():
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join(600)
    assert not any(thread.is_alive() for thread in threads), "a thread hangs"
    return errors


@contextmanager
def compilations() -> Iterator[list[str]]:
    """A list that grows with every program compiled within."""
    seen: list[str] = []

    def note(event: str, duration: float, **_: object) -> None:
        if event == "/jax/core/compile/backend_compile_duration":
            seen.append(event)

    jax.monitoring.register_event_duration_secs_listener(note)
    try:
        yield seen
    finally:
        jax.monitoring.unregister_event_duration_listener(note)
