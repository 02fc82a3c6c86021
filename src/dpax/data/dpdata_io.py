"""Structures from anything that dpdata reads: the outputs of some twenty codes, and more."""

from collections.abc import Sequence
from importlib import import_module
from pathlib import Path
from typing import Any

import numpy as np

from dpax.data.frame import Frame, type_indices
from dpax.errors import InputError


class DpdataSystem:
    """All frames of what dpdata makes of a file or folder, in memory.

    Args:
        path: a file or folder.
        form: dpdata's name of its format, `vasp/outcar` for example.

    Raises:
        InputError: the extra `dpdata` is not installed, dpdata does not know the format or cannot read the
            file, or there is no frame in it.
    """

    def __init__(self, path: Path, form: str):
        self.name = str(path)
        self.data: dict[str, Any] = _read(path, form)
        periodic = not self.data.get("nopbc", False)
        self._pbc = (periodic, periodic, periodic)
        if len(self) == 0:
            raise InputError(f"{path} holds no structures in dpdata's format {form}")

    @property
    def names(self) -> list[str]:
        """The elements."""
        return [str(name) for name in self.data["atom_names"]]

    def __len__(self) -> int:
        """The number of frames."""
        return len(self.data["coords"])

    def frame(self, index: int, type_map: Sequence[str]) -> Frame:
        """One frame, with the labels that it has.

        Raises:
            InputError: an element that type_map lacks, or an unsound structure (see `Frame`).
        """
        source = f"{self.name} frame {index}"
        elements = [self.names[kind] for kind in self.data["atom_types"]]
        return Frame(
            positions=self.data["coords"][index],
            types=type_indices(elements, type_map, source),
            cell=self.data["cells"][index] if self._pbc[0] else None,
            pbc=self._pbc,
            source=source,
            energy=self._label("energies", index),
            forces=self._label("forces", index),
            virial=self._label("virials", index),
        )

    def _label(self, name: str, index: int) -> Any:
        return np.asarray(self.data[name][index], np.float64) if name in self.data else None


def _read(path: Path, form: str) -> dict[str, Any]:
    """With labels, or without where the format has none."""
    try:
        dpdata = import_module("dpdata")
    except ImportError as error:
        raise InputError(
            "reading through dpdata needs the package dpdata, which is not installed: "
            "pip install 'dpax[dpdata]'"
        ) from error
    if not path.exists():
        raise InputError(f"no data found at '{path}'")
    failures = []
    for kind in (dpdata.LabeledSystem, dpdata.System):
        try:
            return kind(str(path), fmt=form).data
        except (Exception, SystemExit) as error:  # dpdata's readers raise whatever they run into
            failures.append(str(error) or type(error).__name__)
    raise InputError(f"{path} cannot be read by dpdata as {form}: {failures[0]}; {failures[1]}")
