"""The base of the public classes: named arrays as variables of flax.nnx, under DeePMD-kit's attributes."""

from collections.abc import Callable, Iterable, Mapping
from typing import Any

import jax.numpy as jnp
import numpy as np
from flax import nnx

from dpax.deepmd.places import Place, renamed
from dpax.nn.arrays import Arrays, below, numbered
from dpax.nn.primitives import matmul, per_row


class Fixed(nnx.Variable):
    """An array that training does not move: statistics, frozen weights."""


class Module(nnx.Module):
    """A module whose arrays are replaced by plain assignment: `layer.w = array`.

    The array is stored as a JAX array of the precision that the attribute had, so the next call uses it.
    """

    def __setattr__(self, name: str, value: Any) -> None:
        current = self.__dict__.get(name)
        if isinstance(getattr(type(self), name, None), property):
            object.__setattr__(self, name, value)
        elif isinstance(current, nnx.Variable) and value is not None and not isinstance(value, nnx.Variable):
            current.set_value(jnp.asarray(value, dtype=current[...].dtype))
        elif isinstance(value, nnx.Variable):
            super().__setattr__(name, nnx.data(value))  # also if the attribute was None before
        else:
            super().__setattr__(name, value)


def variables(arrays: Arrays, is_trained: Callable[[str], bool]) -> dict[str, nnx.Variable]:
    """Arrays as variables: parameters, or `Fixed` where training does not change them."""
    return {
        name: (nnx.Param if is_trained(name) else Fixed)(jnp.asarray(array)) for name, array in arrays.items()
    }


def named_arrays(module: nnx.Module, places: Iterable[Place]) -> dict[str, Any]:
    """The arrays of a module by their names in a model of dpax."""
    paths = {
        "/".join(map(str, path)): variable[...] for path, variable in nnx.to_flat_state(nnx.state(module))
    }
    return renamed(paths, places, "attribute")


class Layer(Module):
    """One affine layer: `w`, and where it has them `b` and `idt`."""

    def __init__(self, arrays: Mapping[str, nnx.Variable]):
        self.w: Any = arrays["w"]
        self.b: Any = arrays.get("b")
        self.idt: Any = arrays.get("idt")

    def __call__(self, x: Any) -> Any:
        """`x w + b` on rows."""
        y = matmul(jnp.asarray(x), self.w[...])
        return y if self.b is None else y + per_row(self.b[...], y)


class Network(Module):
    """Layers one after the other."""

    def __init__(self, layers: Iterable[Layer]):
        self.layers = nnx.List(layers)

    def __getitem__(self, index: int) -> Layer:
        return self.layers[index]


def network(arrays: Mapping[str, nnx.Variable]) -> Network:
    """A network from the variables below the numbers of its layers."""
    return Network(Layer(below(arrays, number)) for number in range(numbered(arrays)))


def value(variable: nnx.Variable | None) -> Any:
    """The array in a variable; None stays None."""
    return None if variable is None else variable[...]


def to_numpy(variable: nnx.Variable | None) -> np.ndarray | None:
    """The array in a variable as NumPy's; None stays None."""
    return None if variable is None else np.asarray(variable[...])
