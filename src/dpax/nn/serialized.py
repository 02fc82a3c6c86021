"""DeePMD-kit's dictionaries of a model's parts, taken apart with care: a file may hold anything.

What a dictionary may hold under which key is said once, by the annotations of the constructor that takes it.
Nothing is allocated by the numbers of a dictionary before they were compared with its arrays.
"""

import inspect
from collections.abc import Mapping
from functools import cache
from typing import Annotated, Any, get_type_hints

import jax.numpy as jnp
import numpy as np
from pydantic import BaseModel, ConfigDict, Field, ValidationError, create_model

from dpax.errors import InputError, shortened

Count = Annotated[int, Field(ge=0)]
Width = Annotated[int, Field(ge=1)]
Types = Annotated[int, Field(ge=1, le=1000)]
"""A number of types. The table of all pairs of more types would not fit into memory."""
Positive = Annotated[float, Field(gt=0)]
NotNegative = Annotated[float, Field(ge=0)]

_STRICT = ConfigDict(strict=True, extra="forbid", allow_inf_nan=False)


_DEEPEST = 100
"""Dictionaries and lists may be nested so deeply; those of a model and its input are a fifth as deep."""


def check_tree(tree: Any, most: int | None = None) -> None:
    """See that dictionaries and lists can be walked through.

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
            raise InputError("its anchors repeat more than a file of this size can say")
        level = [v for node in nodes for v in (node.values() if isinstance(node, dict) else node)]
    raise InputError(f"dictionaries or lists are nested more than {_DEEPEST} levels deep")


def take(data: Any, cls: str | tuple[str, ...], newest: int) -> dict:
    """A copy of a serialised dictionary without `@class` and `@version`, both checked.

    Raises:
        InputError: no dictionary, one of another class, or of a newer version than is known here.
    """
    names = (cls,) if isinstance(cls, str) else cls
    if not isinstance(data, Mapping):
        raise InputError(f"found {shortened(data)} where the dictionary of a {names[0]} was expected")
    data = dict(data)
    found, version = data.pop("@class", names[0]), data.pop("@version", 1)
    if found not in names:
        raise InputError(f"the dictionary describes a {found!r}; expected {' or '.join(names)}")
    if type(version) is not int or not 1 <= version <= newest:
        raise InputError(
            f"the dictionary of {found!r} has version {shortened(version)}; this dpax reads 1 to {newest}"
        )
    return data


def check_settings(cls: type, data: Mapping[str, Any]) -> dict[str, Any]:
    """See that a dictionary holds what a constructor takes, each value of its kind and within its range.

    Args:
        cls: its annotations say what it takes.
        data: the arguments.

    Returns:
        All arguments, with the constructor's defaults for those that are not given.

    Raises:
        InputError: an unknown key, one that is missing, or an invalid value.
    """
    try:
        return dict(_form(cls).model_validate(dict(data)))
    except ValidationError as error:
        first = error.errors()[0]
        place = ".".join(map(str, first["loc"]))
        if first["type"] == "extra_forbidden":
            raise InputError(f"a {cls.__name__} has no setting {place!r}") from None
        if first["type"] == "missing":
            raise InputError(f"the setting {place!r} of a {cls.__name__} is missing") from None
        reason = f"{first['msg'].removeprefix('Input ')}, got {shortened(first['input'])}"
        raise InputError(f"the setting {place!r} of a {cls.__name__} {reason}") from None


@cache
def _form(cls: type) -> type[BaseModel]:
    """The arguments of a constructor as a pydantic model."""
    constructor: Any = cls.__init__
    hints = get_type_hints(constructor, include_extras=True)
    fields: dict[str, Any] = {
        name: (hints[name], ... if parameter.default is parameter.empty else parameter.default)
        for name, parameter in inspect.signature(constructor).parameters.items()
        if name != "self"
    }
    return create_model(cls.__name__, __config__=_STRICT, **fields)


def numbers(arrays: Mapping[str, Any], name: str, shape: tuple[int | None, ...]) -> np.ndarray:
    """One of a dictionary's arrays.

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


def real(data: Mapping[str, Any], key: str, default: float | None = None) -> float:
    """A finite number of a dictionary.

    Raises:
        InputError: something else, or nothing although there is no default.
    """
    found = data.get(key, default)
    if isinstance(found, bool) or not isinstance(found, (int, float)) or not abs(found) < float("inf"):
        raise InputError(f"{key} is {shortened(found)}; expected a finite number")
    return float(found)


def flag(data: Mapping[str, Any], key: str, default: bool) -> bool:
    """A truth value of a dictionary.

    Raises:
        InputError: something else.
    """
    found = data.get(key, default)
    if not isinstance(found, bool):
        raise InputError(f"{key} is {shortened(found)}; expected true or false")
    return found


def expect_same(of: str, found: Any, expected: Any, *names: str) -> None:
    """See that two modules have the same attributes of these names; upper and lower case are the same.

    Raises:
        InputError: they have not.
    """
    for name in names:
        expect(f"{name} of {of}", _plain(getattr(found, name)), _plain(getattr(expected, name)))


def _plain(value: Any) -> Any:
    """A value by which spellings of the same are equal: no activation function has two names."""
    if isinstance(value, str):
        return {"linear": "none"}.get(value.lower(), value.lower())
    return value


def expect(name: str, found: Any, expected: Any) -> None:
    """See that two places of a model say the same.

    Raises:
        InputError: they do not.
    """
    if found != expected:
        raise InputError(
            f"the model contradicts itself: {name} is {shortened(found)} in one place and "
            f"{shortened(expected)} in another"
        )
