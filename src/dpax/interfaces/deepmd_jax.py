"""DeePMD-kit's JAX checkpoints, `.jax`: folders that orbax has written."""

import json
from pathlib import Path
from typing import Any

import jax
import numpy as np
import orbax.checkpoint as ocp

from dpax.errors import InputError
from dpax.interfaces.deepmd_checkpoint import model_dictionary
from dpax.interfaces.deepmd_source import Source


def read_jax(path: Path) -> Source:
    """Read a `.jax` folder.

    Raises:
        InputError: not such a folder, or a damaged one.
    """
    try:
        script = json.loads((path / "model_def_script" / "metadata").read_text(encoding="utf-8"))
        state = _restore(path / "state")
    except (OSError, KeyError, TypeError, ValueError) as error:
        reason = " ".join(str(error).split())
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
    wanted = jax.tree.map(lambda _: ocp.RestoreArgs(restore_type=np.ndarray), handler.metadata(place).tree)
    return handler.restore(place, args=ocp.args.PyTreeRestore(restore_args=wanted))


def named(tree: Any) -> dict[str, np.ndarray]:
    """The arrays below `atomic_model` by their paths."""
    found = jax.tree_util.tree_flatten_with_path(tree["atomic_model"])[0]
    return {"/".join(str(key.key) for key in path): array for path, array in found}
