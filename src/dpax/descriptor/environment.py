"""The switching function, the environment matrix, and its mean and deviation over data."""

from dataclasses import dataclass, field
from typing import NamedTuple

import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Bool, Float

from dpax.nn.primitives import normalize_rows

SMALLEST_DEVIATION = 1e-2
"""Floor of a deviation, as in DeePMD-kit."""
UNSEEN_DEVIATION = 1e-1
"""Deviation of a type that the data lack, as in DeePMD-kit."""


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
    cut-off, which in float32 leaves no correct digit.
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


def angular_basis(env: Environment, lmax: int) -> Float[Array, "block slots moments"]:
    """Real solid harmonics of d/(r+p) of degrees 2 to lmax, in DeePMD-kit's order and norm."""
    x, y, z = env.scaled[..., 0], env.scaled[..., 1], env.scaled[..., 2]
    q = x * x + y * y + z * z
    columns = [
        3**0.5 * x * y,
        3**0.5 * y * z,
        0.5 * (3 * z * z - q),
        3**0.5 * x * z,
        0.5 * 3**0.5 * (x * x - y * y),
    ]
    if lmax >= 3:
        columns += [
            (5 / 8) ** 0.5 * y * (3 * x * x - y * y),
            15**0.5 * x * y * z,
            (3 / 8) ** 0.5 * y * (5 * z * z - q),
            0.5 * z * (5 * z * z - 3 * q),
            (3 / 8) ** 0.5 * x * (5 * z * z - q),
            0.5 * 15**0.5 * z * (x * x - y * y),
            (5 / 8) ** 0.5 * x * (x * x - 3 * y * y),
        ]
    if lmax >= 4:
        z2, difference = z * z, x * x - y * y
        columns += [
            0.5 * 35**0.5 * x * y * difference,
            0.25 * 70**0.5 * y * z * (3 * x * x - y * y),
            0.5 * 5**0.5 * x * y * (7 * z2 - q),
            0.25 * 10**0.5 * y * z * (7 * z2 - 3 * q),
            0.125 * (35 * z2 * z2 - 30 * z2 * q + 3 * q * q),
            0.25 * 10**0.5 * x * z * (7 * z2 - 3 * q),
            0.25 * 5**0.5 * difference * (7 * z2 - q),
            0.25 * 70**0.5 * x * z * (x * x - 3 * y * y),
            0.125 * 35**0.5 * (x**4 - 6 * x * x * y * y + y**4),
        ]
    return jnp.stack(columns, axis=-1)


@dataclass
class EnvironmentStatistics:
    """Mean and deviation of the environment matrix per central type, accumulated over frames.

    As DeePMD-kit counts, every atom has `sel` slots: empty and excluded ones are zeros. The radial column
    has its mean and deviation; the three angular columns have one deviation together, and no mean is kept.

    Args:
        ntypes: number of types.
        rcut: Å.
        rcut_smth: Å.
        protection: added to distances in denominators, Å.
        excluded: bool [ntypes, ntypes], pairs of types that do not see each other.
    """

    ntypes: int
    rcut: float
    rcut_smth: float
    protection: float = 0.0
    excluded: np.ndarray | None = None
    atoms: np.ndarray = field(init=False)
    sums: np.ndarray = field(init=False)

    def __post_init__(self):
        self.atoms = np.zeros(self.ntypes)
        self.sums = np.zeros((self.ntypes, 4))

    def add(self, types: np.ndarray, i: np.ndarray, j: np.ndarray, vectors: np.ndarray) -> None:
        """Count one frame.

        Args:
            types: int [atoms]; negative ones are virtual and not counted.
            i: int [edges], centres.
            j: int [edges], neighbours.
            vectors: float [edges, 3], Å.
        """
        ti, tj = types[i], types[j]
        kept = (ti >= 0) & (tj >= 0)
        if self.excluded is not None:
            kept &= ~self.excluded[ti, tj]
        ti, vectors = ti[kept], vectors[kept]
        r = np.linalg.norm(vectors, axis=1)
        rest = np.clip((self.rcut - r) / (self.rcut - self.rcut_smth), 0.0, 1.0)
        u = 1.0 - rest
        radial = rest**3 * (1.0 + 3.0 * u + 6.0 * u * u) / (r + self.protection)
        angular = vectors * (radial / (r + self.protection))[:, None]
        columns = (radial, radial**2, angular.sum(axis=1), (angular**2).sum(axis=1))
        self.atoms += np.bincount(types[types >= 0], minlength=self.ntypes)
        for column, values in enumerate(columns):
            self.sums[:, column] += np.bincount(ti, weights=values, minlength=self.ntypes)

    def mean_and_deviation(self, sel: int) -> tuple[np.ndarray, np.ndarray]:
        """(mean, deviation), both [ntypes, 4]; a type that was not seen has mean 0 and deviation 0.1.

        Args:
            sel: slots per atom.
        """
        seen = self.atoms > 0
        count = np.where(seen, self.atoms * sel, 1.0)
        radial, radial2 = (self.sums[:, :2] / count[:, None]).T
        angular, angular2 = (self.sums[:, 2:] / (3.0 * count[:, None])).T
        mean = np.zeros((self.ntypes, 4))
        mean[:, 0] = radial
        deviation_radial = np.sqrt(np.maximum(radial2 - radial**2, 0.0))
        deviation_angular = np.sqrt(np.maximum(angular2 - angular**2, 0.0))
        deviation = np.stack([deviation_radial, *[deviation_angular] * 3], axis=1)
        deviation = np.maximum(deviation, SMALLEST_DEVIATION)
        deviation[~seen] = UNSEEN_DEVIATION
        return mean, deviation
