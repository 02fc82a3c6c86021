"""`type.raw` and `type_map.raw`: which element each atom of a DeePMD-kit system is."""

from collections import Counter
from collections.abc import Sequence

import numpy as np

from dpax.data.frame import type_indices
from dpax.data.rows import Folder
from dpax.errors import InputError

_DIGITS = 9
"""Digits of an index, at most."""
_LETTERS = 64
"""Letters of an element's name, at most."""
VIRTUAL = -1
"""The type that marks a virtual atom in `real_atom_types.npy`."""


def read_types(folder: Folder) -> np.ndarray:
    """The indices in `type.raw`, int64 [atoms].

    Raises:
        InputError: the file is missing, empty or not made of whole numbers >= 0.
    """
    path = f"{folder.where}/type.raw"
    words = folder.words("type.raw")
    if not words:
        raise InputError(f"{path}: is empty; expected one index >= 0 for each atom")
    for atom, word in enumerate(words):
        if not (word.isascii() and word.isdecimal() and len(word) <= _DIGITS):
            raise InputError(
                f"{path}: expected whole numbers >= 0, one index per atom, got {word[:40]!r} for atom {atom} "
                "(counted from 0)"
            )
    return np.array(words, dtype=np.int64)


def read_names(folder: Folder) -> list[str] | None:
    """The element names in `type_map.raw`, or None where there is no such file.

    Raises:
        InputError: the file cannot be read, or has a name twice or one that is no name.
    """
    if not folder.has("type_map.raw"):
        return None
    names = folder.words("type_map.raw")
    long = next((name for name in names if len(name) > _LETTERS), None)
    if long is not None:
        raise InputError(f"{folder.where}/type_map.raw: {long[:_LETTERS]!r}... is not an element name")
    twice = next((name for name, times in Counter(names).items() if times > 1), None)
    if twice is not None:
        raise InputError(f"{folder.where}/type_map.raw: has {twice} twice; each element has one index")
    return names


def check_range(used: np.ndarray, limit: int, source: str, where: str) -> None:
    """Check that every index but that of virtual atoms is one of `limit` names.

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
