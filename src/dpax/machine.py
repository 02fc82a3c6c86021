"""What has to be settled before JAX starts: the devices that it computes on, and where its programs are kept.

Nothing here happens by importing dpax. The command line calls `configure`, and a script may.
"""

import errno
import os
from pathlib import Path

from dpax.errors import InputError, MachineError

DEVICES, CACHE = "DPAX_DEVICES", "DPAX_CACHE"
"""Environment variables that stand in for arguments which are not given."""
MOST_DEVICES = 1024
"""A larger number is a typing error, for which JAX would use up the memory."""
OFF = "off"
"""The cache's name for none."""


def configure(devices: int | None = None, cache: str | os.PathLike | None = None) -> None:
    """Let JAX use all cores of this machine, and keep compiled programs for the next process.

    To be called before anything computes. Without it a process has one CPU device, which leaves most of the
    cores idle, and compiles every program again.

    Args:
        devices: number of CPU devices, and of GPUs where there are any. Default: the environment variable
            DPAX_DEVICES, or else a CPU device for each core and all GPUs.
        cache: folder for compiled programs, or "off". Default: the environment variable DPAX_CACHE, or else
            JAX's own setting (`jax_compilation_cache_dir`), or else a folder `dpax` where this
            user's programs keep what they can make again, if it can be written.

    Raises:
        InputError: JAX has already started, a number of devices that makes no sense, or a folder that
            cannot be written.
    """
    import jax

    wanted = _wanted_devices(devices)
    try:
        jax.config.update("jax_num_cpu_devices", wanted or cores())
        if wanted is not None:
            jax.config.update("jax_cuda_visible_devices", ",".join(map(str, range(wanted))))
    except RuntimeError:
        raise InputError(
            "dpax.configure: JAX has already started with its devices; call it before "
            "anything computes, right after the imports"
        ) from None
    folder = cache_folder(cache, getattr(jax.config, "jax_compilation_cache_dir", None))
    jax.config.update("jax_compilation_cache_dir", None if folder is None else str(folder))
    # By default JAX keeps only what took a second to compile; a start has dozens of smaller programs.
    jax.config.update("jax_persistent_cache_min_compile_time_secs", 0.0)


def start_devices() -> None:
    """Let JAX find its devices, which it does once; any computation would do so at some point.

    Raises:
        MachineError: there are none of the kind asked for (JAX_PLATFORMS), or they do not work.
    """
    import jax

    try:
        jax.devices()
    except (RuntimeError, AssertionError) as error:
        reason = str(error).partition(" (set JAX_PLATFORMS")[0].partition("\n")[0]
        platforms = getattr(jax.config, "jax_platforms", None)
        asked = f"JAX_PLATFORMS is {platforms}, and " if platforms else ""
        raise MachineError(
            f"{asked}JAX finds no such device on this machine{f' ({reason})' * bool(reason)}; "
            f"{'unset it, or ' * bool(platforms)}set JAX_PLATFORMS=cpu to compute without a GPU"
        ) from error


def cores() -> int:
    """The number of cores that this process may use."""
    if hasattr(os, "sched_getaffinity"):
        return len(os.sched_getaffinity(0))
    return os.cpu_count() or 1


def _wanted_devices(n_devices: int | None) -> int | None:
    """The number of devices asked for, None where nobody asks."""
    name, text = "devices", n_devices
    if n_devices is None:
        name, text = DEVICES, os.environ.get(DEVICES) or None
    if text is None:
        return None
    try:
        number = int(text)
    except ValueError:
        number = 0
    if not 1 <= number <= MOST_DEVICES:
        raise InputError(f"{name} should be a whole number from 1 to {MOST_DEVICES}, got {text}")
    return number


def cache_folder(wanted: str | os.PathLike | None = None, known: str | None = None) -> Path | None:
    """Where compiled programs are kept, None for nowhere.

    Args:
        wanted: a folder, or "off"; as for `configure`.
        known: the folder if neither the argument nor DPAX_CACHE names one.

    Raises:
        InputError: a folder that cannot be written.
    """
    choices = {"cache": wanted, CACHE: os.environ.get(CACHE) or None, "jax_compilation_cache_dir": known}
    name, folder = next((choice for choice in choices.items() if choice[1] is not None), ("", None))
    if folder is None:
        return _own_folder()
    if str(folder) == OFF:
        return None
    try:
        Path(folder).mkdir(parents=True, exist_ok=True)
        if not os.access(folder, os.W_OK | os.X_OK):
            raise PermissionError(errno.EACCES, os.strerror(errno.EACCES), str(folder))
    except OSError as error:
        raise InputError(
            f'{name}: {folder} cannot be used ({error.strerror}); give one that can be written, or "{OFF}"'
        ) from None
    return Path(folder)


def _own_folder() -> Path | None:
    """The default folder; None where this user has none, as on machines whose home cannot be written."""
    from platformdirs import user_cache_path

    try:
        folder = user_cache_path("dpax", appauthor=False, ensure_exists=True)
    except OSError:
        return None
    return folder if os.access(folder, os.W_OK | os.X_OK) else None
