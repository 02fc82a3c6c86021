"""Frames written as extended XYZ that loses nothing: ASE's own writer keeps eight decimals."""

from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from ase.data import atomic_numbers
from ase.io.extxyz import key_val_dict_to_str

from dpax.data.frame import Frame
from dpax.errors import InputError

COLUMNS = {
    "positions": "pos",
    "forces": "forces",
    "atom_energies": "energies",
    "atom_pref": "atom_pref",
    "atom_ener_coeff": "atom_ener_coeff",
    "aparam": "aparam",
}
"""The name of the columns of each field with a row per atom."""
_HEADER = ("energy", "virial", "fparam", "drdq", "hessian")


def write_extxyz(path: Path, frames: Sequence[Frame], type_map: Sequence[str]) -> None:
    """Write frames into a new file, every number with all its digits.

    Args:
        path: the file.
        frames: their types index `type_map`.
        type_map: element names.

    Raises:
        InputError: a type is not called by a chemical symbol; or the file is already there.
    """
    try:
        with path.open("x", encoding="utf-8") as file:
            for frame in frames:
                file.writelines(f"{line}\n" for line in _lines(frame, type_map))
    except FileExistsError as error:
        raise InputError(f"{path} is already there; remove it or choose another file") from error


def _lines(frame: Frame, type_map: Sequence[str]) -> Iterator[str]:
    symbols = np.asarray(type_map)[frame.types].tolist()
    strange = sorted(set(symbols) - set(atomic_numbers))
    if strange:
        raise InputError(
            f"{frame.source}: extended XYZ has chemical symbols only, and {', '.join(strange)} is none; "
            "choose another format"
        )
    columns = {name: getattr(frame, field) for field, name in COLUMNS.items()}
    tables = {n: v.reshape(len(symbols), -1) for n, v in columns.items() if v is not None}
    properties = [f"{name}:R:{table.shape[1]}" for name, table in tables.items()]
    header: dict[str, Any] = {"Lattice": None if frame.cell is None else frame.cell.T}
    header["Properties"] = ":".join(["species:S:1", *properties])
    header |= {name: getattr(frame, name) for name in _HEADER}
    header["pbc"] = np.array(frame.pbc)
    yield str(len(symbols))
    yield key_val_dict_to_str({key: value for key, value in header.items() if value is not None})
    for symbol, numbers in zip(symbols, np.hstack(list(tables.values())).tolist(), strict=True):
        yield " ".join([symbol, *map(repr, numbers)])
