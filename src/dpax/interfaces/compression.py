"""A model with tables instead of networks, compared with the original."""

from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from dpax.computing import computing
from dpax.descriptor.compression import TableError, compressed, compression_error
from dpax.descriptor.table import Knots
from dpax.errors import InputError
from dpax.infer import Potential
from dpax.interfaces.conversion import JITTER, Agreement, compare
from dpax.interfaces.model_files import open_model, write_model
from dpax.model.energy_model import EnergyModel
from dpax.nn.arrays import placed

_COARSE = 10
"""Sparse knots lie this many times further apart than dense ones, as in DeePMD-kit."""
_SPACINGS = (1.0, 1.5, 2.5)
"""Of the structures that are compared, in units of that in which no two atoms are closer than in the data."""


class Compressed(NamedTuple):
    """What a compression has done."""

    knots: Knots | None
    """Of the table of the radial net; None where there is none."""
    rows: int
    """Of that table."""
    table: TableError | None
    """How far it is from the net, whose outputs are of the size of 1."""
    agreement: Agreement
    """Of the model before and after, on random structures."""


def default_bound(model: EnergyModel) -> float:
    """The deviation that is allowed where none is given: 1e-8 in float64, 1e-3 in lower precisions."""
    return 1e-8 if model.dtype == np.float64 else 1e-3


def compress(
    source: Path,
    target: Path,
    smallest_distance: float | None = None,
    *,
    stride: float = 0.01,
    extrapolate: float = 5,
    bound: float | None = None,
    branch: str | None = None,
) -> Compressed:
    """Write a model whose radial net is a table, if it is close enough to the net.

    Args:
        source: model file of any kind that is read.
        target: model file of a kind that is written.
        smallest_distance: between two atoms in the data, Å; None takes what the model file says.
        stride: distance of the knots as far as the distances in the data reach, in units of the normalised
            radial entry; ten times as much beyond.
        extrapolate: the table reaches to this multiple of the largest entry in the data.
        bound: largest deviation of the table from the net in the data's range, and of the energies (eV/atom),
            forces (eV/Å) and virials (eV/atom) of random structures; None takes `default_bound`.
        branch: of a multi-task model of DeePMD-kit.

    Raises:
        InputError: a model that cannot be compressed, no distance, or a deviation above the bound; then
            nothing is written.
    """
    model, provenance = open_model(source, branch)
    bound = default_bound(model) if bound is None else bound
    tabulated = model.spec.descriptor.attn_layer == 0
    distance = provenance.get("min_nbor_dist") if smallest_distance is None else smallest_distance
    if distance is None and tabulated:
        raise InputError(
            f"{source}: does not state the smallest distance between atoms in its data; give it, "
            "or the input file that names the data"
        )
    if distance is not None and not 0 < distance < np.inf:
        raise InputError(f"--min-distance: should be positive and finite, got {distance}")
    with computing(True):
        # With attention there is no radial table, and the distance does not matter.
        options = (distance or np.nan, extrapolate, stride, _COARSE * stride)
        try:
            arrays = compressed(model.spec.descriptor, model.descriptor, *options)
        except InputError as error:
            raise InputError(f"{source}: {error}") from None
        smaller = model.with_arrays(placed(arrays, "descriptor"))
        result = _compared(Potential(model, provenance), Potential(smaller), distance or 1.0)
    _check(target, result, bound)
    write_model(target, smaller, _told(provenance, distance, stride, extrapolate, bound))
    return result


def _compared(before: Potential, after: Potential, distance: float) -> Compressed:
    narrowest = distance / (1 - 2 * JITTER)
    agreement = compare(before, after, [(factor * narrowest, True) for factor in _SPACINGS])
    spec, arrays = after.model.spec.descriptor, after.model.descriptor
    if "table/knots" not in arrays:
        return Compressed(None, 0, None, agreement)
    knots, rows = Knots(*np.asarray(arrays["table/knots"]).tolist()), arrays["table/coefficients"].shape[1]
    return Compressed(knots, rows, compression_error(spec, arrays), agreement)


def _check(target: Path, result: Compressed, bound: float) -> None:
    """Check that all deviations are within the bound."""
    within = 0.0 if result.table is None else result.table.within
    if not np.max([within, *result.agreement]) <= bound:
        raise InputError(
            f"{target}: not written, for the table would deviate by {within:.1e} from the net, and what the "
            f"model says by {result.agreement}, where at most {bound:.1e} is allowed; take a smaller stride, "
            "or allow a larger error"
        )


def _told(
    provenance: dict[str, Any], distance: float | None, stride: float, extrapolate: float, bound: float
) -> dict[str, Any]:
    """The provenance of the compressed model."""
    facts = {"stride": stride, "extrapolate": extrapolate, "bound": bound}
    return {
        **provenance,
        **({} if distance is None else {"min_nbor_dist": float(distance)}),
        "compressed": facts,
    }
