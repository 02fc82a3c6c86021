"""A descriptor's types matched to a new list of elements: arrays of known elements do not change."""

from collections.abc import Sequence

import numpy as np

from dpax.descriptor.spec import DescriptorSpec
from dpax.descriptor.statistics import UNSEEN_DEVIATION
from dpax.descriptor.table import is_compressed
from dpax.errors import InputError
from dpax.nn.arrays import Arrays
from dpax.nn.initial import Draws, Seed

_TYPE_ROWS = "type_embedding/0/w"


def change_types(
    spec: DescriptorSpec,
    arrays: Arrays,
    type_map: Sequence[str],
    seed: Seed = None,
    new_types_from: Arrays | None = None,
) -> tuple[DescriptorSpec, dict[str, np.ndarray]]:
    """The descriptor of a new `type_map`, which may drop, add and reorder types.

    Args:
        spec: of the descriptor.
        arrays: of the descriptor.
        type_map: element symbols.
        seed: of the embedding of types that the descriptor does not know; None for fresh entropy.
        new_types_from: arrays of a descriptor with the new `type_map`, which give such types their statistics
            and their embedding.

    Raises:
        InputError: the present types have no names, or the descriptor is compressed.
    """
    if spec.type_map is None:
        raise InputError("the types have no names (type_map is None), so they cannot be matched to new ones")
    if is_compressed(arrays):
        raise InputError("a compressed descriptor's types cannot change; take the model before compression")
    old, new = spec.type_map, tuple(type_map)
    changed = {name: np.asarray(array) for name, array in arrays.items()}
    for name, unseen in (("mean", 0.0), ("stddev", UNSEEN_DEVIATION)):
        of_new = None if new_types_from is None else np.asarray(new_types_from[name])
        changed[name] = _statistics(changed[name], old, new, unseen, of_new)
    if not spec.use_econf_tebd:
        rows = changed[_TYPE_ROWS]
        drawn = _drawn(len(new), rows.shape[1], seed)
        fresh = drawn if new_types_from is None else new_types_from[_TYPE_ROWS]
        changed[_TYPE_ROWS] = _type_rows(rows, np.array(fresh, rows.dtype), old, new)
    pairs = [(old[a], old[b]) for a, b in spec.exclude_types]
    remaining = tuple((new.index(a), new.index(b)) for a, b in pairs if a in new and b in new)
    return spec.changed(ntypes=len(new), type_map=new, exclude_types=remaining), changed


def _statistics(
    known: np.ndarray, old: Sequence[str], new: Sequence[str], unseen: float, of_new: np.ndarray | None
) -> np.ndarray:
    """Rows of the environment's statistics for the new types."""
    rows = np.full((len(new), *known.shape[1:]), unseen, known.dtype)
    if of_new is not None:
        rows[:] = of_new[:, :1]
    for row, name in enumerate(new):
        if name in old:
            rows[row] = known[old.index(name)]
    return rows


def _drawn(n_types: int, width: int, seed: Seed) -> np.ndarray:
    return Draws(seed).layer("type_embedding", n_types, width).w


def _type_rows(known: np.ndarray, fresh: np.ndarray, old: Sequence[str], new: Sequence[str]) -> np.ndarray:
    """The weights of the type embedding for the new types.

    With a residual the table is w + I, and the identity belongs to the order of the types.
    """
    before, after = _residual(len(old), known.shape[1]), _residual(len(new), known.shape[1])
    for row, name in enumerate(new):
        if name in old:
            fresh[row] = known[old.index(name)] + (before[old.index(name)] - after[row])
    return fresh


def _residual(n_in: int, n_out: int) -> np.ndarray:
    """What the residual rule adds to one-hot rows: I, [I, I] or nothing."""
    eye = np.eye(n_in)
    if n_out == n_in:
        return eye
    return np.hstack([eye, eye]) if n_out == 2 * n_in else np.zeros((n_in, n_out))
