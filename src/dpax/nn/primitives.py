"""Functions with derivatives that stay finite, or fast, where those of the textbook form do not."""

from collections.abc import Sequence
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jax.custom_derivatives import SymbolicZero, linear_call
from jaxtyping import Array, Float

_SMALLEST_SQUARE = {8: 1e-24, 4: 1e-12}
"""By bytes per number. In float64 rows shorter than 1e-12 are divided by 1e-12, as PyTorch's normalize does:
no division by zero. In float32 the bound is 1e-6: the parameter gradient of forces has the inverse square of
this number, and 1e48 would be infinite, which makes NaN of the zeros in empty slots."""


EXACT = jax.lax.Precision.HIGHEST
"""Of matrix products. JAX's default is TF32 on GPUs and bfloat16 on TPUs: float32 keeps its precision."""


def einsum(formula: str, *factors: Array) -> Array:
    """Sums of products in the precision of the arrays, on any device."""
    return jnp.einsum(formula, *factors, precision=EXACT)


def in_the_wider(arrays: Sequence[Array]) -> list[Array]:
    """The arrays in the widest of their floating-point types."""
    dtype = np.result_type(*(array.dtype for array in arrays))
    return [array.astype(dtype) for array in arrays]


def per_row(vector: Float[Array, " width"], x: Float[Array, "*rows width"]) -> Float[Array, "... width"]:
    """A vector with as many axes as x has, to add to or to multiply every row of x."""
    return jnp.expand_dims(vector, tuple(range(x.ndim - 1)))


def normalize_rows(x: Float[Array, "*rows width"]) -> Float[Array, "*rows width"]:
    """Rows divided by their length; a zero row stays zero, with finite derivatives."""
    wide = x.astype(np.promote_types(x.dtype, np.float32))
    return (wide * inverse_root(jnp.sum(wide * wide, axis=-1))[..., None]).astype(x.dtype)


def inverse_root(square: Float[Array, "*rows"]) -> Float[Array, "*rows"]:
    """1/√x of squared lengths, bounded where they vanish."""
    smallest = jnp.asarray(_SMALLEST_SQUARE[square.dtype.itemsize], square.dtype)
    return jax.lax.rsqrt(jnp.maximum(square, smallest))


class QuadraticForm(NamedTuple):
    """|g w + b|² as a function of g: g·(square g + 2 linear) + constant."""

    square: Float[Array, "n_in n_in"]
    linear: Float[Array, " n_in"]
    constant: Float[Array, ""]


def quadratic_form(w: Float[Array, "n_in n_out"], b: Float[Array, " n_out"] | None) -> QuadraticForm:
    """The squared length of `g w + b`."""
    b = jnp.zeros(w.shape[1], w.dtype) if b is None else b
    return QuadraticForm(matmul(w, w.T), jnp.sum(w * per_row(b, w), axis=-1), jnp.sum(b * b))


@jax.custom_jvp
def squared_length(g: Float[Array, "*rows n_in"], form: QuadraticForm) -> Float[Array, " *rows"]:
    """A quadratic form of rows, whose derivative along g costs no product of matrices.

    Half the gradient, `square g + linear`, is a part of the value.
    """
    return _length_and_slope(g, form)[0]


def _length_and_slope(g: Array, form: QuadraticForm) -> tuple[Array, Array]:
    slope = matmul(g, form.square) + per_row(form.linear, g)
    return jnp.sum(g * (slope + per_row(form.linear, g)), axis=-1) + form.constant, slope


def _squared_length_jvp(primals: tuple, tangents: tuple) -> tuple[Array, Array]:
    (g, form), (dg, dform) = primals, tangents
    value, slope = _length_and_slope(g, form)
    change = jnp.zeros_like(value)
    if not isinstance(dg, SymbolicZero):
        change += 2.0 * jnp.sum(slope * dg, axis=-1)
    if not isinstance(dform.square, SymbolicZero):
        change += jnp.sum(g * linear_call(_by_weights, _by_weights_transposed, g, dform.square), axis=-1)
    if not isinstance(dform.linear, SymbolicZero):
        change += 2.0 * jnp.sum(g * per_row(dform.linear, g), axis=-1)
    if not isinstance(dform.constant, SymbolicZero):
        change += dform.constant
    return value, change


squared_length.defjvp(_squared_length_jvp, symbolic_zeros=True)


def layer_norm(
    x: Float[Array, "*rows width"], w: Float[Array, " width"], b: Float[Array, " width"], eps: float
) -> Float[Array, "*rows width"]:
    """Layer normalisation over the last axis (Ba, Kiros, Hinton, arXiv:1607.06450)."""
    centred = x - jnp.mean(x, axis=-1)[..., None]
    variance = jnp.mean(centred * centred, axis=-1)
    normalized = centred * jax.lax.rsqrt(variance + jnp.asarray(eps, x.dtype))[..., None]
    return normalized * per_row(w, x) + per_row(b, x)


@jax.custom_jvp
def matmul(x: Float[Array, "*rows n_in"], w: Float[Array, "n_in n_out"]) -> Float[Array, "*rows n_out"]:
    """`x @ w`, with a gradient of w that multiplies as fast as the product itself.

    JAX transposes `x @ w` to `(y^T x)^T`, for which XLA copies y into another layout on CPUs; `x^T y` needs
    no copy. A training step of DPA-1 on water is a tenth faster for it.
    """
    return jnp.matmul(x, w, precision=EXACT)


def _matmul_jvp(primals: tuple, tangents: tuple) -> tuple[Array, Any]:
    (x, w), (dx, dw) = primals, tangents
    y = matmul(x, w)
    parts = []
    if not isinstance(dx, SymbolicZero):
        parts.append(matmul(dx, w))
    if not isinstance(dw, SymbolicZero):
        parts.append(linear_call(_by_weights, _by_weights_transposed, x, dw))
    return y, sum(parts[1:], parts[0]) if parts else jnp.zeros_like(y)


def _by_weights(x: Array, dw: Array) -> Array:
    return jnp.matmul(x, dw, precision=EXACT)


def _by_weights_transposed(x: Array, dy: Array) -> Array:
    rows = x.reshape(-1, x.shape[-1]), dy.reshape(-1, dy.shape[-1])
    return jnp.matmul(rows[0].T, rows[1], precision=EXACT)


matmul.defjvp(_matmul_jvp, symbolic_zeros=True)
