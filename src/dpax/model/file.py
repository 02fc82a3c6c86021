"""The model file: one safetensors file with named arrays and a JSON description.

Anyone can open it: the arrays are in the safetensors format, and the file's metadata hold the model's
description, the format's version, where the model comes from, and a digest of all that.
"""

import json
import os
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
from safetensors import safe_open
from safetensors.numpy import save

from dpax.contents import check_tree, real, sha256
from dpax.descriptor import initial as descriptor_arrays
from dpax.descriptor.spec import DescriptorSpec
from dpax.descriptor.statistics import is_isotropic
from dpax.descriptor.table import TABLES, fitted_tables
from dpax.errors import WRONG_CONTENTS, InputError, brief, shortened
from dpax.files import check_output, replacing
from dpax.model import fitting as fitting_arrays
from dpax.model.energy_model import EnergyModel, bias_of, check_numbers
from dpax.model.pair_table import PairTable
from dpax.model.short_range import ShortRange
from dpax.model.spec import ModelSpec
from dpax.nn.arrays import Arrays, below, fitted, numbers, placed

FORMAT = "dpax"
VERSION = 2
_DIGEST = "digest"


@dataclass(frozen=True)
class ModelFile:
    """The contents of a model file."""

    version: int
    """Of the format."""
    model: dict[str, Any]
    """The description of the model in JSON."""
    provenance: dict[str, Any]
    """Where the model comes from."""
    digest: str | None
    """None in files of early versions of dpax."""
    arrays: dict[str, np.ndarray] = field(default_factory=dict)
    """By name; none where only the header was read."""


def save_model(path: str | os.PathLike, model: EnergyModel, provenance: dict) -> None:
    """Write a model file, completely or not at all.

    Args:
        path: usually ends in `.dpax`.
        model: the model.
        provenance: JSON-able facts of where it comes from.

    Raises:
        InputError: the folder does not exist, or the file cannot be written (`MachineError`).
    """
    path = Path(path)
    check_output(path, overwrite=True)
    header, arrays = encoded(model, provenance)
    with replacing(path) as temporary:
        # Not save_file: a kill leaves its temporary file behind, and other users may not read its files.
        temporary.write_bytes(save(arrays, metadata=header | {_DIGEST: digest(header, arrays)}))


def encoded(model: EnergyModel, provenance: dict) -> tuple[dict[str, str], dict[str, np.ndarray]]:
    """The metadata of a model's file, without their digest, and its arrays."""
    tree, short = model.spec.model_dump(mode="json"), model.spec.short_range
    arrays = {name: np.asarray(array) for name, array in model.arrays.items()}
    arrays["bias"] = np.array(model.bias)
    if short is not None:
        tree["short_range"]["rmax"] = short.table.rmax
        arrays |= {
            "short_range/knots": short.table.knots,
            "short_range/coefficients": short.table.coefficients,
        }
    header = {
        "format": FORMAT,
        "version": str(VERSION),
        "model": json.dumps(tree),
        "provenance": json.dumps(provenance),
    }
    return header, {name: _storable(array) for name, array in arrays.items()}


def _storable(array: np.ndarray) -> np.ndarray:
    """The array as safetensors keeps it; bfloat16 is widened, which loses nothing."""
    known = array.dtype.kind in "fiub" and array.dtype.isbuiltin == 1
    return np.ascontiguousarray(array if known else array.astype(np.float32))


def read_header(path: str | os.PathLike) -> ModelFile:
    """The description in a model file, without its arrays, so that its digest cannot be checked.

    Raises:
        InputError: the file is missing, not a model file, or of a newer format.
    """
    return _read(path, with_arrays=False)


def read_file(path: str | os.PathLike) -> ModelFile:
    """The contents of a model file of any format that dpax has had.

    Raises:
        InputError: the file is missing, not a model file, damaged, or of a newer format.
    """
    return _read(path, with_arrays=True)


def load_model(path: str | os.PathLike) -> tuple[EnergyModel, dict]:
    """Read a model file of the present format; `dpax.interfaces.model_files.open_model` reads all kinds.

    Returns:
        The model and its provenance.

    Raises:
        InputError: the file is missing, not a model file, damaged, or of another format.
    """
    file = read_file(path)
    if file.version != VERSION:
        raise InputError(f"{path}: format version {file.version}; dpax.interfaces.model_files opens it")
    with reading(path):
        return model_in(file), file.provenance


@contextmanager
def reading(path: str | os.PathLike) -> Iterator[None]:
    """Errors name the file, whatever Python raises for wrong contents.

    Raises:
        InputError: instead of any of these exceptions.
    """
    try:
        yield
    except InputError as error:
        raise InputError(f"{path}: {brief(error)}") from None
    except WRONG_CONTENTS as error:
        raise InputError(f"{path}: {_damaged(error)}") from error


def model_in(file: ModelFile) -> EnergyModel:
    """The model in a file of the present format.

    Raises:
        InputError: a description or arrays that no model has, or that do not fit each other.
    """
    if file.version != VERSION:
        raise InputError(f"format version {file.version}; dpax reads 1 to {VERSION}")
    tree, arrays = dict(file.model), dict(file.arrays)
    short = tree.pop("short_range", None)
    parts = ("descriptor/", "fitting/", *(() if short is None else ("short_range/",)))
    for name in arrays:
        if name != "bias" and not name.startswith(parts):
            raise InputError(f"the array {name} does not belong to a model with these settings")
    spec = ModelSpec.from_plain(tree)
    if short is not None:
        spec = spec.changed(short_range=_short_range(short, spec.descriptor.rcut, arrays))
    bias = numbers(arrays, "bias", (spec.descriptor.ntypes,)).astype(np.float64)
    model = EnergyModel(
        spec,
        {
            **_descriptor(spec.descriptor, arrays),
            **_part("fitting", arrays, fitting_arrays.array_shapes(spec.fitting), spec.fitting.dtype),
        },
        bias_of(spec, bias),
    )
    check_numbers(model)
    statistics = (np.asarray(model.arrays[f"descriptor/{name}"]) for name in ("mean", "stddev"))
    if spec.descriptor.isotropic and not is_isotropic(*statistics):
        raise InputError(
            "the description says that the descriptor is isotropic, but its mean and stddev are not"
        )
    return model


def _descriptor(spec: DescriptorSpec, arrays: Arrays) -> dict[str, np.ndarray]:
    tables = {name: array for name, array in below(arrays, "descriptor").items() if name in TABLES}
    nets = {name: array for name, array in arrays.items() if name.removeprefix("descriptor/") not in tables}
    own = _part("descriptor", nets, descriptor_arrays.array_shapes(spec), spec.dtype)
    return own | placed(fitted_tables(spec, tables), "descriptor") if tables else own


def _part(
    part: str, arrays: Arrays, shapes: Iterable[tuple[str, tuple[int, ...]]], dtype: np.dtype
) -> dict[str, np.ndarray]:
    """The arrays of a part of the model, which must be in the precision that the description says."""
    own = {name: np.asarray(array) for name, array in arrays.items() if name.startswith(f"{part}/")}
    checked = fitted(own, ((f"{part}/{name}", shape) for name, shape in shapes), dtype)
    stored = _storable(np.empty(0, dtype)).dtype
    for name, array in own.items():
        if array.dtype != stored:
            raise InputError(f"the array {name} is of {array.dtype}; a model in {dtype.name} has {stored}")
    return checked


def _short_range(tree: Any, rcut: float, arrays: Arrays) -> ShortRange:
    name = "short_range/coefficients"
    n_types, _, spans, _ = numbers(arrays, name, (None, None, None, 4)).shape
    coefficients = numbers(arrays, name, (n_types, n_types, spans, 4)).astype(np.float64)
    shape = (spans + 1, 1 + n_types * (n_types + 1) // 2)
    knots = numbers(arrays, "short_range/knots", shape).astype(np.float64)
    table = PairTable(knots, coefficients, real(tree, "rmax"), rcut)
    table.check()
    return ShortRange.from_plain({**{key: tree[key] for key in tree if key != "rmax"}, "table": table})


def digest(header: Mapping[str, str], arrays: Mapping[str, np.ndarray]) -> str:
    """SHA-256 of everything in a file, in hexadecimal: docs/model-file.md says of which bytes.

    Args:
        header: the metadata of the file; its own digest does not count.
        arrays: by name.
    """
    text = "".join(f"{name}={header[name]}\n" for name in sorted(header.keys() - {_DIGEST}))
    return sha256(text, arrays)


def _damaged(error: Exception) -> str:
    return f"the model file is damaged, or not written by dpax ({type(error).__name__}: {brief(error)})"


def _read(path: str | os.PathLike, with_arrays: bool) -> ModelFile:
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
            "copy it again from where it was written, or write it again from a checkpoint with `dpax freeze`"
        )
    return ModelFile(version, **parsed, digest=header.get(_DIGEST), arrays=arrays)


def _parse(text: str) -> dict:
    tree = json.loads(text)
    if not isinstance(tree, dict):
        raise TypeError(f"expected a dictionary, got {text[:60]}")
    check_tree(tree)
    return tree


def _check_provenance(provenance: dict) -> None:
    """Check the entries that are used; the rest is only shown."""
    distance = provenance.get("min_nbor_dist", 1.0)
    if not real({"min_nbor_dist": distance}, "min_nbor_dist") > 0:
        raise InputError(f"provenance: min_nbor_dist is {distance} Å; expected a distance above 0")
    for section in (provenance.get("input", {}), provenance.get("input", {}).get("model", {})):
        if not isinstance(section, dict):
            raise TypeError(f"provenance: expected a section of the input, got {shortened(section)}")
