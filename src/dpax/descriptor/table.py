"""The table that replaces the radial embedding net, and how it is evaluated.

The radial net sees one number, the normalised radial entry x of an environment row. Between two knots a
polynomial of degree 5 stands for it; the knots are dense as far as the distances in the data reach and sparse
beyond. Below and above the table a straight line continues with the value and slope at its end.

DeePMD-kit reads these tables and dpax reads DeePMD-kit's; both compute the same numbers from them.
"""

import math
from collections.abc import Collection
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float, Int

from dpax.descriptor.spec import DescriptorSpec
from dpax.errors import InputError
from dpax.nn.arrays import Arrays, numbers
from dpax.nn.primitives import einsum

TABLES = ("type_pairs", "table/knots", "table/coefficients")
"""Arrays of a compressed descriptor that replace networks."""
TERMS = 6
"""Of a polynomial."""


class Knots(NamedTuple):
    """The positions of the knots, from which the polynomial of a number follows."""

    lower: float
    """The first knot."""
    upper: float
    """Up to here the knots lie `fine` apart, from here on `coarse`."""
    top: float
    """The table ends here."""
    fine: float
    coarse: float
    check_frequency: float
    """Part of DeePMD-kit's files; not used."""


class Table(NamedTuple):
    """The arrays of a table in the form that blocks use; the first and the last row are straight lines."""

    knots: Float[Array, " 6"]
    origins: Float[Array, " rows"]
    """The x from which each row's polynomial counts."""
    coefficients: Float[Array, "6 rows width"]
    """Constant term first."""


@jax.custom_jvp
def interpolate(table: Table, x: Float[Array, "*slots"]) -> Float[Array, "*slots width"]:
    """The embedding of each number. The table is a constant: no derivative is taken with respect to it."""
    rows, t = _find(table, x)
    value = table.coefficients[-1][rows]
    for c in table.coefficients[-2::-1]:
        value = value * t + c[rows]
    return value.astype(x.dtype)


@interpolate.defjvp
def _interpolate_with_slope(primals: Any, tangents: Any) -> tuple[Array, Array]:
    """Value and slope in one pass: each coefficient is fetched once."""
    table, x = primals
    rows, t = _find(table, x)
    value = table.coefficients[-1][rows]
    slope = jnp.zeros_like(value)
    for c in table.coefficients[-2::-1]:
        slope = slope * t + value
        value = value * t + c[rows]
    return value.astype(x.dtype), slope.astype(x.dtype) * tangents[1][..., None]


def _find(table: Table, x: Float[Array, "*slots"]) -> tuple[Int[Array, "*slots"], Float[Array, "*slots 1"]]:
    """The row of each number, and its distance from that row's origin."""
    lower, upper, top, fine, coarse, _ = table.knots
    x = x.astype(table.origins.dtype)
    n_rows = len(table.origins)
    n_fine = jnp.floor((upper - lower) / fine)
    interval = jnp.where(x < upper, jnp.floor((x - lower) / fine), n_fine + jnp.floor((x - upper) / coarse))
    row = jnp.clip(interval + 1, 1, n_rows - 2)
    row = jnp.where(x < lower, 0, jnp.where(x < top, row, n_rows - 1)).astype(np.int32)
    return row, (x - table.origins[row])[..., None]


def is_compressed(arrays: Collection[str]) -> bool:
    """Whether a descriptor with arrays of these names has tables instead of networks."""
    return "type_pairs" in arrays


def fitted_tables(spec: DescriptorSpec, arrays: Arrays) -> dict[str, np.ndarray]:
    """The arrays that replace networks, in a descriptor's precision.

    Args:
        spec: of the descriptor. Half precisions could not index a radial table, which stays in float32.
        arrays: `type_pairs`, and where there is a radial table `table/knots` [6] and `table/coefficients`
            [6, intervals, width], the constant term first.

    Raises:
        InputError: arrays that do not belong to such a descriptor, or knots that do not rise.
    """
    if not spec.strip:
        raise InputError("the descriptor is compressed, but has tebd_input_mode 'concat'")
    width, wide = spec.neuron[-1], np.promote_types(np.float32, spec.dtype)
    rows = (spec.ntypes + 1) ** (1 if spec.type_one_side else 2)
    tables = {"type_pairs": numbers(arrays, "type_pairs", (rows, width)).astype(spec.dtype)}
    if any(name in arrays for name in TABLES[1:]):
        knots = numbers(arrays, "table/knots", (len(Knots._fields),))
        coefficients = numbers(arrays, "table/coefficients", (TERMS, None, width))
        _check_knots(Knots(*knots.astype(np.float64).tolist()), coefficients.shape[1])
        tables |= {"table/knots": knots.astype(wide), "table/coefficients": coefficients.astype(wide)}
    return tables


def _check_knots(knots: Knots, rows: int) -> None:
    """Check that the knots of a table rise, and that there are as many intervals as the table has rows."""
    lower, upper, top, fine, coarse, _ = knots
    if not (-math.inf < lower < upper <= top < math.inf and fine > 0 and coarse > 0):
        raise InputError(f"the knots of a compressed descriptor's table do not rise: {list(knots)}")
    intervals = (upper - lower) / fine + (top - upper) / coarse
    if abs(intervals - rows) > 2:
        raise InputError(
            f"a compressed table has {rows} intervals; its knots {list(knots)} make {intervals:.0f}"
        )


def radial_table(arrays: Arrays) -> Table | None:
    """The table that replaces a descriptor's radial net, with the lines that continue it at both ends; None
    where there is none."""
    if "table/knots" not in arrays:
        return None
    knots, coefficients = (jnp.asarray(arrays[f"table/{name}"]) for name in ("knots", "coefficients"))
    lower, upper, top, fine, coarse, _ = knots
    number = jnp.arange(coefficients.shape[1], dtype=knots.dtype)
    n_fine = jnp.floor((upper - lower) / fine)
    starts = jnp.where(number < n_fine, lower + number * fine, upper + (number - n_fine) * coarse)
    below, above = _line(coefficients[:, 0], lower - starts[0]), _line(coefficients[:, -1], top - starts[-1])
    return Table(
        knots,
        jnp.concatenate([lower[None], starts, top[None]]),
        jnp.concatenate([below[:, None], coefficients, above[:, None]], axis=1),
    )


def _line(coefficients: Float[Array, "6 width"], t: Float[Array, ""]) -> Float[Array, "6 width"]:
    """The tangent of polynomials at t, as coefficients of the same number."""
    powers = t ** jnp.arange(TERMS, dtype=coefficients.dtype)
    slope = jnp.arange(1, TERMS, dtype=coefficients.dtype) * powers[:-1]
    line = jnp.stack([einsum("t,tw->w", powers, coefficients), einsum("t,tw->w", slope, coefficients[1:])])
    return jnp.pad(line, ((0, TERMS - 2), (0, 0)))
