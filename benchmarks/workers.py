"""One side of a comparison, in a process of its own that does one repetition at a time.

    python benchmarks/workers.py dpax|deepmd-jax|deepmd-pytorch|gemm

Requests come as lines of JSON on stdin: {"model": CASE} writes the model file that all sides read (dpax
alone can); {"prepare": CASE, "name": NAME} makes everything ready, compiles and warms up; {"run": NAME} does
one repetition; {"forget": true} lets go of all. Each is answered by one line of JSON on stdout, with the
seconds it took and the most memory that the process has had. A process waits for its line between
repetitions, so several of them can take turns on the same cores.

Each side does what its users' programs do: a training step is that of its trainer, with Adam; energy, forces
and virial include the neighbour search.
"""

import json
import os
import resource
import sys
import time
from importlib import import_module
from importlib.metadata import version
from typing import Any, TextIO

from case import Case, Repetition, UnavailableError

SIDES = {
    "dpax": ("dpax_side", ("dpax", "jax")),
    "deepmd-jax": ("deepmd_jax_side", ("deepmd-kit", "jax")),
    "deepmd-pytorch": ("deepmd_pytorch_side", ("deepmd-kit", "torch")),
    "gemm": ("gemm_side", ("jax",)),
}
"""Module of each side, and the packages whose versions matter."""
WARM_UP = 2
"""Repetitions after the first: DeePMD-kit's JAX trainer compiles twice, its PyTorch profiles twice."""


class Worker:
    """What a process holds: the repetitions that are ready, by name."""

    def __init__(self, side: str):
        module, self._packages = SIDES[side]
        self._module = import_module(module)
        self._ready: dict[str, Repetition] = {}

    def answer(self, request: dict[str, Any]) -> dict[str, Any]:
        """Do what is asked."""
        if "model" in request:
            self._module.write_model(request["model"])
        elif "prepare" in request:
            return self._prepare(request["name"], request["prepare"])
        elif "forget" in request:
            self._ready.clear()
        else:
            self._ready[request["run"]]()
        return {}

    def _prepare(self, name: str, case: Case) -> dict[str, Any]:
        try:
            repetition, facts = self._module.prepare(case)
        except UnavailableError as reason:
            return {"unavailable": str(reason)}
        result = repetition()
        for _ in range(case.get("warm_up", WARM_UP)):
            repetition()
        self._ready[name] = repetition
        return {**facts, "result": result, "versions": {name: version(name) for name in self._packages}}


def serve(side: str, requests: TextIO, reply: TextIO) -> None:
    """Answer requests until there are no more."""
    worker = Worker(side)
    for line in requests:
        began = time.perf_counter()
        answer = worker.answer(json.loads(line))
        answer["seconds"] = time.perf_counter() - began
        answer["peak"] = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024
        reply.write(json.dumps(answer) + "\n")
        reply.flush()


def main() -> None:
    """Keep stdout for the answers: what libraries print goes to stderr."""
    reply = os.fdopen(os.dup(1), "w", encoding="utf-8")
    os.dup2(2, 1)
    serve(sys.argv[1], sys.stdin, reply)


if __name__ == "__main__":
    main()
