"""Affine layers with DeePMD-kit's residual rule, and networks made of them.

The arrays of a layer are `w`, and where it has them `b` and `idt`; those of a network lie below the numbers
of its layers, "0/w", "0/b", "1/w" and so on.
"""

from collections.abc import Iterator, Sequence
from itertools import pairwise
from typing import NamedTuple

import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float

from dpax.nn.activation import activation
from dpax.nn.arrays import Arrays, below, numbered
from dpax.nn.initial import Draws
from dpax.nn.primitives import matmul, per_row


class Affine(NamedTuple):
    """The arrays of one layer in the form that compiled functions take."""

    w: Float[Array, "n_in n_out"]
    b: Float[Array, " n_out"] | None
    idt: Float[Array, " n_out"] | None


def affine(arrays: Arrays) -> Affine:
    """A layer from its named arrays."""
    b, idt = (jnp.asarray(arrays[name]) if name in arrays else None for name in ("b", "idt"))
    return Affine(jnp.asarray(arrays["w"]), b, idt)


def network(arrays: Arrays) -> tuple[Affine, ...]:
    """The layers of a network from its named arrays."""
    return tuple(affine(below(arrays, number)) for number in range(numbered(arrays)))


def dense(
    x: Float[Array, "*rows n_in"], layer: Affine, activation_function: str, resnet: bool
) -> Float[Array, "*rows n_out"]:
    """`activation(x w + b) · idt`, plus x where the widths match, or [x, x] where the width doubles."""
    y = matmul(x, layer.w)
    if layer.b is not None:
        y = y + per_row(layer.b, y)
    y = activation(activation_function)(y)
    if layer.idt is not None:
        y = y * per_row(layer.idt, y)
    n_in, n_out = layer.w.shape
    if resnet and n_out == n_in:
        y = y + x
    elif resnet and n_out == 2 * n_in:
        y = y + jnp.concatenate([x, x], axis=-1)
    return y


def apply_layers(
    x: Float[Array, "*rows n_in"], layers: Sequence[Affine], activation_function: str
) -> Float[Array, "*rows n_out"]:
    """Residual layers applied to rows."""
    for layer in layers:
        x = dense(x, layer, activation_function, resnet=True)
    return x


class LayerPlan(NamedTuple):
    """The plan of a layer: its name, widths and arrays."""

    name: str
    """Of the layer in the tree of arrays."""
    n_in: int
    n_out: int
    bias: bool = True
    timestep: bool = False
    """Whether idt exists, where the widths allow a residual."""
    scale: float = 1.0
    """Factor on the weights under dpax's rule."""

    def shapes(self) -> dict[str, tuple[int, ...]]:
        """The shapes of its arrays by name."""
        shapes: dict[str, tuple[int, ...]] = {f"{self.name}/w": (self.n_in, self.n_out)}
        if self.bias:
            shapes[f"{self.name}/b"] = (self.n_out,)
        if self.timestep and self.n_out in (self.n_in, 2 * self.n_in):
            shapes[f"{self.name}/idt"] = (self.n_out,)
        return shapes

    def initial(self, draws: Draws, seed_name: str) -> dict[str, np.ndarray]:
        """The arrays that it starts from, float64.

        Args:
            draws: where random numbers come from.
            seed_name: what they depend on beside the seed.
        """
        drawn = draws.layer(seed_name, self.n_in, self.n_out, self.scale)
        return {name: getattr(drawn, name.rpartition("/")[2]) for name in self.shapes()}


def plan_network(
    prefix: str, widths: Sequence[int], *, bias: bool = True, timestep: bool = False
) -> Iterator[LayerPlan]:
    """The layers PREFIX0, PREFIX1, … of a network of these widths, that of its input first."""
    for number, (n_in, n_out) in enumerate(pairwise(widths)):
        yield LayerPlan(f"{prefix}{number}", n_in, n_out, bias, timestep)
