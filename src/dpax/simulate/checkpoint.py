"""Where a simulation stands, in one file that is always whole."""

import io
import json
import math
import zipfile
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any

import numpy as np
from pydantic import BaseModel, ConfigDict, Field, ValidationError

from dpax.contents import sha256
from dpax.errors import InputError, MachineError, brief
from dpax.faults import machine_error
from dpax.files import replacing
from dpax.simulate.thermo import Thermo

_FACTS, _DIGEST = "facts", "digest"
_REMEDY = "start a new simulation with --overwrite; its last frame may be the structure to start from"

_Count = Annotated[int, Field(ge=0)]
_Sizes = Annotated[list[Annotated[int, Field(ge=1)]], Field(min_length=2, max_length=2)]


class _Part(BaseModel):
    model_config = ConfigDict(strict=True, allow_inf_nan=False)


class _Capacities(_Part):
    capacities: list[_Sizes]


class _Marks(_Part):
    trajectory: _Count | None
    log: _Count | None


class _Facts(_Part):
    """What the facts must hold; there may be more."""

    step: _Count
    energy: float
    start: Thermo
    """The first line of the log."""
    settings: dict[str, Any]
    rng: dict[str, Any]
    capacities: _Capacities
    marks: _Marks


@dataclass(frozen=True)
class Checkpoint:
    """All that a simulation needs to go on."""

    arrays: dict[str, np.ndarray]
    """Positions, momenta, cell, and the integrator's numbers."""
    facts: dict[str, Any]
    """What JSON holds: the step, the state of the random numbers, the sizes of the files, and so on."""

    def write(self, path: Path) -> None:
        """Write a file that takes the place of the one before at once, or not at all.

        Raises:
            MachineError: it cannot be written.
        """
        text = json.dumps(self.facts)
        texts = {_FACTS: np.array(text), _DIGEST: np.array(sha256(text, self.arrays))}
        arrays: dict[str, Any] = self.arrays | texts
        with replacing(path, durable=True) as temporary, temporary.open("wb") as file:
            np.savez(file, **arrays)

    @classmethod
    def read(cls, path: Path) -> "Checkpoint":
        """Read a checkpoint; one of an earlier version of dpax has no digest.

        Raises:
            InputError: there is none, or the file is damaged or something else.
        """
        if not path.is_file():
            raise InputError(f"{path}: there is no checkpoint to go on from; start without --restart")
        try:
            arrays = _read_arrays(path)
            text, expected = str(arrays.pop(_FACTS)), arrays.pop(_DIGEST, None)
            if expected is not None and str(expected) != sha256(text, arrays):
                raise ValueError("its contents have changed")
            return cls(arrays, _checked(arrays, text))
        except Exception as error:  # an archive may be damaged in many ways
            known = machine_error(error)
            if known is not None:  # nothing may be wrong with the file
                raise MachineError(f"{path}: {known}") from error
            raise InputError(
                f"{path}: not a checkpoint of dpax md, or damaged ({brief(error)}); {_REMEDY}"
            ) from None


def _read_arrays(path: Path) -> dict[str, np.ndarray]:
    """The arrays of an `.npz` file, none of which is larger than the file.

    NumPy's own reader allocates as much as a damaged header asks for.
    """
    size, arrays = path.stat().st_size, {}
    with zipfile.ZipFile(path) as archive:
        for member in archive.infolist():
            if max(member.file_size, member.compress_size) > size:
                raise ValueError(f"{member.filename} claims {member.file_size} bytes; the file has {size}")
            content = io.BytesIO(archive.read(member))
            np.lib.format.read_magic(content)
            shape, fortran, dtype = np.lib.format.read_array_header_1_0(content)
            numbers = np.frombuffer(content.getbuffer()[content.tell() :], dtype, math.prod(shape))
            name = member.filename.removesuffix(".npy")
            arrays[name] = numbers.reshape(shape, order="F" if fortran else "C").copy()
    return arrays


def _checked(arrays: dict[str, np.ndarray], text: str) -> dict[str, Any]:
    """The facts, where arrays and facts are those of a checkpoint.

    Raises:
        Exception: of any kind, with what is wrong.
    """
    facts = json.loads(text)
    Thermo(**facts["start"])
    try:
        _Facts.model_validate_json(text)
    except ValidationError as error:
        first = error.errors()[0]
        raise ValueError(f"{'.'.join(map(str, first['loc']))}: {first['msg']}") from None
    np.random.default_rng().bit_generator.state = facts["rng"]
    n = len(arrays["numbers"])
    shapes = {"numbers": (n,), "positions": (n, 3), "momenta": (n, 3), "cell": (3, 3)}
    missing = sorted(shapes.keys() - arrays.keys())
    if missing:
        raise ValueError(f"it lacks {', '.join(missing)}")
    for name, array in arrays.items():
        if array.dtype.kind not in "fi" or not np.isfinite(array).all():
            raise ValueError(f"{name} holds something else than finite numbers")
        if array.shape != shapes.get(name, array.shape):
            raise ValueError(f"{name} has shape {array.shape}; expected {shapes[name]}")
    return facts
