"""One side of a comparison, in a process of its own that does one repetition at a time.

    python benchmarks/workers.py dpax|deepmd-jax|deepmd-pytorch|gemm

Requests come as lines of JSON on stdin: {"prepare": CASE} makes everything ready, compiles and warms up;
{"run": true} does one repetition. Each is answered by one line of JSON on stdout. A process waits for its
line between repetitions, so several of them can take turns on the same cores.

Each side does what its users' programs do: a training step is that of its trainer, with Adam; energy, forces
and virial include the neighbour search.
"""

import json
import os
import sys
import time
from importlib import import_module
from importlib.metadata import version
from typing import Any, TextIO

from case import Repetition

SIDES = {
    "dpax": ("dpax_side", ("dpax", "jax")),
    "deepmd-jax": ("deepmd_jax_side", ("deepmd-kit", "jax")),
    "deepmd-pytorch": ("deepmd_pytorch_side", ("deepmd-kit", "torch")),
    "gemm": ("gemm_side", ("jax",)),
}
"""Module of each side, and the packages whose versions matter."""
WARM_UP = 3
"""DeePMD-kit's JAX trainer compiles in its first two steps."""


def serve(side: str, requests: TextIO, reply: TextIO) -> None:
    """Answer requests until there are no more."""
    module, packages = SIDES[side]
    prepare = import_module(module).prepare
    repetition: Repetition | None = None
    for line in requests:
        request = json.loads(line)
        answer: dict[str, Any] = {}
        began = time.perf_counter()
        if "prepare" in request:
            repetition = None  # lets go of the case before
            repetition, answer = prepare(request["prepare"])
            answer["result"] = repetition()
            for _ in range(WARM_UP - 1):
                repetition()
            answer["versions"] = {package: version(package) for package in packages}
        elif repetition is not None:
            repetition()
        answer["seconds"] = time.perf_counter() - began
        reply.write(json.dumps(answer) + "\n")
        reply.flush()


def main() -> None:
    """Keep stdout for the answers: what libraries print goes to stderr."""
    reply = os.fdopen(os.dup(1), "w", encoding="utf-8")
    os.dup2(2, 1)
    serve(sys.argv[1], sys.stdin, reply)


if __name__ == "__main__":
    main()
