"""Text files of labels beside predictions, in the layout of `dp test -d`."""

from contextlib import ExitStack
from pathlib import Path
from typing import TYPE_CHECKING, Self, TextIO

import numpy as np

from dpax.errors import InputError

if TYPE_CHECKING:
    from dpax.data import Frame
    from dpax.infer import Evaluation

_STRAIN = [f"{a}{b}" for a in "xyz" for b in "xyz"]
_COLUMNS = {
    "e": ["e"],
    "e_peratom": ["e"],
    "f": ["fx", "fy", "fz"],
    "v": [f"v{ab}" for ab in _STRAIN],
    "v_peratom": [f"v{ab}" for ab in _STRAIN],
}


class DetailFiles:
    """Writes PREFIX.e.out, .e_peratom.out, .f.out, .v.out and .v_peratom.out as far as there are labels.

    Args:
        prefix: path and beginning of the names; None writes nothing.
    """

    def __init__(self, prefix: str | None):
        self._prefix = prefix
        self._open = ExitStack()
        self._files: dict[str, TextIO] = {}

    def __enter__(self) -> Self:
        if self._prefix is not None and not Path(self._prefix).absolute().parent.is_dir():
            raise InputError(
                f"--detail {self._prefix}: the folder {Path(self._prefix).parent} does not exist"
            )
        return self

    def __exit__(self, *_: object) -> None:
        self._open.close()

    def add(self, frame: "Frame", evaluation: "Evaluation") -> None:
        """Add one frame: a line for its energy, one for each atom's force, one for its virial."""
        if self._prefix is None:
            return
        atoms = len(frame.types)
        if frame.energy is not None:
            self._write("e", frame, np.array(frame.energy), np.array(evaluation.energy))
            self._write(
                "e_peratom", frame, np.array(frame.energy / atoms), np.array(evaluation.energy / atoms)
            )
        if frame.forces is not None:
            self._write("f", frame, frame.forces, evaluation.forces)
        if frame.virial is not None:
            self._write("v", frame, frame.virial, evaluation.virial)
            self._write("v_peratom", frame, frame.virial / atoms, evaluation.virial / atoms)

    def _write(self, kind: str, frame: "Frame", label: np.ndarray, prediction: np.ndarray) -> None:
        names = _COLUMNS[kind]
        file = self._file(kind)
        rows = [np.reshape(array, (-1, len(names))) for array in (label, prediction)]
        np.savetxt(
            file, np.hstack(rows), fmt="%.10e", header=frame.source if kind == "f" else "", comments="# "
        )

    def _file(self, kind: str) -> TextIO:
        if kind not in self._files:
            path = Path(f"{self._prefix}.{kind}.out")
            file = self._open.enter_context(path.open("w", encoding="utf-8"))
            titles = [f"{source}_{name}" for source in ("data", "pred") for name in _COLUMNS[kind]]
            file.write(f"# {' '.join(titles)}\n")
            self._files[kind] = file
        return self._files[kind]
