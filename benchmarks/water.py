"""A box of water made from nothing: random, but with the density and the distances of the liquid."""

from typing import NamedTuple

import numpy as np

BOND, ANGLE = 0.9572, np.deg2rad(104.52)
"""O-H distance in Å, and H-O-H angle, of the molecule in the gas."""
VOLUME = 29.92
"""Of a molecule at 1 g/cm³, Å³."""
CLOSEST = 1.5
"""Smallest distance between atoms of two molecules, Å."""
TYPE_MAP = ("O", "H")


class Water(NamedTuple):
    """One labelled frame; the labels have the size of those of water but fit no potential."""

    positions: np.ndarray
    """[atoms, 3], Å; O, H, H of one molecule after the other."""
    types: np.ndarray
    """[atoms], indices of `TYPE_MAP`."""
    cell: np.ndarray
    """[3, 3], rows are lattice vectors, Å."""
    energy: float
    """eV."""
    forces: np.ndarray
    """[atoms, 3], eV/Å."""


def water_box(molecules: int = 64, seed: int = 1) -> Water:
    """Molecules at 1 g/cm³, near the sites of a simple cubic lattice and turned at random."""
    rng = np.random.default_rng(seed)
    length = (molecules * VOLUME) ** (1 / 3)
    per_side = int(np.ceil(round(molecules ** (1 / 3), 6)))
    grid = np.stack(np.meshgrid(*[np.arange(per_side)] * 3, indexing="ij"), axis=-1).reshape(-1, 3)
    sites = rng.permutation(grid)[:molecules] * (length / per_side)
    placed = np.empty((0, 3))
    for site in sites:
        placed = np.vstack([placed, _fitting_molecule(site, placed, length, rng)])
    return Water(
        placed,
        np.tile([0, 1, 1], molecules),
        length * np.eye(3),
        float(rng.normal(scale=0.05 * molecules)),
        rng.normal(scale=0.8, size=placed.shape),
    )


def _fitting_molecule(
    site: np.ndarray, others: np.ndarray, length: float, rng: np.random.Generator
) -> np.ndarray:
    for _ in range(10_000):
        molecule = site + rng.uniform(-0.4, 0.4, 3) + _oriented_molecule(rng)
        gaps = molecule[:, None] - others
        gaps -= length * np.round(gaps / length)
        if np.linalg.norm(gaps, axis=-1).min(initial=np.inf) > CLOSEST:
            return molecule
    raise RuntimeError("no room for a molecule: take another seed")


def _oriented_molecule(rng: np.random.Generator) -> np.ndarray:
    half = ANGLE / 2
    hydrogens = BOND * np.array([[np.sin(half), np.cos(half), 0.0], [-np.sin(half), np.cos(half), 0.0]])
    rotation, _ = np.linalg.qr(rng.normal(size=(3, 3)))
    return np.vstack([np.zeros(3), hydrogens]) @ rotation
