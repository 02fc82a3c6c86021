"""Batches made ahead of the training step, in a worker thread."""

from collections import deque
from collections.abc import Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from copy import deepcopy
from typing import Any, Self

import numpy as np

from dpax.data.batches import Batch, LabelWidths, capacity_need, frame_edges, label_widths, make_batch
from dpax.data.capacity import CapacityPlanner
from dpax.data.edge_cache import EdgeCache
from dpax.data.frame import Frame, ParameterWidths, System
from dpax.data.order import BatchOrder
from dpax.geometry.neighborhoods import Capacity
from dpax.geometry.neighbors import EdgeList

GIBIBYTE = 2**30
AHEAD = 2
"""Batches made ahead of the one being consumed."""
SAMPLE_BATCHES = 64
"""Batches, at most, from which the array sizes are chosen."""
SAMPLE_ATOMS = 20_000
"""Atoms after which the sample is large enough: a second or two of neighbour search."""


class BatchLoader:
    """An endless iterator over batches and the states of their order; also a context manager.

    Work runs ahead of the consumer, but `order` and `planner` are always in the state of the batches
    *consumed* have brought them: a checkpoint written after a batch holds `order.state()` and
    `planner.state()`, and a loader made from the restored two continues bit for bit. A planner that
    knows no sizes is primed with the first batches.

    Args:
        systems: the data.
        order: which frames come next.
        cutoff: of the neighbour search, Å.
        planner: chooses the sizes of the arrays.
        dtype: of the edge vectors.
        parameters: how many `fparam` and `aparam` the model takes; none by default.
        labels: those to make room for; by default, of the rarer ones, those that one of the systems has.
        cache_bytes: memory for neighbour lists, so that they are not searched again in every epoch.

    Raises:
        InputError: from `next`, when a frame cannot be read or used.
    """

    def __init__(
        self,
        systems: Sequence[System],
        order: BatchOrder,
        cutoff: float,
        planner: CapacityPlanner,
        dtype: np.typing.DTypeLike,
        *,
        parameters: ParameterWidths | None = None,
        labels: LabelWidths | None = None,
        cache_bytes: int = GIBIBYTE,
    ):
        self._systems = systems
        self._order, self._planner = order, planner
        self._start = deepcopy(order)
        self._order_ahead, self._planner_ahead = deepcopy(order), deepcopy(planner)
        self._cutoff = cutoff
        self._dtype = dtype
        self._parameters = parameters
        self._labels = label_widths(systems) if labels is None else labels
        self._cache = EdgeCache(cache_bytes, dtype)
        self._worker = ThreadPoolExecutor(1, thread_name_prefix="dpax-batches")
        self._pending: deque[tuple[Future[tuple[Batch, dict[str, Any]]], dict[str, Any]]] = deque()

    def __iter__(self) -> Self:
        """Itself."""
        return self

    def __next__(self) -> tuple[Batch, dict[str, Any]]:
        """The next batch, and the state of the order after it."""
        while len(self._pending) <= AHEAD:
            picked = self._order_ahead.next()
            future = self._worker.submit(self._make, picked)
            self._pending.append((future, self._order_ahead.state()))
        future, order_state = self._pending.popleft()
        batch, planner_state = future.result()
        self._order.restore(order_state)
        self._planner.restore(planner_state)
        return batch, order_state

    def __enter__(self) -> Self:
        """Itself."""
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        """Stop the worker thread."""
        self._worker.shutdown(wait=True, cancel_futures=True)

    def _make(self, picked: Sequence[tuple[int, int]]) -> tuple[Batch, dict[str, Any]]:
        planner = self._planner_ahead
        if not planner.primed:
            planner.prime(self._sample())
        frames, edges = self._read(picked)
        batch = make_batch(
            frames,
            self._cutoff,
            planner,
            self._dtype,
            edges,
            parameters=self._parameters,
            labels=self._labels,
        )
        return batch, planner.state()

    def _read(self, picked: Sequence[tuple[int, int]]) -> tuple[list[Frame], list[EdgeList]]:
        frames = [self._systems[system].frame(index) for system, index in picked]
        edges = [
            self._cache.get(place, lambda frame=frame: frame_edges(frame, self._cutoff))
            for place, frame in zip(picked, frames, strict=True)
        ]
        return frames, edges

    def _sample(self) -> list[Capacity]:
        """The needs of the first batches; their neighbour lists stay in the cache."""
        needs: list[Capacity] = []
        order = deepcopy(self._start)
        while len(needs) < SAMPLE_BATCHES and sum(need.atoms for need in needs) < SAMPLE_ATOMS:
            needs.append(capacity_need(*self._read(order.next())))
        return needs
