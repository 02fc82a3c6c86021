"""Compression: tables in the place of the embedding nets of a trained descriptor.

In strip mode the net of type pairs has as many values as there are pairs, and the radial net sees one number,
the normalised radial entry x of an environment row. Between two knots a polynomial of degree 5 takes over
that net's value and its first two derivatives at both (quintic Hermite interpolation), so energies, forces
and Hessians stay continuous; with knots a distance h apart it deviates from the net by at most h⁶/46080
times the net's sixth derivative. The knots are dense as far as the distances in the data reach and sparse
beyond. Below and above the table a straight line goes on with the value and slope at its end.

DeePMD-kit reads these tables and dpax reads DeePMD-kit's; both compute the same numbers from them.
"""

import math
from collections.abc import Callable
from functools import partial
from typing import Any, NamedTuple, Self

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float, Int

from dpax.computing import computing
from dpax.descriptor.environment import switch
from dpax.errors import InputError
from dpax.nn.module import Fixed, Module, to_numpy
from dpax.nn.serialized import as_numbers, flag, numbers

Net = Callable[[Float[Array, " points"]], Float[Array, "points width"]]
"""The radial embedding net on a list of numbers."""

MOST_ROWS = 1_000_000
"""Of a table; those that serve have thousands."""
_TERMS = 6
_SAMPLES = np.linspace(0.0, 1.0, 7)[1:-1]
"""Where in each interval the table is compared with the net; its deviation peaks in the middle."""


class Knots(NamedTuple):
    """Where the knots lie, and with them how a number finds its polynomial."""

    lower: float
    """The first knot."""
    upper: float
    """Up to here the knots lie `fine` apart, from here on `coarse`."""
    top: float
    """The table ends here."""
    fine: float
    coarse: float
    check_frequency: float
    """DeePMD-kit's files carry it; not used."""


class Table(NamedTuple):
    """The arrays of a table in the form that blocks use; the first and the last row are straight lines."""

    knots: Float[Array, " 6"]
    origins: Float[Array, " rows"]
    """The x from which each row's polynomial counts."""
    coefficients: Float[Array, "6 rows width"]
    """Constant term first."""


class TableError(NamedTuple):
    """The largest deviation of a table from its net."""

    within: float
    """As far as the distances in the data reach."""
    beyond: float
    """From there to the end of the table."""


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


class RadialTable(Module):
    """A table as a part of a descriptor.

    Args:
        data: [intervals, width·6], for each interval and each of the net's outputs a polynomial's
            coefficients, the constant one first.
        knots: of the intervals.
        dtype: of the descriptor; half precisions keep their table in float32, which they could not index.

    Raises:
        InputError: arrays of other shapes.
    """

    def __init__(self, data: np.ndarray, knots: np.ndarray | Knots, dtype: np.dtype):
        wide = np.promote_types(np.float32, dtype)
        data, knots = np.asarray(data).astype(wide), np.asarray(knots).astype(wide)
        if knots.shape != (len(Knots._fields),) or data.ndim != 2 or data.shape[1] % _TERMS or not len(data):
            raise InputError(
                f"a compressed descriptor's table has shape {data.shape} and its description {knots.shape}; "
                f"expected [intervals, {_TERMS}·width] and [{len(Knots._fields)}]"
            )
        origins, coefficients = _rows(data, Knots(*knots))
        self.knots: Any = Fixed(jnp.asarray(knots))
        self.origins: Any = Fixed(jnp.asarray(origins))
        self.coefficients: Any = Fixed(jnp.asarray(coefficients))

    @property
    def width(self) -> int:
        """The number of the net's outputs."""
        return self.coefficients.shape[-1]

    def weights(self) -> Table:
        """The arrays, free of the module."""
        return Table(self.knots[...], self.origins[...], self.coefficients[...])

    def serialize(self) -> tuple[np.ndarray, np.ndarray]:
        """DeePMD-kit's `compress_data` and `compress_info`: the constructor's `data` and `knots`."""
        coefficients = np.asarray(to_numpy(self.coefficients))[:, 1:-1]
        data = coefficients.transpose(1, 2, 0).reshape(coefficients.shape[1], -1)
        return data, np.asarray(to_numpy(self.knots))


def _check_knots(knots: Knots, rows: int) -> None:
    """See that the knots of a table rise, and that there are as many intervals as the table has rows."""
    lower, upper, top, fine, coarse, _ = knots
    if not (-math.inf < lower < upper <= top < math.inf and fine > 0 and coarse > 0):
        raise InputError(f"the knots of a compressed descriptor's table do not rise: {list(knots)}")
    intervals = (upper - lower) / fine + (top - upper) / coarse
    if abs(intervals - rows) > 2:
        raise InputError(
            f"a compressed table has {rows} intervals; its knots {list(knots)} make {intervals:.0f}"
        )


def _rows(data: np.ndarray, knots: Knots) -> tuple[np.ndarray, np.ndarray]:
    """Origins and coefficients of the intervals, with the lines that continue them at both ends."""
    lower, upper, top, fine, coarse, _ = knots
    number = np.arange(len(data), dtype=data.dtype)
    n_fine = np.floor((upper - lower) / fine)
    starts = np.where(number < n_fine, lower + number * fine, upper + (number - n_fine) * coarse)
    coefficients = data.reshape(len(data), -1, _TERMS).transpose(2, 0, 1)
    below = _line(coefficients[:, 0], lower - starts[0])
    above = _line(coefficients[:, -1], top - starts[-1])
    return (
        np.concatenate([[lower], starts, [top]]).astype(data.dtype),
        np.concatenate([below[:, None], coefficients, above[:, None]], axis=1),
    )


def _line(coefficients: np.ndarray, t: float) -> np.ndarray:
    """The tangent of polynomials at t, as coefficients of the same number."""
    powers = t ** np.arange(_TERMS)
    slope = np.arange(1, _TERMS) * powers[:-1]
    line = np.zeros_like(coefficients)
    line[0] = powers @ coefficients
    line[1] = slope @ coefficients[1:]
    return line


class Compression(Module):
    """The tables of a compressed descriptor.

    Args:
        type_pairs: [rows, width], the values of the net of type pairs: rows for every (centre, neighbour),
            or for every neighbour where the centre's type plays no role; the last type is that of no atom.
        table: of the radial net; None with attention layers.
    """

    def __init__(self, type_pairs: Float[Array, "rows width"], table: RadialTable | None):
        self.type_pairs: Any = Fixed(type_pairs)
        self.table: Any = table

    def pairs(self, n_types: int) -> Float[Array, "types types width"]:
        """The values for (centre, neighbour)."""
        rows = self.type_pairs[...]
        return jnp.broadcast_to(rows.reshape(-1, n_types, rows.shape[1]), (n_types, n_types, rows.shape[1]))

    def weights(self) -> Table | None:
        """The radial table, free of its module."""
        return None if self.table is None else self.table.weights()

    def serialize(self) -> dict:
        """The `compress` entry of DeePMD-kit's dictionary of a descriptor."""
        arrays: dict[str, Any] = {"type_embd_data": to_numpy(self.type_pairs)}
        if self.table is not None:
            data, knots = self.table.serialize()
            arrays.update(compress_data=[data], compress_info=[knots])
        return {"@variables": arrays, "geo_compress": self.table is not None}

    @classmethod
    def deserialize(cls, data: dict, shape: tuple[int, int], dtype: np.dtype) -> Self:
        """Read DeePMD-kit's `compress` entry.

        Args:
            data: the entry.
            shape: of `type_pairs` in the descriptor that it belongs to.
            dtype: of that descriptor.

        Raises:
            InputError: the tables do not belong to such a descriptor.
        """
        arrays = data["@variables"]
        type_pairs = numbers(arrays, "type_embd_data", shape).astype(dtype)
        if not flag(data, "geo_compress", False):
            return cls(jnp.asarray(type_pairs), None)
        table_data, knots = (as_numbers(arrays[name][0], name) for name in ("compress_data", "compress_info"))
        table = RadialTable(table_data, knots, dtype)
        _check_knots(Knots(*np.asarray(knots, np.float64).tolist()), len(table_data))
        if table.width != shape[1]:
            raise InputError(f"a compressed descriptor's table has width {table.width}; expected {shape[1]}")
        return cls(jnp.asarray(type_pairs), table)


# Making a table


def radial_range(
    mean: np.ndarray, stddev: np.ndarray, smallest_distance: float, rcut: float, rcut_smth: float
) -> tuple[float, float]:
    """The whole numbers between which the radial entry lies for all types.

    Args:
        mean: of the radial entry, [ntypes, slots].
        stddev: the same.
        smallest_distance: between two atoms in the data, Å; the entry is largest there and smallest in an
            empty slot.
        rcut: cut-off radius, Å.
        rcut_smth: where the switching function leaves 1, Å.

    Raises:
        InputError: a distance that is not between 0 and `rcut`.
    """
    if not 0.0 < smallest_distance < rcut:
        raise InputError(
            f"min_nbor_dist is {smallest_distance} Å; the smallest distance between two atoms in the data "
            f"lies between 0 and the cut-off, {rcut} Å"
        )
    with computing(True):
        largest = float(switch(jnp.float64(smallest_distance), rcut, rcut_smth)) / smallest_distance
    # DeePMD-kit looks for the largest entry in the angular columns too, which makes its tables longer.
    lower, upper = np.min(-mean / stddev), np.max((largest - mean) / stddev)
    return float(np.floor(lower)), float(np.ceil(upper))


def tabulate(net: Net, knots: Knots, dtype: np.dtype) -> RadialTable:
    """A table of the net, computed in float64.

    Args:
        net: a function that computes in the precision of its argument.
        knots: strides must divide the range from `lower` to `upper` evenly.
        dtype: of the descriptor.

    Raises:
        InputError: knots that cannot be laid.
    """
    lower, upper, top, fine, coarse, _ = knots
    n_fine = _count_fine(knots, dtype)
    n_coarse = math.ceil((top - upper) / coarse - 1e-9)
    dense, sparse = lower + fine * np.arange(n_fine + 1), upper + coarse * np.arange(n_coarse + 1)
    with computing(True):
        known = jax.jit(partial(_derivatives, net))(jnp.asarray(np.concatenate([dense, sparse])))
        at_dense, at_sparse = np.split(np.stack(known), [len(dense)], axis=1)
        data = np.concatenate([_quintics(at_dense, fine), _quintics(at_sparse, coarse)])
        return RadialTable(data, knots, dtype)


def _count_fine(knots: Knots, dtype: np.dtype) -> int:
    """The number of dense intervals, if DeePMD-kit's arithmetic comes to the same."""
    lower, upper, top, fine, coarse, _ = knots
    if not (fine > 0 and coarse > 0 and lower < upper <= top):
        raise InputError(
            f"no table can be made from {lower} to {upper} in steps of {fine} and on to {top} in steps of "
            f"{coarse}: strides are positive and table_extrapolate is at least 1"
        )
    if not (upper - lower) / fine + (top - upper) / coarse < MOST_ROWS:
        raise InputError(
            f"a table from {lower} to {upper} in steps of {fine} and on to {top} in steps of {coarse} has "
            f"more than {MOST_ROWS} rows; take a larger stride, or extrapolate less"
        )
    count = round((upper - lower) / fine)
    a, b, step = np.array([lower, upper, fine], np.promote_types(np.float32, dtype))
    if abs(count * fine - (upper - lower)) > 1e-9 * count or np.floor((b - a) / step) != count:
        raise InputError(
            f"table_stride_1 {fine} does not divide the range {lower} to {upper} evenly; take 0.01, 0.005 "
            "or another part of 1"
        )
    return count


def _quintics(known: Float[np.ndarray, "3 points width"], stride: float) -> np.ndarray:
    """Coefficients [points - 1, width·6] from value, first and second derivative at equidistant points."""
    # In t = (x - knot) / stride: the first three coefficients stand on the left, the others follow from
    # what remains to value, slope and second derivative on the right.
    scale = stride ** np.arange(_TERMS)[:, None, None]
    known = known * scale[:3]
    left = known[:, :-1] * np.array([1.0, 1.0, 0.5])[:, None, None]
    rest = known[:, 1:] - np.einsum("ij,jkw->ikw", [[1, 1, 1], [0, 1, 2], [0, 0, 2]], left)
    right = np.einsum("ij,jkw->ikw", [[10, -4, 0.5], [-15, 7, -1], [6, -3, 0.5]], rest)
    coefficients = np.concatenate([left, right]) / scale
    return coefficients.transpose(1, 2, 0).reshape(known.shape[1] - 1, -1)


def _derivatives(net: Net, x: Float[Array, " points"]) -> tuple[Array, Array, Array]:
    """Value, first and second derivative at each point: the points do not see each other."""
    ones = jnp.ones_like(x)

    def value_and_slope(x: Array) -> tuple[Array, Array]:
        return jax.jvp(net, (x,), (ones,))

    (value, first), (_, second) = jax.jvp(value_and_slope, (x,), (ones,))
    return value, first, second


def table_error(table: RadialTable, net: Net) -> TableError:
    """The largest deviation of a table, evaluated in its own precision, from its net in float64."""
    knots = Knots(*np.asarray(table.knots[...], np.float64))
    starts = np.asarray(table.origins[...], np.float64)[1:-1]
    dense = starts < knots.upper - 0.5 * knots.fine
    strides = np.where(dense, knots.fine, knots.coarse)
    x = (starts[:, None] + strides[:, None] * _SAMPLES).astype(table.origins.dtype)
    with computing(True):
        exact = np.asarray(net(jnp.asarray(x, np.float64).reshape(-1)))
        ours = np.asarray(interpolate(table.weights(), jnp.asarray(x).reshape(-1)), np.float64)
    deviation = np.abs(ours - exact).max(axis=1).reshape(x.shape)
    deviation = np.where(x < knots.top, deviation, 0.0)
    return TableError(float(deviation[dense].max(initial=0.0)), float(deviation[~dense].max(initial=0.0)))
