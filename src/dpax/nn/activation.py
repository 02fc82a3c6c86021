"""Activation functions by DeePMD-kit's names."""

import math
from collections.abc import Callable
from functools import partial

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float

from dpax.errors import InputError

Activation = Callable[[Float[Array, "..."]], Float[Array, "..."]]


def _identity(x: Float[Array, "..."]) -> Float[Array, "..."]:
    return x


def _silut(x: Float[Array, "..."], threshold: float) -> Float[Array, "..."]:
    """Silu below the threshold, continued above it by a tanh with the same value and slope."""
    sigmoid = 1.0 / (1.0 + math.exp(-threshold))
    value = threshold * sigmoid
    slope = sigmoid + value * (1.0 - sigmoid)
    return jnp.where(x < threshold, jax.nn.silu(x), jnp.tanh(slope * (x - threshold)) + value)


_ACTIVATIONS: dict[str, Activation] = {
    "none": _identity,
    "linear": _identity,
    "tanh": jnp.tanh,
    "relu": jax.nn.relu,
    "relu6": jax.nn.relu6,
    "gelu": partial(jax.nn.gelu, approximate=True),
    "gelu_tf": partial(jax.nn.gelu, approximate=True),
    "softplus": jax.nn.softplus,
    "sigmoid": jax.nn.sigmoid,
    "silu": jax.nn.silu,
}
ACTIVATIONS = (*_ACTIVATIONS, "silut", "silut:THRESHOLD", "custom_silu", "custom_silu:THRESHOLD")


def activation(name: str | None) -> Activation:
    """The function behind a name, upper or lower case; None is the identity.

    `silut:t` (also `custom_silu:t`) takes a threshold t, 3 where none is given.

    Raises:
        InputError: unknown name.
    """
    key = (name or "none").lower()
    family, _, threshold = key.partition(":")
    if family in ("silut", "custom_silu"):
        try:
            return partial(_silut, threshold=float(threshold or 3.0))
        except ValueError:
            pass
    elif key in _ACTIVATIONS:
        return _ACTIVATIONS[key]
    raise InputError(f"activation function {name!r} is not one of {', '.join(ACTIVATIONS)}")
