"""A tabulated pair potential: cubic splines of the energy of two atoms over their distance.

The file, its continuation up to the cutoff and the splines are those of DeePMD-kit's `use_srtab`
(`deepmd.utils.pair_tab`), so that one table means one potential.
"""

import hashlib
import os
import warnings
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from itertools import combinations_with_replacement
from pathlib import Path
from typing import Self

import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float, Int
from scipy.interpolate import CubicHermiteSpline, CubicSpline

from dpax.errors import InputError, brief

_MOST_KNOTS = 1_000_000


@dataclass(frozen=True, eq=False)
class PairTable:
    """Energies of pairs of types at equidistant knots, with a cubic polynomial from each to the next."""

    knots: np.ndarray
    """float64 [knots, 1 + pairs]: distance, Å, and the energy of each pair of types (00, 01, …, 11, …)."""
    coefficients: np.ndarray
    """float64 [ntypes, ntypes, knots - 1, 4], eV: of x³, x², x and 1, x from 0 to 1 between two knots."""
    rmax: float
    """Where the table ended before it was continued, Å."""
    rcut: float
    """From here on the energy is zero, Å."""

    @property
    def rmin(self) -> float:
        """Distance of the first knot, Å."""
        return float(self.knots[0, 0])

    @cached_property
    def spacing(self) -> float:
        """Distance between knots, Å."""
        return float(self.knots[1, 0] - self.knots[0, 0])

    @property
    def ntypes(self) -> int:
        """Number of types."""
        return self.coefficients.shape[0]

    @cached_property
    def _digest(self) -> bytes:
        facts = repr((self.knots.shape, self.rmax, self.rcut)).encode()
        return hashlib.sha256(self.knots.tobytes() + self.coefficients.tobytes() + facts).digest()

    def __eq__(self, other: object) -> bool:
        return isinstance(other, PairTable) and self._digest == other._digest

    def __hash__(self) -> int:
        return hash(self._digest)

    def energies(
        self,
        r: Float[Array, "block slots"],
        types: Int[Array, " block"],
        neighbor_types: Int[Array, "block slots"],
    ) -> Float[Array, "block slots"]:
        """Energies of pairs at distances r (Å), eV; below the first knot its polynomial continues."""
        n_spans = self.coefficients.shape[2]
        x = (r - self.rmin) / self.spacing
        span = jnp.clip(jnp.floor(x), 0, n_spans - 1)
        x = x - span
        table = jnp.asarray(self.coefficients, r.dtype)
        a3, a2, a1, a0 = jnp.moveaxis(table[types[:, None], neighbor_types, span.astype(jnp.int32)], -1, 0)
        energies = ((a3 * x + a2) * x + a1) * x + a0
        end = min(self.rcut, self.rmin + n_spans * self.spacing)
        return jnp.where(r < end, energies, 0.0)

    def change_types(self, old: Sequence[str], new: Sequence[str]) -> Self:
        """The table with its types matched to a new list of their names.

        Raises:
            InputError: a new type that the table lacks.
        """
        lacking = [name for name in new if name not in old]
        if lacking:
            raise InputError(
                f"the model's short-range table (use_srtab) has no {', '.join(lacking)}; a model with these "
                "elements needs a table of its own"
            )
        column = {pair: 1 + n for n, pair in enumerate(_pairs(len(old)))}
        order = [old.index(name) for name in new]
        wanted = [column[min(order[a], order[b]), max(order[a], order[b])] for a, b in _pairs(len(new))]
        knots, coefficients = self.knots[:, [0, *wanted]], self.coefficients[np.ix_(order, order)]
        return type(self)(knots, coefficients, self.rmax, self.rcut)

    def check(self) -> None:
        """Check that the table is one.

        Raises:
            InputError: distances that do not rise in equal steps, or numbers that are not finite.
        """
        if not _rises(self.knots) or not np.isfinite(self.coefficients).all():
            raise InputError(
                "the distances of the short-range table must rise in equal steps, and all numbers be finite"
            )


def read_pair_table(path: str | os.PathLike, rcut: float, type_map: Sequence[str]) -> PairTable:
    """Read a text file with a row for each distance: r (Å), then the energy (eV) of each pair of types.

    The pairs are 00, 01, …, 0n, 11, …, nn. A table that ends before the cutoff is continued to it.

    Args:
        path: the file.
        rcut: cutoff of the model, Å.
        type_map: names of the types.

    Raises:
        InputError: no such file, or not such a table.
    """
    path = Path(path)
    try:
        text = path.read_text(encoding="utf-8-sig")
        rows = np.loadtxt(text.splitlines(), dtype=np.float64, ndmin=2) if text.strip() else np.empty((0, 0))
    except OSError as error:
        raise InputError(f"{path}: the short-range table (use_srtab) cannot be read: {error}") from None
    except ValueError as error:
        raise InputError(
            f"{path}: the short-range table (use_srtab) is not a table: {brief(error)}"
        ) from None
    n_pairs = len(list(_pairs(len(type_map))))
    if len(rows) < 2 or rows.shape[1] != 1 + n_pairs:
        raise InputError(
            f"{path}: the short-range table has {len(rows)} rows of {rows.shape[1]} columns; {len(type_map)} "
            f"types need at least 2 rows of {1 + n_pairs}: the distance and the energy of each pair of types"
        )
    if not _rises(rows):
        raise InputError(
            f"{path}: the distances (first column) must rise in equal steps, and all numbers be finite"
        )
    if rcut > _MOST_KNOTS * (rows[1, 0] - rows[0, 0]):
        raise InputError(
            f"{path}: the distances rise by {rows[1, 0] - rows[0, 0]:.3g} Å, which makes more than "
            f"{_MOST_KNOTS} knots up to the cutoff of {rcut} Å; take wider steps"
        )
    rmax = float(rows[-1, 0])
    knots = _continued(rows, rcut, str(path))
    return PairTable(knots, _splines(knots, len(type_map)), rmax, rcut)


def _rises(rows: np.ndarray) -> bool:
    """Whether all numbers are finite, and the first column rises in equal steps from 0 or more."""
    steps = np.diff(rows[:, 0])
    return bool(
        len(steps)
        and np.isfinite(rows).all()
        and rows[0, 0] >= 0
        and steps[0] > 0
        and np.all(np.abs(steps - steps[0]) <= 1e-3 * steps[0])
    )


def _pairs(ntypes: int) -> list[tuple[int, int]]:
    return list(combinations_with_replacement(range(ntypes), 2))


def _continued(rows: np.ndarray, rcut: float, name: str) -> np.ndarray:
    """The table continued to the cutoff: by zeros, or by a cubic that falls to zero just before it."""
    step = rows[1, 0] - rows[0, 0]
    rmax, last = rows[-1, 0], rows[-1, 1:]
    lacking = int(np.ceil(rcut / step - rows[0, 0] / step)) - (len(rows) - 1)
    if rcut <= rmax:
        at_cutoff = last if last.any() else rows[len(rows) + lacking - 2, 1:]
        if at_cutoff.any():
            warnings.warn(
                f"{name}: the short-range table is not zero at the cutoff of {rcut} Å: the energy jumps",
                UserWarning,
                stacklevel=4,
            )
        return rows
    if lacking < 1:
        return rows
    added = np.zeros((lacking, rows.shape[1]))
    added[:, 0] = rmax + step * np.arange(1, lacking + 1)
    if last.any():
        # DeePMD-kit takes the change between two rows for the slope, whatever their distance is.
        slope = last - rows[-2, 1:]
        end = -2 if (added[-1, 0] - rmax) / step >= 2 else -1
        ends = np.array([rmax, added[end, 0]])
        zero = np.zeros_like(last)
        to_zero = CubicHermiteSpline(ends, np.stack([last, zero]), np.stack([slope, zero]))
        added[:, 1:] = to_zero(added[:, 0])
        added = added if end == -1 else added[:-1]
    return np.concatenate([rows, added])


def _splines(knots: np.ndarray, ntypes: int) -> np.ndarray:
    """Coefficients of the splines through the knots, with no slope at both ends."""
    r, energies = knots[:, 0], knots[:, 1:]
    slopes = CubicSpline(r, energies, bc_type="clamped")(r, 1) * (r[1] - r[0])
    before, after = energies[:-1], energies[1:]
    rise, fall = slopes[:-1], slopes[1:]
    spans = np.stack(
        [2 * before - 2 * after + rise + fall, -3 * before + 3 * after - 2 * rise - fall, rise, before],
        axis=-1,
    )
    coefficients = np.empty((ntypes, ntypes, len(knots) - 1, 4))
    for column, (a, b) in enumerate(_pairs(ntypes)):
        coefficients[a, b] = coefficients[b, a] = spans[:, column]
    return coefficients
