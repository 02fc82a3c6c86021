"""The model file: one safetensors file with named arrays and a JSON description.

Anyone can open it: the arrays are in the safetensors format, and the file's metadata hold the model's
dictionary (DeePMD-kit's form, `EnergyModel.serialize`) with each array replaced by {"@array": name}, the
format's version, where the model comes from, and a digest of all that.
"""

import hashlib
import json
import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
from safetensors import safe_open
from safetensors.numpy import save

from dpax.errors import WRONG_CONTENTS, InputError, brief, shortened
from dpax.files import replacing
from dpax.model.potential import EnergyModel
from dpax.nn.serialized import check_tree, real

FORMAT = "dpax"
VERSION = 1
_NAME_OF_ARRAY = "@array"
_DIGEST = "digest"


def save_model(path: str | os.PathLike, model: EnergyModel, provenance: dict) -> None:
    """Write a model file; a file that is there is replaced at once or not at all.

    Args:
        path: usually ends in `.dpax`.
        model: the model.
        provenance: JSON-able facts of where it comes from.

    Raises:
        InputError: the folder does not exist, or the file cannot be written (`MachineError`).
    """
    path = Path(path)
    if not path.absolute().parent.is_dir():
        raise InputError(f"{path}: the folder {path.parent} does not exist; make it first")
    arrays: dict[str, np.ndarray] = {}
    tree = _take_arrays(model.serialize(), "", arrays)
    header = {
        "format": FORMAT,
        "version": str(VERSION),
        "model": json.dumps(tree),
        "provenance": json.dumps(provenance),
    }
    with replacing(path) as temporary:
        # Not save_file: its temporary file stays where it is killed, and others may not read what it writes.
        temporary.write_bytes(save(arrays, metadata=header | {_DIGEST: digest(header, arrays)}))


def read_header(path: str | os.PathLike) -> dict[str, Any]:
    """The description in a model file, without its arrays, so that its digest cannot be checked.

    Returns:
        `version` (int), `model` (the dictionary with arrays named), `provenance`, and `digest`, None in files
        of earlier versions of dpax.

    Raises:
        InputError: the file is missing, not a model file, or of a newer format.
    """
    return _read(path, with_arrays=False)[0]


def load_model(path: str | os.PathLike) -> tuple[EnergyModel, dict]:
    """Read a model file.

    Returns:
        The model and its provenance.

    Raises:
        InputError: the file is missing, not a model file, damaged, or of a newer format.
    """
    header, arrays = _read(path, with_arrays=True)
    try:
        return EnergyModel.deserialize(_put_arrays(header["model"], arrays)), header["provenance"]
    except InputError as error:
        raise InputError(f"{path}: {brief(error)}") from None
    except WRONG_CONTENTS as error:
        raise InputError(f"{path}: {_damaged(error)}") from error


def digest(header: Mapping[str, str], arrays: Mapping[str, np.ndarray]) -> str:
    """SHA-256 of everything in a file, in hexadecimal: docs/model-file.md says of which bytes.

    Args:
        header: the metadata of the file; its own digest does not count.
        arrays: by name.
    """
    found = hashlib.sha256()
    for name in sorted(header.keys() - {_DIGEST}):
        found.update(f"{name}={header[name]}\n".encode())
    for name in sorted(arrays):
        array = arrays[name]
        found.update(f"{name} {array.dtype.name} {list(array.shape)}\n".encode())
        found.update(array.tobytes())
    return found.hexdigest()


def _damaged(error: Exception) -> str:
    return f"the model file is damaged, or not written by dpax ({type(error).__name__}: {brief(error)})"


def _read(path: str | os.PathLike, with_arrays: bool) -> tuple[dict, dict[str, np.ndarray]]:
    if not Path(path).is_file():
        raise InputError(f"{path}: there is no such model file")
    arrays = {}
    try:
        with safe_open(path, framework="numpy") as file:
            header = file.metadata() or {}
            if with_arrays:
                arrays = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118
    except Exception as error:  # its own errors, those of the system, and NumPy's for dtypes that it lacks
        raise InputError(f"{path}: not a dpax model file, or a damaged one ({brief(error)})") from None
    if header.get("format") != FORMAT:
        raise InputError(
            f"{path}: a safetensors file, but not a dpax model; models are written by `dpax train`"
        )
    try:
        version = int(header["version"])
        parsed = {key: _parse(header[key]) for key in ("model", "provenance")}
        _check_provenance(parsed["provenance"])
    except InputError as error:
        raise InputError(f"{path}: {error}") from None
    except WRONG_CONTENTS as error:
        raise InputError(f"{path}: {_damaged(error)}") from None
    if version > VERSION:
        raise InputError(
            f"{path}: format version {version}; this dpax reads up to {VERSION}: install a newer one"
        )
    if with_arrays and _DIGEST in header and header[_DIGEST] != digest(header, arrays):
        raise InputError(
            f"{path}: the model file is damaged: its contents are not those that its digest was made of; "
            "copy it again from where it was written, or make it anew from a checkpoint with `dpax freeze`"
        )
    return {"version": version, **parsed, _DIGEST: header.get(_DIGEST)}, arrays


def _parse(text: str) -> dict:
    tree = json.loads(text)
    if not isinstance(tree, dict):
        raise TypeError(f"expected a dictionary, got {text[:60]}")
    check_tree(tree)
    return tree


def _check_provenance(provenance: dict) -> None:
    """See that what is used of it is what it should be; the rest is shown only."""
    distance = provenance.get("min_nbor_dist", 1.0)
    if not real({"min_nbor_dist": distance}, "min_nbor_dist") > 0:
        raise InputError(f"provenance: min_nbor_dist is {distance} Å; expected a distance above 0")
    for section in (provenance.get("input", {}), provenance.get("input", {}).get("model", {})):
        if not isinstance(section, dict):
            raise TypeError(f"provenance: expected a section of the input, got {shortened(section)}")


def _take_arrays(tree: Any, path: str, arrays: dict[str, np.ndarray]) -> Any:
    """The tree with arrays replaced by their names; bfloat16 is widened, which loses nothing."""
    if isinstance(tree, dict):
        return {key: _take_arrays(value, f"{path}/{key}", arrays) for key, value in tree.items()}
    if isinstance(tree, (list, tuple)):
        return [_take_arrays(value, f"{path}/{index}", arrays) for index, value in enumerate(tree)]
    if isinstance(tree, np.ndarray):
        name = path.replace("/@variables/", "/").strip("/")
        known = tree.dtype.kind in "fiub" and tree.dtype.isbuiltin == 1
        arrays[name] = np.ascontiguousarray(tree if known else tree.astype(np.float32))
        return {_NAME_OF_ARRAY: name}
    return tree


def _put_arrays(tree: Any, arrays: dict[str, np.ndarray]) -> Any:
    if isinstance(tree, dict):
        if set(tree) == {_NAME_OF_ARRAY}:
            return arrays[tree[_NAME_OF_ARRAY]]
        return {key: _put_arrays(value, arrays) for key, value in tree.items()}
    if isinstance(tree, list):
        return [_put_arrays(value, arrays) for value in tree]
    return tree
