"""The lattice: volume, strain, and positions brought into the cell. Rows are lattice vectors, Å."""

from collections.abc import Sequence

import numpy as np
from numpy.typing import ArrayLike

from dpax.errors import InputError

FLAT = 1e-8
"""A cell whose volume is less than this part of the product of its edge lengths counts as flat."""


def complete_cell(cell: ArrayLike | None, pbc: Sequence[int] | np.ndarray) -> np.ndarray:
    """Replace the rows that are not periodic by unit vectors normal to all other rows.

    The contents of those rows in a file (zeros, vacuum, anything) have no physical meaning. With the
    result, fractional coordinates along them are plain distances in Å.

    Args:
        cell: [3, 3], Å, or None where nothing is periodic.
        pbc: periodicity along each lattice vector.

    Returns:
        float64 [3, 3], never singular.

    Raises:
        InputError: the periodic rows are missing, not finite, or do not span a length, area or volume.
    """
    periodic = np.asarray(pbc, dtype=bool)
    if not periodic.any():
        return np.eye(3)
    if cell is None:
        raise InputError("the structure is periodic but has no cell; give its lattice vectors")
    full = np.array(cell, dtype=np.float64)
    rows = full[periodic]
    if not np.isfinite(rows).all():
        raise InputError("the cell holds NaN or infinite numbers")
    scale = np.linalg.norm(rows, axis=1)
    spread = np.linalg.svd(rows / np.where(scale > 0, scale, 1.0)[:, None])
    if spread.S.prod() < FLAT or not scale.all():
        raise InputError(
            f"the cell has zero volume: its periodic vectors are {rows.tolist()}; "
            "give lattice vectors in Å that are not parallel, or mark the structure as not periodic"
        )
    full[~periodic] = spread.Vh[len(rows) :]
    return full


def volume(cell: np.ndarray) -> float:
    """The volume of the cell, Å³: |det|, so also right for left-handed cells."""
    return float(abs(np.linalg.det(cell)))


def heights(cell: np.ndarray) -> np.ndarray:
    """The distances between opposite faces of a cell that is not singular, Å, [3]."""
    return 1.0 / np.linalg.norm(np.linalg.inv(cell), axis=0)


def wrap(
    positions: np.ndarray, cell: np.ndarray, pbc: Sequence[int] | np.ndarray
) -> tuple[np.ndarray, np.ndarray]:
    """Bring atoms into the cell along its periodic directions.

    Args:
        positions: [atoms, 3], Å.
        cell: [3, 3], Å, not singular (see `complete_cell`).
        pbc: periodicity along each lattice vector.

    Returns:
        The wrapped positions, and the lattice vectors subtracted, float64 [atoms, 3] of whole numbers:
        `wrapped = positions - shifts @ cell`.
    """
    fractional = positions @ np.linalg.inv(cell)
    shifts = np.where(np.asarray(pbc, dtype=bool), np.floor(fractional), 0.0)
    return positions - shifts @ cell, shifts
