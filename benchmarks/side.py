"""A side of a comparison, as seen from the process that gives it its turns."""

import json
import os
import subprocess
from functools import cached_property
from pathlib import Path
from typing import Any, TextIO

WORKERS = Path(__file__).with_name("workers.py")
SHARED_CARD = {"XLA_PYTHON_CLIENT_PREALLOCATE": "false"}
"""Several processes take turns on one GPU: by default the first JAX takes three quarters of its memory."""


class Side:
    """A worker process.

    Args:
        name: of the side.
        python: its Python.
        log: takes what it prints.
    """

    def __init__(self, name: str, python: str, log: TextIO):
        self.name, self._log = name, log
        self._process = subprocess.Popen(
            [python, str(WORKERS), name],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=log,
            text=True,
            encoding="utf-8",
            env=SHARED_CARD | os.environ,
        )

    @cached_property
    def report(self) -> dict[str, Any]:
        """What it runs on: kind ("cpu" or "gpu"), devices, threads, settings and versions."""
        return self.ask(report=True)

    def ask(self, **request: Any) -> dict[str, Any]:
        """Send a request and wait for the answer."""
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        self._process.stdin.write(json.dumps(request) + "\n")
        self._process.stdin.flush()
        line = self._process.stdout.readline()
        if not line:
            raise SystemExit(f"{self.name} has died:\n{Path(self._log.name).read_text()[-3000:]}")
        return json.loads(line)

    def close(self) -> None:
        """Let the process end."""
        assert self._process.stdin is not None
        self._process.stdin.close()
        self._process.wait()
