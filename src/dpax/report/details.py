"""Text files of labels beside predictions, as `dp test -d` writes them."""

from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path
from typing import TYPE_CHECKING, Any, Self, TextIO

import numpy as np

from dpax.errors import InputError
from dpax.files import replacing

if TYPE_CHECKING:
    from dpax.data import Frame
    from dpax.infer import Evaluation

_TENSOR = [f"{a}{b}" for a in "xyz" for b in "xyz"]
_COLUMNS = {
    "e": ["e"],
    "e_peratom": ["e"],
    "f": ["fx", "fy", "fz"],
    "v": [f"v{ab}" for ab in _TENSOR],
    "v_peratom": [f"v{ab}" for ab in _TENSOR],
    "s": [f"s{ab}" for ab in _TENSOR],
    "h": ["h"],
}
_UNITS = {"s": " (eV/Å³)"}
_REMARKS = {"h": " (3Na*3Na matrix in row-major order)"}
"""What DeePMD-kit writes into the headers beside the columns' names."""


class DetailFiles:
    """Writes PREFIX.e.out, .e_peratom.out, .f.out, .v.out, .v_peratom.out, .s.out and .h.out.

    The columns, the one header line (which names the first system) and the order of rows are DeePMD-kit's:
    the systems follow each other without anything between them. A frame adds what it has labels for. The
    files appear when all frames have been added.

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

    def __exit__(self, *error: Any) -> None:
        self._open.__exit__(*error)

    def add(
        self, system: str, frame: "Frame", evaluation: "Evaluation", hessian: np.ndarray | None = None
    ) -> None:
        """Add one frame: a line for its energy, one for each atom's force, one for its virial, …

        Args:
            system: the name of the frame's system.
            frame: with the labels.
            evaluation: of the frame.
            hessian: the predicted one, if the labels' is to be compared.
        """
        if self._prefix is None:
            return
        for kind, label, prediction in _pairs(frame, evaluation, hessian):
            width = len(_COLUMNS[kind])
            rows = [np.reshape(array, (-1, width)) for array in (label, prediction)]
            np.savetxt(self._file(kind, system), np.hstack(rows))

    def _file(self, kind: str, system: str) -> TextIO:
        if kind not in self._files:
            path = Path(f"{self._prefix}.{kind}.out")
            if path.is_file() and not _is_detail_file(path):
                raise InputError(f"--detail: {path} exists and is not of dpax test; give another prefix")
            temporary = self._open.enter_context(replacing(path))
            file = self._open.enter_context(temporary.open("w", encoding="utf-8", errors="backslashreplace"))
            titles = [f"{source}_{name}" for source in ("data", "pred") for name in _COLUMNS[kind]]
            title = f"{system}{_UNITS.get(kind, '')}: {' '.join(titles)}{_REMARKS.get(kind, '')}"
            file.write(f"# {title}\n")
            self._files[kind] = file
        return self._files[kind]


def _is_detail_file(path: Path) -> bool:
    with path.open("rb") as file:
        return file.read(1) == b"#"


def _pairs(
    frame: "Frame", evaluation: "Evaluation", hessian: np.ndarray | None
) -> Iterator[tuple[str, np.ndarray, np.ndarray]]:
    """The label and the prediction for each kind of file."""
    atoms = len(frame.types)
    if frame.energy is not None:
        label, prediction = np.array(frame.energy), np.array(evaluation.energy)
        yield "e", label, prediction
        yield "e_peratom", label / atoms, prediction / atoms
    if frame.forces is not None:
        yield "f", frame.forces, evaluation.forces
    if frame.virial is not None:
        yield "v", frame.virial, evaluation.virial
        yield "v_peratom", frame.virial / atoms, evaluation.virial / atoms
        if evaluation.volume is not None:
            yield "s", -frame.virial / evaluation.volume, -evaluation.virial / evaluation.volume
    if frame.hessian is not None and hessian is not None:
        yield "h", frame.hessian, hessian
