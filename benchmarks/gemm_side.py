"""The roof: one large square matrix product, the fastest arithmetic there is on a machine."""

from functools import partial
from typing import Any

import jax
import jax.numpy as jnp
from case import Case, Repetition

SIZES = {"cpu": 2048, "gpu": 8192}
"""Rows of the matrices: so many that a GPU's time is not that of a launch, which 2048 take a good part of."""


def prepare(case: Case) -> tuple[Repetition, dict[str, Any]]:
    """The product of random numbers in the case's precision, on all cores of one device."""
    wide = case["precision"] == "float64"
    size = SIZES.get(jax.default_backend(), SIZES["gpu"])
    with jax.enable_x64(wide):
        matrix = jax.random.normal(jax.random.key(1), (size, size), case["precision"])
    # HIGH is what GPUs compute in TF32, and what DeePMD-kit's JAX asks for.
    precision = jax.lax.Precision.HIGH if case["tf32"] else jax.lax.Precision.HIGHEST
    product = jax.jit(partial(jnp.dot, precision=precision))

    def multiply() -> None:
        with jax.enable_x64(wide):
            product(matrix, matrix).block_until_ready()

    return multiply, {"flops": 2 * size**3}
