"""`type.raw` and `type_map.raw`: which element each atom of a DeePMD-kit system is."""

from collections.abc import Sequence

import numpy as np

from dpax.data.frame import type_indices
from dpax.data.rows import Folder
from dpax.errors import InputError

VIRTUAL = -1
"""The type that marks a virtual atom in `real_atom_types.npy`."""


def read_types(folder: Folder) -> np.ndarray:
    """The indices in `type.raw`, int64 [atoms].

    Raises:
        InputError: the file is missing, empty or not made of whole numbers >= 0.
    """
    path = f"{folder.where}/type.raw"
    try:
        types = np.array(folder.words("type.raw"), dtype=np.int64)
    except ValueError as error:
        raise InputError(f"{path}: expected whole numbers, one per atom ({error})") from error
    if len(types) == 0 or types.min() < 0:
        raise InputError(f"{path}: expected one index >= 0 for each atom, got {types.tolist()}")
    return types


def read_names(folder: Folder) -> list[str] | None:
    """The element names in `type_map.raw`, or None where there is no such file."""
    return folder.words("type_map.raw") if folder.has("type_map.raw") else None


def check_range(used: np.ndarray, limit: int, source: str, where: str) -> None:
    """See that every index but that of virtual atoms is one of `limit` names.

    Raises:
        InputError: one is not.
    """
    real = used[used != VIRTUAL]
    if len(real) and (real.min() < 0 or real.max() >= limit):
        worst = real.min() if real.min() < 0 else real.max()
        raise InputError(
            f"{source}: type.raw or real_atom_types.npy holds the index {worst}, but {where} has "
            f"{limit} names, for indices from 0 to {limit - 1}; correct one of them"
        )


def translation(
    used: np.ndarray, names: Sequence[str] | None, type_map: Sequence[str], source: str
) -> np.ndarray:
    """From the indices in the folder to those in the model's type_map, int32; -1 where not used.

    Without `type_map.raw` the indices mean the model's own types. A name in `type_map.raw` that no
    atom uses need not be known to the model.

    Args:
        used: the indices that occur.
        names: the content of `type_map.raw`, if any.
        type_map: the model's element names.
        source: for messages.

    Raises:
        InputError: an index without a name, or an element that the model lacks.
    """
    if names is None:
        check_range(used, len(type_map), source, f"the model's type_map {list(type_map)}")
        return np.arange(len(type_map), dtype=np.int32)
    check_range(used, len(names), source, "type_map.raw")
    real = [int(index) for index in np.unique(used) if index != VIRTUAL]
    table = np.full(len(names), VIRTUAL, dtype=np.int32)
    table[real] = type_indices([names[index] for index in real], type_map, source)
    return table
