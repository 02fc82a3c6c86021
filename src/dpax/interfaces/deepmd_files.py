"""DeePMD-kit's files that hold a model as a dictionary: `.dp`, `.yaml`, `.hlo`.

`.dp` is HDF5: the dictionary as JSON in the attribute `json`, with the path of a dataset in the place of
every array below a key `@variables`. `.hlo` is the same, with compiled programs beside it that are not read.
In `.yaml` an array is a small dictionary with its dtype and its numbers.
"""

import json
from collections.abc import Callable
from itertools import count
from pathlib import Path
from typing import Any

import h5py
import jax.numpy as jnp
import numpy as np
import yaml

from dpax.errors import InputError
from dpax.interfaces.deepmd_source import Source

HDF5, YAML = (".dp", ".hlo"), (".yaml", ".yml")
_PROGRAMS = "stablehlo"
"""Beginning of the names of the programs in a `.hlo` file."""


def read_dictionary(path: Path) -> Source:
    """Read a `.dp`, `.hlo` or `.yaml` file.

    Raises:
        InputError: not such a file, or a damaged one.
    """
    document = _read_hdf5(path) if path.suffix in HDF5 else _read_yaml(path)
    if not isinstance(document, dict) or not isinstance(document.get("model"), dict):
        raise InputError("no model of DeePMD-kit: the file has no dictionary 'model'")
    model = document["model"]
    branches = model.get("model_dict")
    script = document.get("model_def_script") or {}
    if branches is not None:
        described = script.get("model_dict", {})
        script = {**script, "model_dict": {name: described.get(name, {}) for name in branches}}
    facts = {key: document[key] for key in ("software", "version", "backend", "time") if key in document}
    return Source(
        script=script,
        dictionary=lambda branch: model if branch is None else model["model_dict"][branch],
        distance=_smallest_distance(document, script),
        facts=facts,
    )


def write_dictionary(path: Path, document: dict) -> None:
    """Write a dictionary as a `.dp` or `.yaml` file, by the ending of its name."""
    if path.suffix in YAML:
        with path.open("w", encoding="utf-8") as file:
            dumper = getattr(yaml, "CSafeDumper", yaml.SafeDumper)
            yaml.dump(_replace_arrays(document, _as_plain), file, Dumper=dumper, sort_keys=False)
        return
    names = (f"variable_{number:04d}" for number in count())
    with h5py.File(path, "w") as file:
        tree = _replace_arrays(document, lambda array: file.create_dataset(next(names), data=array).name)
        file.attrs["json"] = json.dumps(tree, separators=(",", ":"))


def _smallest_distance(document: dict, script: dict) -> float | None:
    """The smallest distance between atoms in the data, Å: DeePMD-kit's backends have a place each for it."""
    places = (
        document.get("@variables", {}).get("min_nbor_dist"),
        document.get("min_nbor_dist"),
        document.get("constants", {}).get("min_nbor_dist"),
        script.get("_min_nbor_dist"),
    )
    return next((float(np.asarray(place)) for place in places if place is not None), None)


def _read_hdf5(path: Path) -> Any:
    try:
        with h5py.File(path, "r") as file:
            text: Any = file.attrs["json"]
            datasets: Any = file
            return _restore_arrays(json.loads(text), lambda name: np.asarray(datasets[name][()]))
    except (OSError, KeyError, TypeError, ValueError) as error:
        raise InputError(f"not a model file of DeePMD-kit, or a damaged one ({error})") from None


def _read_yaml(path: Path) -> Any:
    loader = getattr(yaml, "CSafeLoader", yaml.SafeLoader)
    try:
        with path.open(encoding="utf-8") as file:
            return _restore_arrays(yaml.load(file, Loader=loader), str)
    except (OSError, KeyError, TypeError, ValueError, yaml.YAMLError) as error:
        reason = " ".join(str(error).split())
        raise InputError(f"not a model file of DeePMD-kit, or a damaged one ({reason})") from None


def _restore_arrays(tree: Any, array: Callable[[str], Any], inside: bool = False) -> Any:
    """The tree with its arrays in their places; below `@variables` every string is the name of one."""
    if isinstance(tree, dict):
        if tree.get("@is_variable") and tree.get("@class") == "np.ndarray":
            return np.asarray(tree["value"], dtype=jnp.dtype(tree["dtype"]))
        return {
            key: _restore_arrays(value, array, inside or key == "@variables")
            for key, value in tree.items()
            if not (inside and key.startswith(_PROGRAMS))
        }
    if isinstance(tree, list):
        return [_restore_arrays(value, array, inside) for value in tree]
    return array(tree) if inside and isinstance(tree, str) else tree


def _replace_arrays(tree: Any, put: Callable[[np.ndarray], Any], inside: bool = False) -> Any:
    """The tree with its arrays put elsewhere; where DeePMD-kit looks for none they become lists."""
    if isinstance(tree, dict):
        return {key: _replace_arrays(v, put, inside or key == "@variables") for key, v in tree.items()}
    if isinstance(tree, (list, tuple)):
        return [_replace_arrays(value, put, inside) for value in tree]
    if inside and isinstance(tree, (np.ndarray, np.generic)):
        known = tree.dtype.isbuiltin == 1  # bfloat16 is not: float32 holds it, and HDF5 knows that
        return put(np.asarray(tree if known else tree.astype(np.float32)))
    return tree.tolist() if isinstance(tree, (np.ndarray, np.generic)) else tree


def _as_plain(array: np.ndarray) -> dict:
    return {
        "@class": "np.ndarray",
        "@is_variable": True,
        "@version": 1,
        "dtype": array.dtype.name,
        "value": array.tolist(),
    }
