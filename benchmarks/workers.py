"""One side of a comparison, in a process of its own that does one turn at a time.

    python benchmarks/workers.py dpax|deepmd-jax|deepmd-pytorch|gemm

Requests come as lines of JSON on stdin: {"report": true} asks what the side runs on; {"model": CASE} writes
the model file that all sides read (dpax alone can); {"prepare": CASE, "name": NAME} makes everything ready,
compiles and warms up; {"run": NAME, "fill": SECONDS} repeats the work at least once, until so many seconds
are full; {"forget": true} lets go of all. Each is answered by one line of JSON on stdout, with the seconds it
took and the most memory, of the host and of a GPU, that the process has had. A process waits for its line
between turns, so several of them can take turns on the same cores and the same GPU.

Each side does what its users' programs do: a training step is that of its trainer, with Adam; energy, forces
and virial include the neighbour search.
"""

import json
import os
import resource
import sys
import time
from collections.abc import Sequence
from contextlib import suppress
from importlib import import_module
from importlib.metadata import PackageNotFoundError, version
from typing import Any, TextIO

from case import Case, Repetition, UnavailableError

JAX_PACKAGES = ("jax", "jaxlib", "jax-cuda12-plugin", "jax-cuda13-plugin")
SIDES = {
    "dpax": ("dpax_side", "jax_device", ("dpax", *JAX_PACKAGES, "vesin")),
    "deepmd-jax": ("deepmd_jax_side", "jax_device", ("deepmd-kit", *JAX_PACKAGES)),
    "deepmd-pytorch": (
        "deepmd_pytorch_side",
        "torch_device",
        ("deepmd-kit", "torch", "vesin", "vesin-torch"),
    ),
    "gemm": ("gemm_side", "jax_device", JAX_PACKAGES),
}
"""Modules of each side and of what it runs on, and the packages whose versions matter, if installed."""


class Worker:
    """What a process holds: the repetitions that are ready, by name."""

    def __init__(self, side: str):
        module, device, self._packages = SIDES[side]
        self._module = import_module(module)  # first: it sets what has to be set before JAX starts
        self._device = import_module(device)
        self._ready: dict[str, Repetition] = {}

    def answer(self, request: dict[str, Any]) -> dict[str, Any]:
        """Do what is asked."""
        if "report" in request:
            return {**self._device.report(), "versions": versions(self._packages)}
        if "model" in request:
            self._module.write_model(request["model"])
        elif "prepare" in request:
            return self._prepare(request["name"], request["prepare"])
        elif "forget" in request:
            self._ready.clear()
            self._device.release()
        else:
            return {"calls": calls(self._ready[request["run"]], request["fill"])}
        return {}

    def peaks(self) -> dict[str, int | None]:
        """The most memory that the process has had so far, bytes."""
        host = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024
        return {"host_peak": host, "device_peak": self._device.peak()}

    def _prepare(self, name: str, case: Case) -> dict[str, Any]:
        try:
            repetition, facts = self._module.prepare(case)
            result = repetition()
            for _ in range(case["warm_up"]):
                repetition()
        except UnavailableError as reason:
            return {"unavailable": str(reason)}
        self._ready[name] = repetition
        return {**facts, "result": result}


def calls(work: Repetition, fill: float) -> list[float]:
    """Seconds of each call, of as many as it takes to fill so many seconds."""
    seconds: list[float] = []
    while not seconds or sum(seconds) < fill:
        began = time.perf_counter()
        work()
        seconds.append(time.perf_counter() - began)
    return seconds


def versions(packages: Sequence[str]) -> dict[str, str]:
    """Of those packages that are installed."""
    installed = {}
    for name in packages:
        with suppress(PackageNotFoundError):
            installed[name] = version(name)
    return installed


def serve(side: str, requests: TextIO, reply: TextIO) -> None:
    """Answer requests until there are no more."""
    worker = Worker(side)
    for line in requests:
        began = time.perf_counter()
        answer = worker.answer(json.loads(line))
        answer["seconds"] = time.perf_counter() - began
        reply.write(json.dumps(answer | worker.peaks()) + "\n")
        reply.flush()


def main() -> None:
    """Keep stdout for the answers: what libraries print goes to stderr."""
    reply = os.fdopen(os.dup(1), "w", encoding="utf-8")
    os.dup2(2, 1)
    serve(sys.argv[1], sys.stdin, reply)


if __name__ == "__main__":
    main()
