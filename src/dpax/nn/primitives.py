"""Functions whose derivatives stay finite where the textbook form's do not."""

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float

_SMALLEST_SQUARE = 1e-24
"""Rows shorter than 1e-12 are divided by 1e-12, as PyTorch's normalize does: no division by zero."""


def normalize_rows(x: Float[Array, "*rows width"]) -> Float[Array, "*rows width"]:
    """Rows divided by their length; a zero row stays zero, with a finite derivative."""
    square = jnp.sum(x * x, axis=-1, keepdims=True)
    return x * jax.lax.rsqrt(jnp.maximum(square, jnp.asarray(_SMALLEST_SQUARE, x.dtype)))


def layer_norm(
    x: Float[Array, "*rows width"], w: Float[Array, " width"], b: Float[Array, " width"], eps: float
) -> Float[Array, "*rows width"]:
    """Layer normalisation over the last axis (Ba, Kiros, Hinton, arXiv:1607.06450)."""
    centred = x - jnp.mean(x, axis=-1, keepdims=True)
    variance = jnp.mean(centred * centred, axis=-1, keepdims=True)
    return centred * jax.lax.rsqrt(variance + jnp.asarray(eps, x.dtype)) * w + b
