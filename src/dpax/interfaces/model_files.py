"""Model files of all kinds: dpax's own and DeePMD-kit's, distinguished by their suffixes."""

import os
from pathlib import Path
from typing import Any

from dpax.computing import computing
from dpax.deepmd import model_files as deepmd
from dpax.deepmd.first_format import VERSION as FIRST
from dpax.deepmd.first_format import first_model_in
from dpax.deepmd.script import input_of
from dpax.errors import InputError
from dpax.files import check_output, replacing
from dpax.infer import Potential
from dpax.machine import start_devices
from dpax.model.energy_model import EnergyModel
from dpax.model.file import model_in, read_file, reading, save_model


def open_model(path: str | os.PathLike, branch: str | None = None) -> tuple[EnergyModel, dict[str, Any]]:
    """Read a model file, whatever JAX's default precision is.

    Args:
        path: a `.dpax` file, or one of DeePMD-kit's: `.dp`, `.yaml`, `.yml`, `.hlo`, `.jax`, `.pt`, `.pth`.
        branch: of a multi-task model of DeePMD-kit: the branch's name or alias.

    Returns:
        The model, and where it comes from.

    Raises:
        InputError: not a model file, damaged, or of a kind that dpax does not read; or JAX finds no device.
    """
    path = Path(path)
    start_devices()
    with computing(True):  # whatever the caller's mode, a float64 model stays one
        if deepmd.is_foreign(path):
            return deepmd.read_model(path, branch)
        if branch is not None:
            raise InputError(f"{path}: a file of dpax holds one model; leave out the branch {branch!r}")
        file = read_file(path)
        with reading(path):
            model = first_model_in(file) if file.version == FIRST else model_in(file)
        return model, file.provenance


def read_scripts(path: str | os.PathLike) -> dict[str | None, dict[str, Any]]:
    """The inputs that a file's models were made from, by branch; a single model has the branch None.

    Raises:
        InputError: as `open_model`.
    """
    path = Path(path)
    if deepmd.is_foreign(path):
        source = deepmd.open_source(path)
        if source.script:
            return {**source.branches} if source.branches else {None: source.script}
    model, provenance = open_model(path)
    return {None: input_of(model, provenance)}


def write_model(path: str | os.PathLike, model: EnergyModel, provenance: dict[str, Any]) -> None:
    """Write a model file of dpax (`.dpax`) or for DeePMD-kit (`.dp`, `.yaml`, `.yml`).

    A file that is there is replaced at once or not at all.

    Raises:
        InputError: the folder does not exist, another ending, or a model that DeePMD-kit cannot express.
    """
    path = Path(path)
    with computing(True):
        if not deepmd.is_foreign(path):
            return save_model(path, model, provenance)
        check_output(path, overwrite=True)
        with replacing(path) as temporary:
            try:
                deepmd.write_model(temporary, model, provenance)
            except InputError as error:
                raise InputError(f"{path}: {error}") from None


def load(
    path: str | os.PathLike,
    devices: list[Any] | None = None,
    block_size: int | None = None,
    branch: str | None = None,
) -> Potential:
    """Load a potential from a model file.

    Args:
        path: a `.dpax` file, or one of DeePMD-kit's: `.dp`, `.yaml`, `.yml`, `.hlo`, `.jax`, `.pt`, `.pth`.
        devices: JAX devices that share the work; all local ones by default.
        block_size: most atoms computed at a time on a device; None chooses for the machine.
        branch: of a multi-task model of DeePMD-kit: the branch's name or alias.

    Raises:
        InputError: not a model file, damaged, or of a kind that dpax does not read.
    """
    model, provenance = open_model(path, branch)
    with computing(True):
        return Potential(model, provenance, devices, block_size)
