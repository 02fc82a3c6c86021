"""The order in which frames are drawn: random, and resumable from a few counters."""

from collections.abc import Sequence, Sized
from typing import Any

import numpy as np

from dpax.errors import InputError

# Distinct streams of random numbers from one seed.
_DRAW, _SHUFFLE = 0, 1


class BatchOrder:
    """An endless sequence of batches, each of frames of one system, or mixed from all of them.

    At each step a system is drawn. Its frames are shuffled, consumed in batches, and shuffled again
    when fewer than a batch are left (those wait for another shuffle); a system smaller than its batch
    gives all its frames each time. A mixed batch is drawn frame by frame: each time a system, which gives
    its next frame. Every random number follows from the seed and the counters, so the state is the
    counters alone.

    Args:
        systems: their lengths matter, and how often they want each frame taken (`System.copies`).
        batch_sizes: frames in a batch of each; of mixed batches all the same.
        seed: at least 0.
        probabilities: of drawing each system; in proportion to its number of batches if not given.
        mixed: whether frames of all systems share a batch.

    Raises:
        InputError: the probabilities do not fit the systems.
    """

    def __init__(
        self,
        systems: Sequence[Sized],
        batch_sizes: Sequence[int],
        seed: int,
        probabilities: Sequence[float] | None = None,
        *,
        mixed: bool = False,
    ):
        self._copies = [getattr(system, "copies", None) for system in systems]
        self._lengths = [len(system) for system in systems]
        self._frames = [
            n if copies is None else int(copies.sum())
            for n, copies in zip(self._lengths, self._copies, strict=True)
        ]
        sizes = [min(b, n) for b, n in zip(batch_sizes, self._frames, strict=True)]
        self._sizes = [1] * len(sizes) if mixed else sizes
        self._draws = batch_sizes[0] if mixed else 1
        self._seed = seed
        batches = [n // size for n, size in zip(self._frames, sizes, strict=True)]
        self._cumulative = np.cumsum(
            _checked(batches if probabilities is None else probabilities, len(batches))
        )
        self._step = 0
        self._epochs = [0] * len(batches)
        self._positions = [0] * len(batches)
        self._shuffled: dict[int, tuple[int, np.ndarray]] = {}

    def next(self) -> list[tuple[int, int]]:
        """Draw a batch: for each of its frames the index of the system, and of the frame in it."""
        draws = np.random.default_rng([_DRAW, self._seed, self._step]).random(self._draws)
        systems = np.searchsorted(self._cumulative, draws * self._cumulative[-1], side="right")
        self._step += 1
        return [(system, frame) for system in systems.tolist() for frame in self._take(system)]

    def _take(self, system: int) -> list[int]:
        """The frames that a system gives next."""
        size = self._sizes[system]
        if self._positions[system] + size > self._frames[system]:
            self._epochs[system] += 1
            self._positions[system] = 0
        start = self._positions[system]
        self._positions[system] += size
        return self._permutation(system)[start : start + size].tolist()

    def _permutation(self, system: int) -> np.ndarray:
        epoch = self._epochs[system]
        known = self._shuffled.get(system)
        if known is None or known[0] != epoch:
            generator = np.random.default_rng([_SHUFFLE, self._seed, system, epoch])
            copies = self._copies[system]
            frames = self._lengths[system] if copies is None else np.repeat(np.arange(len(copies)), copies)
            known = self._shuffled[system] = epoch, generator.permutation(frames)
        return known[1]

    def state(self) -> dict[str, Any]:
        """Where the sequence stands, as integers that JSON can hold."""
        return {
            "step": self._step,
            "epochs": list(self._epochs),
            "positions": list(self._positions),
            "frames": list(self._frames),
        }

    def restore(self, state: dict[str, Any]) -> None:
        """Go on from where `state` was taken.

        Raises:
            InputError: the state is of other data.
        """
        if list(state["frames"]) != self._frames:
            raise InputError(
                f"the training was interrupted with systems of {_shorten(state['frames'])} frames, but the "
                f"data now has {_shorten(self._frames)}; restore the data, or start a new training from "
                "the model"
            )
        self._step = int(state["step"])
        self._epochs = list(state["epochs"])
        self._positions = list(state["positions"])


def _checked(weights: Sequence[float], n_systems: int) -> np.ndarray:
    array = np.asarray(weights, dtype=np.float64)
    if array.shape != (n_systems,) or not np.isfinite(array).all() or (array < 0).any() or array.sum() <= 0:
        raise InputError(
            f"the probabilities of the systems are {list(weights)}, expected {n_systems} numbers >= 0, "
            "one for each system, not all zero"
        )
    return array


def _shorten(frames: Sequence[int]) -> str:
    shown = ", ".join(str(n) for n in frames[:8])
    return f"{shown}, ... ({len(frames)} systems)" if len(frames) > 8 else shown
