"""What has to be settled before JAX starts: the devices that it computes on, and where its programs are kept.

Nothing here happens by importing dpax. The command line calls `configure`, and a script may.
"""

import os
from pathlib import Path

from dpax.errors import InputError

DEVICES, CACHE = "DPAX_DEVICES", "DPAX_CACHE"
"""Environment variables that stand in for arguments which are not given."""
OFF = "off"
"""The cache's name for none."""


def configure(devices: int | None = None, cache: str | os.PathLike | None = None) -> None:
    """Let JAX use all cores of this machine, and keep compiled programs for the next process.

    To be called before anything computes. Without it a process has one CPU device, which leaves most of the
    cores idle, and compiles each program anew.

    Args:
        devices: number of CPU devices, and of GPUs where there are any. Default: the environment variable
            DPAX_DEVICES, or else a CPU device for each core and all GPUs.
        cache: folder for compiled programs, or "off". Default: the environment variable DPAX_CACHE, or else
            what JAX has been told already (`jax_compilation_cache_dir`), or else a folder `dpax` where this
            user's programs keep what they can make again, if it can be written.

    Raises:
        InputError: JAX has started already, a number of devices that is not positive, or a folder that
            cannot be made.
    """
    import jax

    wanted = _wanted_devices(devices)
    try:
        jax.config.update("jax_num_cpu_devices", wanted or cores())
        if wanted is not None:
            jax.config.update("jax_cuda_visible_devices", ",".join(map(str, range(wanted))))
    except RuntimeError:
        raise InputError(
            "dpax.configure: JAX has started already, and its devices are what they are; call it before "
            "anything computes, right after the imports"
        ) from None
    folder = cache_folder(cache, getattr(jax.config, "jax_compilation_cache_dir", None))
    jax.config.update("jax_compilation_cache_dir", None if folder is None else str(folder))
    # By default JAX keeps only what took a second to compile; a start has dozens of smaller programs.
    jax.config.update("jax_persistent_cache_min_compile_time_secs", 0.0)


def cores() -> int:
    """The number of cores that this process may use."""
    if hasattr(os, "sched_getaffinity"):
        return len(os.sched_getaffinity(0))
    return os.cpu_count() or 1


def _wanted_devices(given: int | None) -> int | None:
    """The number of devices asked for, None where nobody asks."""
    name, text = "devices", given
    if given is None:
        name, text = DEVICES, os.environ.get(DEVICES) or None
    if text is None:
        return None
    try:
        number = int(text)
    except ValueError:
        number = 0
    if number < 1:
        raise InputError(f"{name} should be a whole number of at least 1, got {text}")
    return number


def cache_folder(given: str | os.PathLike | None = None, known: str | None = None) -> Path | None:
    """Where compiled programs are kept, None for nowhere.

    Args:
        given: a folder, or "off"; as for `configure`.
        known: the folder where nothing is said, neither here nor by DPAX_CACHE.

    Raises:
        InputError: a folder that cannot be made.
    """
    name, folder = ("cache", given) if given is not None else (CACHE, os.environ.get(CACHE) or known)
    if folder is None:
        return _own_folder()
    if str(folder) == OFF:
        return None
    try:
        Path(folder).mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise InputError(f'{name}: {error}; give a folder that can be made, or "{OFF}"') from None
    return Path(folder)


def _own_folder() -> Path | None:
    """The default folder; None where this user has none, as on machines whose home cannot be written."""
    from platformdirs import user_cache_path

    try:
        return user_cache_path("dpax", appauthor=False, ensure_exists=True)
    except OSError:
        return None
