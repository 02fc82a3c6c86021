"""What has to be settled before JAX starts: its devices."""

import os
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from dpax.errors import InputError

if TYPE_CHECKING:
    from dpax.infer import Potential

Devices = Annotated[
    int | None, typer.Option(help="Devices to share the work; default: every core, or all GPUs.")
]
"""The option `--devices` of every command that computes."""
Branch = Annotated[
    str | None,
    typer.Option(
        "--branch",
        "--head",
        "--model-branch",
        help="Branch of a multi-task model of DeePMD-kit: its name or alias.",
    ),
]
"""The option `--branch` of every command that reads a model."""


def cores() -> int:
    """The number of cores that this process may use."""
    if hasattr(os, "sched_getaffinity"):
        return len(os.sched_getaffinity(0))
    return os.cpu_count() or 1


def start_jax(devices: int | None) -> None:
    """Give JAX one host device for each core; whether it computes in float64 the models say themselves.

    Args:
        devices: number of devices instead; of host devices, and of GPUs where there are any.

    Raises:
        InputError: not a positive number of devices.
    """
    if devices is not None and devices < 1:
        raise InputError(f"--devices: should be at least 1, got {devices}")
    import jax

    jax.config.update("jax_num_cpu_devices", devices or cores())
    if devices is not None:
        jax.config.update("jax_cuda_visible_devices", ",".join(map(str, range(devices))))


def load_potential(path: Path, devices: int | None, branch: str | None = None) -> "Potential":
    """Start JAX and load a model, which computes in its own precision.

    Raises:
        InputError: the file is no model, it has no such branch, or `devices` is not positive.
    """
    start_jax(devices)
    from dpax.interfaces.model_files import load

    return load(path, branch=branch)
