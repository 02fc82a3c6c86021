"""beartype for single functions, which is how jaxtyping applies it to the package in tests."""

from collections.abc import Callable
from typing import Annotated, Self, TypeVar, get_args

import numpy as np
from beartype import BeartypeConf, FrozenDict, beartype
from beartype.vale import Is

Function = TypeVar("Function", bound=Callable)

# NumPy's numbers are numbers, though not to isinstance, and so are its arrays without axes.
_Scalar = Annotated[np.ndarray, Is[lambda array: array.ndim == 0]]
_Int, _Float = int | np.integer, float | int | np.floating | np.integer | _Scalar
_NUMBERS = BeartypeConf(hint_overrides=FrozenDict({int: _Int, float: _Float, complex: complex | _Float}))


def checked(function: Function) -> Function:
    """The function with arguments and result checked, except where beartype cannot check what is declared."""
    hints = function.__annotations__
    function.__annotations__ = {name: hint for name, hint in hints.items() if _checkable(hint)}
    return beartype(function, conf=_NUMBERS)


def _checkable(hint: object) -> bool:
    # Self means something only in a class that is decorated whole, and isinstance knows few protocols.
    protocol = getattr(hint, "_is_protocol", False) and not getattr(hint, "_is_runtime_protocol", False)
    return hint is not Self and not protocol and all(_checkable(part) for part in get_args(hint))
