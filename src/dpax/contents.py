"""Checks of the contents of a file, which may be anything."""

import hashlib
from collections.abc import Mapping
from typing import Any

import numpy as np

from dpax.errors import InputError, shortened

_DEEPEST = 100
"""The deepest nesting of dictionaries and lists; those of a model and its input are a fifth as deep."""


def sha256(text: str, arrays: Mapping[str, np.ndarray]) -> str:
    """SHA-256 of a text and of named arrays with their types and shapes, in hexadecimal.

    docs/model-file.md says of which bytes.
    """
    digest = hashlib.sha256(text.encode())
    for name in sorted(arrays):
        array = arrays[name]
        digest.update(f"{name} {array.dtype.name} {list(array.shape)}\n".encode())
        digest.update(array.tobytes())
    return digest.hexdigest()


def check_tree(tree: Any, most: int | None = None) -> None:
    """Check that dictionaries and lists can be walked through.

    Args:
        tree: of them.
        most: values that it may have, counted as often as they occur; where one object may stand in many
            places, a short file can describe an endless tree.

    Raises:
        InputError: they are nested too deeply, or there are too many.
    """
    level, count = [tree], 1
    for _ in range(_DEEPEST):
        nodes = [node for node in level if isinstance(node, (dict, list))]
        if not nodes:
            return
        count += sum(map(len, nodes))
        if most is not None and count > most:
            raise InputError("its anchors repeat more than a file of this size can hold")
        level = [v for node in nodes for v in (node.values() if isinstance(node, dict) else node)]
    raise InputError(f"dictionaries or lists are nested more than {_DEEPEST} levels deep")


def real(data: Mapping[str, Any], key: str, default: float | None = None) -> float:
    """A finite number of a dictionary.

    Raises:
        InputError: something else, or nothing although there is no default.
    """
    value = data.get(key, default)
    if isinstance(value, bool) or not isinstance(value, (int, float)) or not abs(value) < float("inf"):
        raise InputError(f"{key} is {shortened(value)}; expected a finite number")
    return float(value)


def flag(data: Mapping[str, Any], key: str, default: bool) -> bool:
    """A Boolean of a dictionary.

    Raises:
        InputError: something else.
    """
    value = data.get(key, default)
    if not isinstance(value, bool):
        raise InputError(f"{key} is {shortened(value)}; expected true or false")
    return value


def expect(name: str, actual: Any, expected: Any) -> None:
    """Check that two places of a model agree.

    Raises:
        InputError: they do not.
    """
    if actual != expected:
        raise InputError(
            f"the model contradicts itself: {name} is {shortened(actual)} in one place and "
            f"{shortened(expected)} in another"
        )
