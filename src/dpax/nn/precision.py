"""Names of floating-point precisions, and the JAX settings that they need."""

import jax
import jax.numpy as jnp
import numpy as np

from dpax.errors import InputError

_DTYPES = {
    "default": jnp.float64,
    "float16": jnp.float16,
    "half": jnp.float16,
    "bfloat16": jnp.bfloat16,
    "float32": jnp.float32,
    "single": jnp.float32,
    "float64": jnp.float64,
    "double": jnp.float64,
}
PRECISIONS = tuple(_DTYPES)


def numpy_dtype(precision: str) -> np.dtype:
    """The dtype of a precision's name, whether or not JAX may use it.

    Raises:
        InputError: unknown name.
    """
    try:
        return np.dtype(_DTYPES[precision.lower()])
    except KeyError:
        raise InputError(f"precision {precision!r} is not one of {', '.join(PRECISIONS)}") from None


def jax_dtype(precision: str) -> np.dtype:
    """The dtype of a precision's name.

    Raises:
        InputError: unknown name, or float64 while JAX would silently compute in float32.
    """
    dtype = numpy_dtype(precision)
    if dtype == np.float64 and not jax.config.read("jax_enable_x64"):
        raise InputError(
            f"precision {precision!r} needs JAX's 64-bit mode: call jax.config.update('jax_enable_x64', "
            "True), or choose precision='float32'"
        )
    return dtype
