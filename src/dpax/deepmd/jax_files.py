"""DeePMD-kit's JAX checkpoints, `.jax`: folders that orbax has written."""

import json
from pathlib import Path
from typing import Any

import jax
import numpy as np

from dpax.contents import check_tree
from dpax.deepmd.checkpoint import checkpointed_model
from dpax.deepmd.source import Source
from dpax.errors import InputError, brief
from dpax.model.energy_model import EnergyModel
from dpax.model.orbax_arrays import read_arrays


def read_jax(path: Path) -> Source:
    """Read a `.jax` folder.

    Raises:
        InputError: not such a folder, or a damaged one.
    """
    try:
        script = json.loads((path / "model_def_script" / "metadata").read_text(encoding="utf-8"))
        check_tree(script)
        state = read_arrays(path / "state")
    except Exception as error:  # orbax and its storage raise many kinds for damaged files
        raise InputError(f"not a JAX checkpoint of DeePMD-kit, or a damaged one ({brief(error)})") from None

    def model(branch: str | None) -> EnergyModel:
        if branch is None:
            return checkpointed_model(script, named(state))
        return checkpointed_model(script["model_dict"][branch], named(state.get("models", state)[branch]))

    return Source(script, model, script.get("_min_nbor_dist"), {"backend": "JAX"})


def named(tree: Any) -> dict[str, np.ndarray]:
    """The arrays below `atomic_model` by their paths."""
    leaves = jax.tree_util.tree_flatten_with_path(tree["atomic_model"])[0]
    return {"/".join(str(key.key) for key in path): array for path, array in leaves}
