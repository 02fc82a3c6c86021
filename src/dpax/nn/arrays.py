"""Trees of named arrays: plain dictionaries whose keys are paths, such as "descriptor/embedding/0/w".

Parameters, statistics and tables of a model all lie in one such tree. It is what is trained, averaged, saved
and restored, and whatever is true of an array (that it is trained, for example) is stated for its name.
"""

from collections.abc import Iterable, Mapping
from typing import Any, TypeVar

import jax.numpy as jnp
import numpy as np
from jaxtyping import Array

from dpax.errors import InputError

Arrays = Mapping[str, Array | np.ndarray]
T = TypeVar("T")


def below(arrays: Mapping[str, T], *parts: str | int) -> dict[str, T]:
    """The arrays whose names begin with a path, without it."""
    path = "".join(f"{part}/" for part in parts)
    return {name.removeprefix(path): array for name, array in arrays.items() if name.startswith(path)}


def placed(arrays: Mapping[str, T], *parts: str | int) -> dict[str, T]:
    """The same arrays below a path."""
    path = "".join(f"{part}/" for part in parts)
    return {f"{path}{name}": array for name, array in arrays.items()}


def numbered(names: Iterable[str]) -> int:
    """How many parts 0, 1, … there are directly below the root of a tree of these names."""
    return len({name.partition("/")[0] for name in names if name.partition("/")[0].isdecimal()})


def fitted(
    arrays: Mapping[str, Any], shapes: Iterable[tuple[str, tuple[int, ...]]], dtype: np.dtype
) -> dict[str, np.ndarray]:
    """The arrays that a model has, in its precision.

    Args:
        arrays: by name.
        shapes: names and shapes of the model's arrays. They are taken one by one, so that nothing is made by
            the numbers of a description that has no arrays to go with it.
        dtype: of the arrays.

    Raises:
        InputError: one is missing, has another shape, does not hold real numbers, or is one too many.
    """
    checked = {}
    for name, shape in shapes:
        if arrays.get(name) is None:
            raise InputError(f"the array {name} is missing")
        array = as_numbers(arrays[name], name)
        if array.shape != shape:
            raise InputError(f"the array {name} has shape {array.shape}; expected {shape}")
        with np.errstate(over="ignore"):  # whoever reads a model sees whether its numbers are finite
            checked[name] = array.astype(dtype)
    unknown = [name for name in arrays if name not in checked]
    if unknown:
        raise InputError(f"the array {unknown[0]} does not belong to a model with these settings")
    return checked


def numbers(arrays: Mapping[str, Any], name: str, shape: tuple[int | None, ...]) -> np.ndarray:
    """An array of a dictionary.

    Args:
        arrays: by name.
        name: of the array.
        shape: that it must have; None stands for any number.

    Raises:
        InputError: the array is missing, has another shape, or does not hold real numbers.
    """
    if not isinstance(arrays, Mapping) or arrays.get(name) is None:
        raise InputError(f"the array {name} is missing")
    array = as_numbers(arrays[name], name)
    expected = tuple(n if e is None else e for n, e in zip(array.shape, shape, strict=False))
    if len(array.shape) != len(shape) or array.shape != expected:
        wanted = ", ".join("any" if n is None else str(n) for n in shape)
        raise InputError(f"the array {name} has shape {array.shape}; expected ({wanted})")
    return array


def as_numbers(array: Any, name: str) -> np.ndarray:
    """An array of real numbers, whatever its shape.

    Raises:
        InputError: it holds something else.
    """
    array = np.asarray(array)
    if not any(jnp.issubdtype(array.dtype, kind) for kind in (np.floating, np.integer)):
        raise InputError(f"the array {name} holds no real numbers but {array.dtype}")
    return array
