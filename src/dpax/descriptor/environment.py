"""The switching function and the environment matrix: distances and directions as DPA-1 sees them."""

from typing import NamedTuple

import jax.numpy as jnp
from jaxtyping import Array, Bool, Float

from dpax.nn.primitives import normalize_rows


class Environment(NamedTuple):
    """What the descriptor knows of the neighbours of a block of atoms; zero in empty slots."""

    rows: Float[Array, "block slots 4"]
    """s·(1/(r+p), d/(r+p)²), not normalised."""
    unit: Float[Array, "block slots 3"]
    """d/r."""
    scaled: Float[Array, "block slots 3"]
    """d/(r+p)."""
    switch: Float[Array, "block slots"]
    inverse: Float[Array, "block slots"]
    """s/(r+p)."""


def switch(r: Float[Array, "..."], rcut: float, rcut_smth: float) -> Float[Array, "..."]:
    """The switching function: 1 below `rcut_smth`, 0 beyond `rcut`, twice differentiable.

    `(1-u)³(1+3u+6u²)` equals the usual `1 - 10u³ + 15u⁴ - 6u⁵` without its cancellation near the
    cutoff, which in float32 leaves no correct digit.
    """
    rest = jnp.clip((rcut - r) / (rcut - rcut_smth), 0.0, 1.0)
    u = 1.0 - rest
    return rest * rest * rest * (1.0 + u * (3.0 + 6.0 * u))


def environment(
    edges: Float[Array, "block slots 3"],
    present: Bool[Array, "block slots"],
    rcut: float,
    rcut_smth: float,
    protection: float,
) -> Environment:
    """The environment of each atom of a block, from its edge vectors (Å)."""
    # An empty slot has a zero edge: a distance of 1 there keeps the derivative of the root finite.
    r = jnp.sqrt(jnp.where(present, jnp.sum(edges * edges, axis=-1), 1.0))
    s = jnp.where(present, switch(r, rcut, rcut_smth), 0.0)
    inverse = 1.0 / (r + protection)
    scaled = edges * inverse[..., None]
    radial = s * inverse
    rows = jnp.concatenate([radial[..., None], scaled * radial[..., None]], axis=-1)
    return Environment(rows, edges / r[..., None], scaled, s, radial)


def general_directions(
    env: Environment, mean: Float[Array, "block _ 4"], stddev: Float[Array, "block _ 4"]
) -> Float[Array, "block slots 3"]:
    """Directions of the normalised rows, where the statistics are not isotropic.

    Statistics of data have no angular mean and one angular deviation, and then these directions are
    d/r; arrays set by hand need not.
    """
    return normalize_rows(((env.rows - mean) / stddev)[..., 1:])
