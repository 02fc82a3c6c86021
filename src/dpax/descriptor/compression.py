"""Compression: tables replace the embedding nets of a trained descriptor.

In strip mode the net of type pairs has as many values as there are pairs, and the radial net sees one number.
Between two knots a polynomial of degree 5 takes over that net's value and its first two derivatives at both
(quintic Hermite interpolation), so energies, forces and Hessians stay continuous; with knots a distance h
apart it deviates from the net by at most h⁶/46080 times the net's sixth derivative.
"""

import math
import warnings
from collections.abc import Callable
from functools import partial
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float

from dpax.computing import computing
from dpax.descriptor.embedding import type_embedding, type_pairs
from dpax.descriptor.environment import switch
from dpax.descriptor.spec import DescriptorSpec
from dpax.descriptor.table import TERMS, Knots, Table, fitted_tables, interpolate, is_compressed, radial_table
from dpax.errors import InputError
from dpax.nn.arrays import Arrays, below
from dpax.nn.layers import apply_layers, network

Net = Callable[[Float[Array, " points"]], Float[Array, "points width"]]
"""The radial embedding net on a list of numbers."""

MOST_ROWS = 1_000_000
"""Of a table; those that serve have thousands."""
_SAMPLES = np.linspace(0.0, 1.0, 7)[1:-1]
"""Where in each interval the table is compared with the net; its deviation peaks in the middle."""


class TableError(NamedTuple):
    """The largest deviation of a table from its net."""

    within: float
    """As far as the distances in the data reach."""
    beyond: float
    """From there to the end of the table."""


def radial_range(
    mean: np.ndarray, stddev: np.ndarray, smallest_distance: float, rcut: float, rcut_smth: float
) -> tuple[float, float]:
    """The whole numbers between which the radial entry lies for all types.

    Args:
        mean: of the radial entry, [ntypes, slots].
        stddev: the same.
        smallest_distance: between two atoms in the data, Å; the entry is largest there and smallest in an
            empty slot.
        rcut: cutoff radius, Å.
        rcut_smth: where the switching function leaves 1, Å.

    Raises:
        InputError: a distance that is not between 0 and `rcut`.
    """
    if not 0.0 < smallest_distance < rcut:
        raise InputError(
            f"min_nbor_dist is {smallest_distance} Å; the smallest distance between two atoms in the data "
            f"lies between 0 and the cutoff, {rcut} Å"
        )
    with computing(True):
        largest = float(switch(jnp.float64(smallest_distance), rcut, rcut_smth)) / smallest_distance
    # DeePMD-kit looks for the largest entry in the angular columns too, which makes its tables longer.
    lower, upper = np.min(-mean / stddev), np.max((largest - mean) / stddev)
    return float(np.floor(lower)), float(np.ceil(upper))


def tabulate(net: Net, knots: Knots, dtype: np.dtype) -> Float[np.ndarray, "6 intervals width"]:
    """The coefficients of a table of the net, float64.

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
        return np.concatenate([_quintics(at_dense, fine), _quintics(at_sparse, coarse)], axis=1)


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
    """Coefficients [6, points - 1, width] from value, first and second derivative at equidistant points."""
    # In t = (x - knot) / stride: the first three coefficients stand on the left, the others follow from
    # what remains to value, slope and second derivative on the right.
    scale = stride ** np.arange(TERMS)[:, None, None]
    known = known * scale[:3]
    left = known[:, :-1] * np.array([1.0, 1.0, 0.5])[:, None, None]
    rest = known[:, 1:] - np.einsum("ij,jkw->ikw", [[1, 1, 1], [0, 1, 2], [0, 0, 2]], left)
    right = np.einsum("ij,jkw->ikw", [[10, -4, 0.5], [-15, 7, -1], [6, -3, 0.5]], rest)
    return np.concatenate([left, right]) / scale


def _derivatives(net: Net, x: Float[Array, " points"]) -> tuple[Array, Array, Array]:
    """Value, first and second derivative at each point: the points do not see each other."""
    ones = jnp.ones_like(x)

    def value_and_slope(x: Array) -> tuple[Array, Array]:
        return jax.jvp(net, (x,), (ones,))

    (value, first), (_, second) = jax.jvp(value_and_slope, (x,), (ones,))
    return value, first, second


def table_error(table: Table, net: Net) -> TableError:
    """The largest deviation of a table, evaluated in its own precision, from its net in float64."""
    knots = Knots(*np.asarray(table.knots, np.float64))
    starts = np.asarray(table.origins, np.float64)[1:-1]
    dense = starts < knots.upper - 0.5 * knots.fine
    strides = np.where(dense, knots.fine, knots.coarse)
    x = (starts[:, None] + strides[:, None] * _SAMPLES).astype(table.origins.dtype)
    with computing(True):
        exact = np.asarray(net(jnp.asarray(x, np.float64).reshape(-1)))
        ours = np.asarray(interpolate(table, jnp.asarray(x).reshape(-1)), np.float64)
    deviation = np.abs(ours - exact).max(axis=1).reshape(x.shape)
    deviation = np.where(x < knots.top, deviation, 0.0)
    return TableError(float(deviation[dense].max(initial=0.0)), float(deviation[~dense].max(initial=0.0)))


def compressed(
    spec: DescriptorSpec,
    arrays: Arrays,
    min_nbor_dist: float,
    table_extrapolate: float = 5,
    table_stride_1: float = 0.01,
    table_stride_2: float = 0.1,
    check_frequency: int = -1,
) -> dict[str, Array | np.ndarray]:
    """The arrays of a descriptor with tables instead of networks.

    The net of type pairs gives way to its values. Without attention layers the radial net gives way to
    polynomials. The nets stay among the arrays, but what happens to them no longer matters.

    Args:
        spec: of the descriptor.
        arrays: of the descriptor.
        min_nbor_dist: smallest distance between two atoms in the data, Å. The table has its dense knots
            from the normalised radial entry of an empty slot to that at this distance.
        table_extrapolate: the sparse knots reach to this multiple of the dense ones' upper end.
        table_stride_1: distance of the dense knots.
        table_stride_2: distance of the sparse knots.
        check_frequency: not used; DeePMD-kit's files carry it.

    Raises:
        InputError: compressed already, another `tebd_input_mode` than "strip", `resnet_dt`, or knots
            that cannot be laid.
    """
    if is_compressed(arrays):
        raise InputError("the descriptor is compressed already")
    if not spec.strip:
        raise InputError(
            "only descriptors with tebd_input_mode 'strip' can be compressed; this one has 'concat'"
        )
    if spec.resnet_dt:
        raise InputError("a descriptor with resnet_dt cannot be compressed; DeePMD-kit would not read it")
    # Rows for every (centre, neighbour), or for every neighbour where the centre's type plays no role.
    pairs = type_pairs(spec, arrays, type_embedding(spec, arrays))
    rows = (pairs[:1] if spec.type_one_side else pairs).reshape(-1, spec.neuron[-1])
    tables: dict[str, Any] = {"type_pairs": rows}
    if spec.attn_layer:
        warnings.warn(
            "with attention layers only the type embedding is compressed, which changes neither numbers "
            "nor speed",
            UserWarning,
            stacklevel=3,
        )
    else:
        mean, stddev = (np.asarray(arrays[name], np.float64)[..., 0] for name in ("mean", "stddev"))
        lower, upper = radial_range(mean, stddev, min_nbor_dist, spec.rcut, spec.rcut_smth)
        knots = Knots(
            lower, upper, table_extrapolate * upper, table_stride_1, table_stride_2, check_frequency
        )
        coefficients = tabulate(radial_net(spec, arrays), knots, spec.dtype)
        tables |= {"table/knots": np.asarray(knots), "table/coefficients": coefficients}
    return {**arrays, **fitted_tables(spec, tables)}


def compression_error(spec: DescriptorSpec, arrays: Arrays) -> TableError:
    """The largest deviation of the radial table from its net, within the data's range and beyond.

    Raises:
        InputError: there is no such table.
    """
    with computing(True):
        table = radial_table(arrays)
    if table is None:
        raise InputError(
            "the descriptor has no table of its radial network: compress it without attention layers"
        )
    return table_error(table, radial_net(spec, arrays))


def radial_net(spec: DescriptorSpec, arrays: Arrays) -> Net:
    """The radial embedding net on a list of numbers, in float64."""
    with computing(True):
        layers = network({n: np.asarray(a, np.float64) for n, a in below(arrays, "embedding").items()})
    return lambda x: apply_layers(x[:, None], layers, spec.activation_function)
