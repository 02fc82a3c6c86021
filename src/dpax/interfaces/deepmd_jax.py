"""DeePMD-kit's JAX checkpoints, `.jax`: folders that orbax has written."""

import json
import math
from pathlib import Path
from typing import Any

import jax
import numpy as np
import orbax.checkpoint as ocp

from dpax.errors import InputError
from dpax.interfaces.deepmd_checkpoint import model_dictionary
from dpax.interfaces.deepmd_source import Source
from dpax.nn.serialized import check_tree

_PACKED = 1000
"""Random weights can hardly be compressed, so that a whole model is never smaller than by this factor."""


def read_jax(path: Path) -> Source:
    """Read a `.jax` folder.

    Raises:
        InputError: not such a folder, or a damaged one.
    """
    try:
        script = json.loads((path / "model_def_script" / "metadata").read_text(encoding="utf-8"))
        check_tree(script)
        state = _restore(path / "state")
    except Exception as error:  # orbax and its storage raise many kinds for damaged files
        reason = " ".join(str(error).split())[:200]
        raise InputError(f"not a JAX checkpoint of DeePMD-kit, or a damaged one ({reason})") from None

    def dictionary(branch: str | None) -> dict:
        if branch is None:
            return model_dictionary(script, named(state))
        return model_dictionary(script["model_dict"][branch], named(state.get("models", state)[branch]))

    return Source(script, dictionary, script.get("_min_nbor_dist"), {"backend": "JAX"})


def _restore(path: Path) -> Any:
    """The arrays as NumPy's: JAX's would need the writer's devices, and its 64-bit mode in every thread."""
    handler = ocp.PyTreeCheckpointHandler()
    place: Any = path.absolute()
    described = handler.metadata(place).tree
    claimed = sum(math.prod(array.shape) * array.dtype.itemsize for array in jax.tree.leaves(described))
    stored = sum(file.stat().st_size for file in path.rglob("*") if file.is_file())
    if claimed > _PACKED * stored:
        raise InputError(f"its arrays claim {claimed} bytes, of which {stored} are there")
    wanted = jax.tree.map(lambda _: ocp.RestoreArgs(restore_type=np.ndarray), described)
    return handler.restore(place, args=ocp.args.PyTreeRestore(restore_args=wanted))


def named(tree: Any) -> dict[str, np.ndarray]:
    """The arrays below `atomic_model` by their paths."""
    found = jax.tree_util.tree_flatten_with_path(tree["atomic_model"])[0]
    return {"/".join(str(key.key) for key in path): array for path, array in found}
