"""Frames written as extended XYZ that loses nothing: ASE's own writer keeps eight decimals."""

from collections.abc import Iterator, Sequence
from pathlib import Path

import numpy as np
from ase.data import atomic_numbers
from ase.io.extxyz import key_val_dict_to_str

from dpax.data.frame import Frame
from dpax.data.quantities import ATOMS, QUANTITIES
from dpax.errors import InputError


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
    tables, header = {"pos": frame.positions}, {}
    for name, value in frame.values().items():
        quantity = QUANTITIES[name]
        place = tables if quantity.shape[:1] == (ATOMS,) else header
        place[quantity.written_key or quantity.keys[0]] = value
    tables = {key: table.reshape(len(symbols), -1) for key, table in tables.items()}
    properties = [f"{name}:R:{table.shape[1]}" for name, table in tables.items()]
    lattice = {} if frame.cell is None else {"Lattice": frame.cell.T}
    columns = {"Properties": ":".join(["species:S:1", *properties])}
    yield str(len(symbols))
    yield key_val_dict_to_str(lattice | columns | header | {"pbc": np.array(frame.pbc)})
    for symbol, numbers in zip(symbols, np.hstack(list(tables.values())).tolist(), strict=True):
        yield " ".join([symbol, *map(repr, numbers)])
