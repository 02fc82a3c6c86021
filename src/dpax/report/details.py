"""Text files of labels beside predictions, as `dp test -d` writes them."""

from collections.abc import Sequence
from contextlib import ExitStack
from pathlib import Path
from typing import TYPE_CHECKING, Any, Self, TextIO

import numpy as np

from dpax.data.quantities import ERRORS
from dpax.errors import InputError
from dpax.files import check_output, replacing

if TYPE_CHECKING:
    from dpax.infer import Comparison

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
        if self._prefix is not None:
            check_output(Path(self._prefix), overwrite=True)
        return self

    def __exit__(self, *error: Any) -> None:
        self._open.__exit__(*error)

    def add(self, system: str, compared: "Sequence[Comparison]") -> None:
        """Add one frame: a line for its energy, one for each atom's force, one for its virial, …

        Args:
            system: the name of the frame's system.
            compared: the frame's labels and predictions.
        """
        if self._prefix is None:
            return
        for error, label, prediction, _ in compared:
            kind = ERRORS[error].detail
            if kind:
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
