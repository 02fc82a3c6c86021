"""Structures from anything that dpdata reads: the outputs of some twenty codes, and more."""

import warnings
from collections.abc import Sequence
from importlib import import_module
from pathlib import Path
from typing import Any

import numpy as np

from dpax.data.ase_io import Reading, report_unconverged
from dpax.data.convergence import is_known, unconverged
from dpax.data.frame import Frame, type_indices
from dpax.data.label_keys import look_alikes
from dpax.data.structure_files import uncompressed
from dpax.errors import InputError

_READ = ("energies", "forces", "virials")
_NAMELESS = "TYPE_"
"""How dpdata begins the names of types for which a file gives no elements."""


class DpdataSystem:
    """All frames of what dpdata makes of a file or folder, in memory.

    Frames whose electronic loop did not converge are left out with a warning, unless `reading` says not to:
    by dpax where it knows what the code says of its loops, and else by dpdata.

    Args:
        path: a file or folder; a file may be compressed (.gz, .bz2, .xz).
        form: dpdata's name of its format, `vasp/outcar` for example.
        reading: how it is read. Its keys play no part: dpdata has those of each format.

    Raises:
        InputError: the extra `dpdata` is not installed, dpdata does not know the format or cannot read the
            file, there is no frame in it, or nobody names its elements.
    """

    def __init__(self, path: Path, form: str, reading: Reading | None = None):
        self.name = str(path)
        reading = reading or Reading()
        if not path.exists():
            raise InputError(f"no data found at '{path}'")
        with uncompressed(path) as plain:
            self.data = _read(plain, form, self.name, reading.keep_unconverged)
            frames = len(self.data["coords"])
            if frames == 0:
                raise InputError(f"{path} holds no structures in dpdata's format {form}")
            checked = plain.is_file() and not reading.keep_unconverged
            failed = unconverged(plain, form, frames) if checked else []
        if failed:
            report_unconverged(self.name, failed, frames)
        self._numbers = [number for number in range(frames) if number not in failed]
        self.names = _elements(self.data["atom_names"], reading.lammps_types, self.name)
        self.unread = look_alikes(key for key in self.data if key not in _READ)
        periodic = not self.data.get("nopbc", False)
        self._pbc = (periodic, periodic, periodic)

    def __len__(self) -> int:
        """The number of frames."""
        return len(self._numbers)

    def frame(self, index: int, type_map: Sequence[str]) -> Frame:
        """One frame, with the labels that it has.

        Raises:
            InputError: an element that type_map lacks, or an unsound structure (see `Frame`).
        """
        number = self._numbers[index]
        source = f"{self.name} frame {number}"
        elements = [self.names[kind] for kind in self.data["atom_types"]]
        return Frame(
            positions=self.data["coords"][number],
            types=type_indices(elements, type_map, source),
            cell=self.data["cells"][number] if self._pbc[0] else None,
            pbc=self._pbc,
            source=source,
            energy=self._label("energies", number),
            forces=self._label("forces", number),
            virial=self._label("virials", number),
        )

    def _label(self, name: str, number: int) -> Any:
        return np.asarray(self.data[name][number], np.float64) if name in self.data else None


def _read(path: Path, form: str, name: str, keep_unconverged: bool) -> dict[str, Any]:
    """With labels, or without where the format has none."""
    try:
        dpdata = import_module("dpdata")
    except ImportError as error:
        raise InputError(
            "reading through dpdata needs the package dpdata, which is not installed: "
            "pip install 'dpax[dpdata]'"
        ) from error
    failures = []
    for kind, options in (
        (dpdata.LabeledSystem, {"convergence_check": not (keep_unconverged or is_known(form))}),
        (dpdata.System, {}),
    ):
        try:
            data = kind(str(path), fmt=form, **options).data
        except (Exception, SystemExit) as error:  # dpdata's readers raise anything
            failures.append(error)
            continue
        if failures and not isinstance(failures[0], NotImplementedError):
            warnings.warn(f"{name}: dpdata reads no labels from it ({_reason(failures[0])})", stacklevel=1)
        return data
    raise InputError(f"{name} cannot be read by dpdata as {form}: {'; '.join(map(_reason, failures))}")


def _reason(error: BaseException) -> str:
    return " ".join(str(error).split()) or type(error).__name__


def _elements(names: Sequence[str], lammps_types: Sequence[str], source: str) -> list[str]:
    """The names of the types, those of LAMMPS by what the user says of them."""
    if not any(str(name).startswith(_NAMELESS) for name in names):
        return [str(name) for name in names]
    if len(lammps_types) < len(names):
        raise InputError(
            f"{source}: has {len(names)} types of atoms, but names no elements; name those of the types "
            "1, 2, … with --type-map"
        )
    return list(lammps_types[: len(names)])
