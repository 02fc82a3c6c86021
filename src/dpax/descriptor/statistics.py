"""Mean and deviation of the environment matrix over data."""

from dataclasses import dataclass, field

import numpy as np
from numpy.typing import ArrayLike

SMALLEST_DEVIATION = 1e-2
"""Floor of a deviation, as in DeePMD-kit."""
UNSEEN_DEVIATION = 1e-1
"""Deviation of a type that the data lack, as in DeePMD-kit."""


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
        counted = (ti >= 0) & (tj >= 0)
        if self.excluded is not None:
            counted &= ~self.excluded[ti, tj]
        ti, vectors = ti[counted], vectors[counted]
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


def is_isotropic(mean: ArrayLike, stddev: ArrayLike) -> bool:
    """Whether statistics have no angular mean and one angular deviation."""
    angular = np.asarray(stddev)[..., 1:]
    return bool(np.all(np.asarray(mean)[..., 1:] == 0) and np.all(angular == angular[..., :1]))
