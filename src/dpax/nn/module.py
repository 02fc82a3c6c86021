"""The base of all modules, and the two kinds of arrays that they hold."""

from typing import Any

import jax.numpy as jnp
import numpy as np
from flax import nnx


class Fixed(nnx.Variable):
    """An array that training does not move: statistics, energy biases, frozen weights."""


class Module(nnx.Module):
    """A module whose arrays are replaced by plain assignment: `layer.w = array`.

    The array is stored as a JAX array of the precision that the attribute had, so the next call uses it.
    """

    def __setattr__(self, name: str, value: Any) -> None:
        current = self.__dict__.get(name)
        if isinstance(current, nnx.Variable) and value is not None and not isinstance(value, nnx.Variable):
            current.set_value(jnp.asarray(value, dtype=current[...].dtype))
        elif isinstance(value, nnx.Variable):
            super().__setattr__(name, nnx.data(value))  # also where the attribute was None before
        else:
            super().__setattr__(name, value)


def parameter(array: np.ndarray | None, trainable: bool) -> nnx.Variable | None:
    """An array that training moves, or `Fixed` where it is not trainable; None stays None."""
    if array is None:
        return None
    return nnx.Param(jnp.asarray(array)) if trainable else Fixed(jnp.asarray(array))


def value(variable: nnx.Variable | None) -> Any:
    """The array in a variable; None stays None."""
    return None if variable is None else variable[...]


def to_numpy(variable: nnx.Variable | None) -> np.ndarray | None:
    """The array in a variable as NumPy's, for a serialised dictionary."""
    return None if variable is None else np.asarray(variable[...])
