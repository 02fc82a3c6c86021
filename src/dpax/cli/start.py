"""What has to be settled before JAX starts: devices and 64-bit mode."""

import os

from dpax.errors import InputError


def cores() -> int:
    """The number of cores that this process may use."""
    if hasattr(os, "sched_getaffinity"):
        return len(os.sched_getaffinity(0))
    return os.cpu_count() or 1


def start_jax(*, x64: bool, devices: int | None = None) -> None:
    """Configure JAX: one host device for each core, and float64 if the model computes in it.

    Args:
        x64: whether float64 is wanted.
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
    jax.config.update("jax_enable_x64", x64)
