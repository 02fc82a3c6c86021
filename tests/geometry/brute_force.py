"""A neighbour search that is slow and obviously right, written apart from the code it checks."""

import itertools

import numpy as np


def all_pairs(positions, cell, pbc, cutoff) -> dict[tuple[int, int, int, int, int], np.ndarray]:
    """Every pair (i, j, lattice shift of j) within the cutoff, with its vector.

    Image counts are bounded by |shift| <= |(r_i - r_j + d)·b| with |d| <= cutoff and b the dual vector.
    """
    positions = np.asarray(positions, dtype=float).reshape(-1, 3)
    active = [k for k in range(3) if pbc[k]]
    reach = np.zeros(3, dtype=int)
    if active and len(positions):
        dual = np.linalg.pinv(np.asarray(cell, dtype=float)[active])
        for column, direction in enumerate(active):
            spread = np.ptp(positions @ dual[:, column])
            reach[direction] = int(np.ceil(cutoff * np.linalg.norm(dual[:, column]) + spread)) + 1
    pairs = {}
    for shift in itertools.product(*[range(-r, r + 1) for r in reach]):
        move = sum((shift[k] * np.asarray(cell[k], dtype=float) for k in active), np.zeros(3))
        vectors = positions[None, :, :] + move - positions[:, None, :]
        for i, j in zip(*np.nonzero((vectors**2).sum(-1) <= cutoff**2), strict=True):
            if i != j or any(shift):
                pairs[(int(i), int(j), *shift)] = vectors[i, j]
    return pairs
