"""Where JAX computes: in the precision asked for, and only in a process that has JAX's threads.

A process forked from one in which JAX has started inherits JAX's memory but none of its threads, and would
wait for them forever. From the moment dpax is imported, every fork notes whether JAX has started.
"""

import os
import sys
from contextlib import AbstractContextManager
from pathlib import Path
from typing import Any

from dpax.errors import InputError


def computing(x64: bool) -> AbstractContextManager[None]:
    """For everything that dpax computes with JAX: its 64-bit mode is on or off within, in this thread alone.

    Args:
        x64: whether anything is computed in float64.

    Raises:
        InputError: as `refuse_fork`.
    """
    refuse_fork()
    import jax

    return jax.enable_x64(x64)


def refuse_fork() -> None:
    """Check that JAX can compute in this process.

    Raises:
        InputError: the process was forked from one in which JAX had started.
    """
    if _forks.threads_lost:
        raise InputError(
            f"process {os.getpid()} was forked after JAX had started, and any computation in it would hang: "
            "start worker processes with multiprocessing.get_context('spawn') instead of fork"
        )


class _Forks:
    """Whether JAX has lost its threads in a fork."""

    def __init__(self) -> None:
        self.threads_lost = _jax_has_started() and _is_alone()
        self.child_loses_them = False

    def before(self) -> None:
        """In the parent."""
        self.child_loses_them = self.threads_lost or _jax_has_started()

    def in_child(self) -> None:
        """In the new process."""
        self.threads_lost = self.child_loses_them


def _jax_has_started() -> bool:
    """Whether JAX has its devices, and with them threads; nothing public tells without starting it."""
    bridge: Any = sys.modules.get("jax._src.xla_bridge")
    return bridge is not None and bridge.backends_are_initialized()


def _is_alone() -> bool:
    """Whether this process has one thread, like one forked before it imported dpax; known on Linux only."""
    tasks = Path("/proc/self/task")
    return tasks.is_dir() and len(list(tasks.iterdir())) == 1


_forks = _Forks()
if hasattr(os, "register_at_fork"):  # not on Windows, which has no fork
    os.register_at_fork(before=_forks.before, after_in_child=_forks.in_child)
