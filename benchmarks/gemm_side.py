"""The roof: one large square matrix product, the fastest arithmetic there is on a machine."""

from functools import partial
from typing import Any

import jax
import jax.numpy as jnp
from case import Case, Repetition

SIZE = 2048


def prepare(case: Case) -> tuple[Repetition, dict[str, Any]]:
    """The product in the case's precision, which is not TF32 on a GPU, on all cores of one device."""
    wide = case["precision"] == "float64"
    with jax.enable_x64(wide):
        matrix = jnp.ones((SIZE, SIZE), case["precision"])
    product = jax.jit(partial(jnp.dot, precision=jax.lax.Precision.HIGHEST))

    def multiply() -> None:
        with jax.enable_x64(wide):
            product(matrix, matrix).block_until_ready()

    return multiply, {"flops": 2 * SIZE**3}
