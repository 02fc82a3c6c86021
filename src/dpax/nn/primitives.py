"""Functions whose derivatives stay finite where the textbook form's do not."""

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float

_SMALLEST_SQUARE = {8: 1e-24, 4: 1e-12}
"""By bytes per number. In float64 rows shorter than 1e-12 are divided by 1e-12, as PyTorch's normalize does:
no division by zero. In float32 the bound is 1e-6: the parameter gradient of forces has the inverse square of
this number, and 1e48 would be infinite, which makes NaN of the zeros in empty slots."""


def normalize_rows(x: Float[Array, "*rows width"]) -> Float[Array, "*rows width"]:
    """Rows divided by their length; a zero row stays zero, with finite derivatives."""
    wide = x.astype(jnp.promote_types(x.dtype, jnp.float32))
    square = jnp.sum(wide * wide, axis=-1, keepdims=True)
    smallest = jnp.asarray(_SMALLEST_SQUARE[wide.dtype.itemsize], wide.dtype)
    return (wide * jax.lax.rsqrt(jnp.maximum(square, smallest))).astype(x.dtype)


def layer_norm(
    x: Float[Array, "*rows width"], w: Float[Array, " width"], b: Float[Array, " width"], eps: float
) -> Float[Array, "*rows width"]:
    """Layer normalisation over the last axis (Ba, Kiros, Hinton, arXiv:1607.06450)."""
    centred = x - jnp.mean(x, axis=-1, keepdims=True)
    variance = jnp.mean(centred * centred, axis=-1, keepdims=True)
    return centred * jax.lax.rsqrt(variance + jnp.asarray(eps, x.dtype)) * w + b
