"""What JAX computes on in this process."""

from typing import Any

import jax
from case import cores


def report() -> dict[str, Any]:
    """Kind and names of the devices, processor threads, and settings that times depend on."""
    gpu = jax.default_backend() == "gpu"
    settings = {}
    if jax.config.jax_compilation_cache_dir:
        settings["compiled programs kept in"] = jax.config.jax_compilation_cache_dir
    if gpu and jax.config.jax_default_matmul_precision:
        settings["matrix products, where not said otherwise, in"] = jax.config.jax_default_matmul_precision
    return {
        "kind": "gpu" if gpu else jax.default_backend(),
        "devices": [device.device_kind for device in jax.devices()],
        "threads": cores(),
        "settings": settings,
    }


def peak() -> int | None:
    """The most memory in use on any device so far, bytes; None where JAX does not count it, as on CPUs."""
    statistics = [device.memory_stats() for device in jax.local_devices()]
    return max((one["peak_bytes_in_use"] for one in statistics if one), default=None)


def release() -> None:
    """JAX gives back the memory of arrays that are no longer there, but to itself alone."""
