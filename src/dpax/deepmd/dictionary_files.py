"""DeePMD-kit's files that hold a model as a dictionary: `.dp`, `.yaml`, `.hlo`.

`.dp` is HDF5: the dictionary as JSON in the attribute `json`, with the path of a dataset instead of
every array below a key `@variables`. `.hlo` is the same, with compiled programs beside it that are not read.
In `.yaml` an array is a small dictionary with its dtype and its numbers.
"""

import json
from collections.abc import Callable
from functools import cache
from itertools import count
from pathlib import Path
from typing import Any

import h5py
import jax.numpy as jnp
import numpy as np
import yaml

from dpax.contents import check_tree
from dpax.deepmd.model_dictionary import read_model
from dpax.deepmd.source import Source
from dpax.errors import WRONG_CONTENTS, InputError, brief, shortened

HDF5, YAML = (".dp", ".hlo"), (".yaml", ".yml")
_PROGRAMS = "stablehlo"
"""Beginning of the names of the programs in a `.hlo` file."""
_DTYPES = ("bool", "int32", "int64", "float16", "bfloat16", "float32", "float64")
"""Of arrays in a `.yaml` file."""
_PACKED = 1100
"""The largest factor of HDF5's compression, deflate."""
_YAML_MERGE = "tag:yaml.org,2002:merge"
_SafeLoader: Any = getattr(yaml, "CSafeLoader", yaml.SafeLoader)


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
        model=lambda branch: read_model(model if branch is None else model["model_dict"][branch]),
        distance=_smallest_distance(document, script),
        facts=facts,
    )


def write_dictionary(path: Path, document: dict) -> None:
    """Write a dictionary as a `.dp` or `.yaml` file, by its suffix."""
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
    """The smallest distance between atoms in the data, Å: DeePMD-kit's backends have a place each for it.

    Negative where it is not known, as in PyTorch's models.
    """
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
            tree = json.loads(text)
            check_tree(tree)
            return _restore_arrays(tree, cache(lambda name: _dataset(file, name)))
    except Exception as error:  # damaged files make HDF5 raise many kinds of errors
        raise InputError(f"not a model file of DeePMD-kit, or a damaged one ({brief(error)})") from None


def _dataset(file: h5py.File, name: str) -> np.ndarray:
    """An array, read only where the file has as many bytes as it claims to have."""
    dataset: Any = file[name]
    stored = dataset.id.get_storage_size() * (_PACKED if dataset.compression else 1)
    if dataset.dtype.kind not in "fiub" or dataset.nbytes > stored:
        raise InputError(
            f"{name} claims {dataset.shape} numbers of {dataset.dtype}, of which {stored} bytes are there"
        )
    return np.asarray(dataset[()])


def _read_yaml(path: Path) -> Any:
    try:
        with path.open(encoding="utf-8") as file:
            tree = yaml.load(file, Loader=_Loader)
        check_tree(tree, most=path.stat().st_size)
        return _restore_arrays(tree, str)
    except (OSError, yaml.YAMLError, *WRONG_CONTENTS) as error:
        raise InputError(f"not a model file of DeePMD-kit, or a damaged one ({brief(error)})") from None


class _Loader(_SafeLoader):
    """YAML as DeePMD-kit writes it: no merges, which can double at every line, and plain numbers."""

    def flatten_mapping(self, node: yaml.MappingNode) -> None:
        """Refuse merges."""
        if any(key.tag == _YAML_MERGE for key, _ in node.value):
            raise yaml.constructor.ConstructorError(
                None, None, "'<<' is not allowed in a model", node.start_mark
            )

    def construct_integer(self, node: yaml.ScalarNode) -> int:
        """An integer of decimal digits; hours and minutes with colons would be one in YAML."""
        return int(node.value)

    def construct_number(self, node: yaml.ScalarNode) -> float:
        """A number with a point; `.inf` and `.nan` are numbers too."""
        return float(node.value.lower().replace(".inf", "inf").replace(".nan", "nan"))


_Loader.add_constructor("tag:yaml.org,2002:int", _Loader.construct_integer)
_Loader.add_constructor("tag:yaml.org,2002:float", _Loader.construct_number)


def _restore_arrays(tree: Any, array: Callable[[str], Any], inside: bool = False) -> Any:
    """The tree with its arrays in their places; below `@variables` every string is the name of one."""
    if isinstance(tree, dict):
        if tree.get("@is_variable") and tree.get("@class") == "np.ndarray":
            if tree["dtype"] not in _DTYPES:
                raise InputError(f"an array is of {shortened(tree['dtype'])}; expected {', '.join(_DTYPES)}")
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
    """The tree with its arrays put elsewhere; where DeePMD-kit expects none they become lists."""
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
