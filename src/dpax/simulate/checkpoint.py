"""Where a simulation stands, in one file that is always whole."""

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from zipfile import BadZipFile

import numpy as np

from dpax.errors import InputError
from dpax.files import replacing

_FACTS = "facts"


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
        arrays: dict[str, Any] = self.arrays | {_FACTS: np.array(json.dumps(self.facts))}
        with replacing(path, durable=True) as temporary, temporary.open("wb") as file:
            np.savez(file, **arrays)

    @classmethod
    def read(cls, path: Path) -> "Checkpoint":
        """Read a checkpoint.

        Raises:
            InputError: there is none, or the file is something else.
        """
        if not path.is_file():
            raise InputError(f"{path}: there is no checkpoint to go on from; start without --restart")
        try:
            with np.load(path, allow_pickle=False) as file:
                arrays = {name: file[name] for name in file.files}
            return cls(arrays, json.loads(str(arrays.pop(_FACTS))))
        except (OSError, ValueError, KeyError, BadZipFile) as error:
            raise InputError(f"{path}: not a checkpoint of dpax md, or damaged ({error})") from None
