"""How commands that compute start: JAX's devices and a model."""

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from dpax.errors import InputError
from dpax.machine import configure, start_devices

if TYPE_CHECKING:
    from dpax.infer import Potential

Devices = Annotated[int | None, typer.Option(help="Number of devices; default: every core, or all GPUs.")]
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


def start_jax(devices: int | None) -> None:
    """See `dpax.configure`; whether JAX computes in float64 the models say themselves.

    Args:
        devices: value of the option `--devices`.

    Raises:
        InputError: not a sensible number of devices, or JAX does not find those that it should use.
    """
    if devices is not None and devices < 1:
        raise InputError(f"--devices: should be at least 1, got {devices}")
    configure(devices)
    start_devices()


def load_potential(path: Path, devices: int | None, branch: str | None = None) -> "Potential":
    """Start JAX and load a model, which computes in its own precision.

    Raises:
        InputError: the file is no model, it has no such branch, or `devices` is not positive.
    """
    start_jax(devices)
    from dpax.interfaces.model_files import load

    return load(path, branch=branch)
