"""Arrays in a folder written by orbax."""

import math
from pathlib import Path
from typing import Any

import jax
import numpy as np
import orbax.checkpoint as ocp

from dpax.errors import InputError

_PACKED = 1000
"""Random weights can hardly be compressed, so that a whole model is never smaller than by this factor."""


def read_arrays(folder: Path) -> Any:
    """A tree of NumPy's arrays: JAX's would need the writer's devices, and its 64-bit mode in every thread.

    Raises:
        InputError: the arrays claim to be far larger than the folder's files. Other damage makes orbax and
            its storage raise exceptions of many kinds.
    """
    handler = ocp.PyTreeCheckpointHandler()
    place: Any = folder.absolute()
    described = handler.metadata(place).tree
    claimed = sum(math.prod(array.shape) * array.dtype.itemsize for array in jax.tree.leaves(described))
    stored = sum(file.stat().st_size for file in folder.rglob("*") if file.is_file())
    if claimed > _PACKED * stored:
        raise InputError(f"{folder}: the arrays claim {claimed} bytes; the files have {stored}")
    wanted = jax.tree.map(lambda _: ocp.RestoreArgs(restore_type=np.ndarray), described)
    return handler.restore(place, args=ocp.args.PyTreeRestore(restore_args=wanted))
