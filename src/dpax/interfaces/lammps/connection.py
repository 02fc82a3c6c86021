"""The functions that the compiled pair style calls: plain C on one side, `PairStyle` on the other."""

import ctypes
import traceback
from collections.abc import Callable
from ctypes import POINTER, c_char_p, c_double, c_int, c_int32, c_int64
from itertools import count
from typing import Any

import numpy as np

from dpax.errors import InputError
from dpax.geometry.neighborhoods import Surroundings
from dpax.interfaces.lammps.pair import PairStyle

_INTS, _DOUBLES, _WORDS = POINTER(c_int), POINTER(c_double), POINTER(c_char_p)
_FAILED = -1

_styles: dict[int, PairStyle] = {}
_numbers = count()


def _open(n: int, words: Any, devices: int, place: int) -> int:
    number = next(_numbers)
    _styles[number] = PairStyle(_strings(words, n), devices, place)
    return number


def _elements(
    number: int, n: int, words: Any, n_types: int, types: Any, cutoff: Any, models: Any, every: Any
) -> int:
    style = _styles[number]
    elements = style.elements(_strings(words, n), n_types)
    np.ctypeslib.as_array(types, (n_types,))[:] = elements
    cutoff[0], models[0], every[0] = style.cutoff, style.n_models, style.settings.out_freq
    return 0


def _evaluate(
    number: int,
    model: int,
    n_atoms: int,
    n_pairs: int,
    first_type: int,
    types: Any,
    counts: Any,
    neighbor_types: Any,
    vectors: Any,
    energies: Any,
    gradients: Any,
) -> int:
    around = Surroundings(
        _array(types, n_atoms),
        _array(counts, n_atoms),
        _array(neighbor_types, n_pairs),
        _array(vectors, n_pairs, 3),
        first_type,
    )
    _array(energies, n_atoms)[:], _array(gradients, n_pairs, 3)[:] = _styles[number].evaluate(model, around)
    return 0


def _deviation(
    number: int, step: int, n_atoms: int, n_models: int, tags: Any, forces: Any, virials: Any, energies: Any
) -> int:
    _styles[number].write_deviation(
        step,
        _array(tags, n_atoms),
        _array(forces, n_atoms, n_models, 3),
        _array(virials, n_models, 3, 3),
        _array(energies, n_models),
    )
    return 0


def _close(number: int) -> None:
    del _styles[number]


_PROTOTYPES = {
    "open": (ctypes.CFUNCTYPE(c_int, c_int, _WORDS, c_int, c_int), _open),
    "elements": (
        ctypes.CFUNCTYPE(c_int, c_int, c_int, _WORDS, c_int, _INTS, _DOUBLES, _INTS, _INTS),
        _elements,
    ),
    "evaluate": (
        ctypes.CFUNCTYPE(c_int, *[c_int] * 5, *[_INTS] * 3, *[_DOUBLES] * 3),
        _evaluate,
    ),
    "deviation": (
        ctypes.CFUNCTYPE(c_int, c_int, c_int64, c_int, c_int, POINTER(c_int32), *[_DOUBLES] * 3),
        _deviation,
    ),
    "close": (ctypes.CFUNCTYPE(None, c_int), _close),
}


class _Connection(ctypes.Structure):
    """The struct of the same name in pair_dpax.cpp."""

    _fields_ = [
        *((name, prototype) for name, (prototype, _) in _PROTOTYPES.items()),
        ("reason", ctypes.c_char * 4096),
    ]


_kept: list[Any] = []
"""What C holds pointers to."""


def connect(address: int) -> None:
    """Fill in the struct at this address."""
    connection = _Connection.from_address(address)
    for name, (prototype, function) in _PROTOTYPES.items():
        wrapped = prototype(_told(function, connection))
        _kept.append(wrapped)
        setattr(connection, name, wrapped)


def _told(function: Callable[..., int | None], connection: _Connection) -> Callable[..., int | None]:
    """The function with its errors passed on to C, where an exception would be lost."""

    def call(*args: Any) -> int | None:
        try:
            return function(*args)
        except BaseException as error:
            if not isinstance(error, InputError):
                traceback.print_exc()
            reason = str(error) if isinstance(error, InputError) else f"{type(error).__name__}: {error}"
            connection.reason = reason.encode()[:4095]
            return _FAILED

    return call


def _strings(words: Any, n: int) -> list[str]:
    return [words[k].decode() for k in range(n)]


def _array(pointer: Any, *shape: int) -> np.ndarray:
    """A view of C's memory; where there is nothing the pointer may be null."""
    if 0 in shape:
        return np.empty(shape, np.dtype(pointer._type_))
    return np.ctypeslib.as_array(pointer, shape)
