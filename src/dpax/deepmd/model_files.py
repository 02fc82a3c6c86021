"""DeePMD-kit's model files, in and out.

Read: `.dp`, `.yaml`, `.yml`, `.hlo`, `.jax`, and with PyTorch `.pt` and `.pth`. Written: `.dp`, `.yaml` and
`.yml`, from which `dp convert-backend` makes the rest.
"""

from collections.abc import Callable
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import jax
import numpy as np

from dpax.deepmd.dictionary_files import read_dictionary, write_dictionary
from dpax.deepmd.model_dictionary import for_deepmd, model_dictionary
from dpax.deepmd.script import input_of
from dpax.deepmd.source import Source
from dpax.errors import WRONG_CONTENTS, InputError, brief
from dpax.model.energy_model import EnergyModel
from dpax.version import __version__


def _read_jax(path: Path) -> Source:
    from dpax.deepmd.jax_files import read_jax

    return read_jax(path)


def _read_torch(path: Path) -> Source:
    from dpax.deepmd.torch_files import read_torch

    return read_torch(path)


_READERS: dict[str, Callable[[Path], Source]] = {
    ".dp": read_dictionary,
    ".yaml": read_dictionary,
    ".yml": read_dictionary,
    ".hlo": read_dictionary,
    ".jax": _read_jax,
    ".pt": _read_torch,
    ".pth": _read_torch,
}
READ = tuple(_READERS)
"""Suffixes of files that are read."""
WRITTEN = (".dp", ".yaml", ".yml")
"""Suffixes of files that are written."""
_COMPILED = (".savedmodel", ".savedmodeltf", ".pb", ".pd", ".json", ".pte", ".pt2", ".pbtxt")
"""Other kinds of model files that DeePMD-kit has."""


def is_foreign(path: Path) -> bool:
    """Whether a file has a suffix of DeePMD-kit's model files."""
    return path.suffix in (*READ, *_COMPILED)


def open_source(path: Path) -> Source:
    """Open a model file of DeePMD-kit.

    Raises:
        InputError: no such file, not one of the kinds that are read, or a damaged one.
    """
    if path.suffix in _COMPILED:
        raise InputError(
            f"{path}: dpax does not read {path.suffix} models; convert it with DeePMD-kit first: "
            f"dp convert-backend {path.name} {path.stem}.dp"
        )
    if not path.exists():
        raise InputError(f"{path}: there is no such model file")
    if path.is_dir() and path.suffix != ".jax":
        raise InputError(f"{path}: is a folder, not a model file")
    try:
        return _READERS[path.suffix](path)
    except InputError as error:
        raise InputError(f"{path}: {brief(error)}") from None
    except WRONG_CONTENTS as error:
        raise _damaged(path, error) from error


def read_model(path: Path, branch: str | None = None) -> tuple[EnergyModel, dict[str, Any]]:
    """Read a model file of DeePMD-kit. JAX must be in its 64-bit mode for a model of float64.

    Args:
        path: the file.
        branch: of a multi-task model: a branch's name or alias, in upper or lower case.

    Returns:
        The model, and where it comes from: `deepmd_kit` (the writer, and the branch), `model_def_script` (the
        input that it was made from), `min_nbor_dist` (Å, where it is known).

    Raises:
        InputError: no such file, damaged, not an energy model with DPA-1, or no such branch.
    """
    source = open_source(path)
    try:
        name = source.branch(branch)
        model = source.model(name)
    except InputError as error:
        raise InputError(f"{path}: {brief(error)}") from None
    except WRONG_CONTENTS as error:
        raise _damaged(path, error) from error
    script = source.script if name is None else source.branches[name]
    provenance = {
        "deepmd_kit": {"file": path.name, **source.facts, **({} if name is None else {"branch": name})},
        "model_def_script": script,
    }
    known = source.distance is not None and source.distance > 0
    return model, {**provenance, "min_nbor_dist": source.distance} if known else provenance


def _damaged(path: Path, error: Exception) -> InputError:
    return InputError(
        f"{path}: the model is damaged, or of a kind that dpax does not know "
        f"({type(error).__name__}: {brief(error)})"
    )


def write_model(path: Path, model: EnergyModel, provenance: dict[str, Any]) -> None:
    """Write a model for DeePMD-kit. JAX must be in its 64-bit mode for a model of float64.

    Args:
        path: the file, `.dp`, `.yaml` or `.yml`, which is written in place.
        model: the model.
        provenance: as `read_model` and training give it; `min_nbor_dist` is kept.

    Raises:
        InputError: another ending, or a model that DeePMD-kit cannot express.
    """
    if path.suffix not in WRITTEN:
        raise InputError(
            f"dpax writes {', '.join(WRITTEN)} for DeePMD-kit, from which its dp convert-backend makes "
            f"{path.suffix} files"
        )
    plain = for_deepmd(model)
    distance = provenance.get("min_nbor_dist")
    document = {
        "software": "dpax",
        "version": __version__,
        "time": str(datetime.now(UTC)),
        "backend": "JAX",
        "jax_version": jax.__version__,
        "model_def_script": input_of(plain, provenance),
        # DeePMD-kit's JAX backend looks for it in one place, the others in the other.
        **({} if distance is None else {"min_nbor_dist": float(distance)}),
        "@variables": {} if distance is None else {"min_nbor_dist": np.array(float(distance))},
        "model": model_dictionary(plain),
    }
    write_dictionary(path, document)
