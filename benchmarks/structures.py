"""Structures made from nothing but a seed: water with the density and the distances of the liquid, and small
molecules.
"""

from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

import numpy as np
from case import Case

BOND, ANGLE = 0.9572, np.deg2rad(104.52)
"""O-H distance in Å, and H-O-H angle, of the molecule in the gas."""
VOLUME = 29.92
"""Of a molecule at 1 g/cm³, Å³."""
CLOSEST = 1.5
"""Smallest distance between atoms of two molecules, Å."""
WATER_TYPES = ("O", "H")
MOLECULE_TYPES = ("C", "H", "O")
FORMULAS = ((1, 4, 2), (2, 6, 0), (4, 3, 2), (3, 3, 4))
"""Numbers of C, H and O in the small molecules: 7 to 10 atoms."""
ATOMS_OF_A_BATCH = 32
"""DeePMD-kit's `batch_size: auto`: as many frames as have at least so many atoms."""
FAR, NEAR = 1.7, 0.01
"""How far atoms move from one evaluation to the next, Å: along each axis; in dynamics, anywhere."""


class Structure(NamedTuple):
    """One labelled frame; the labels have the size of those of real data but fit no potential."""

    positions: np.ndarray
    """[atoms, 3], Å."""
    types: np.ndarray
    """[atoms], indices of the element names."""
    cell: np.ndarray | None
    """[3, 3], rows are lattice vectors, Å; None for a molecule."""
    energy: float
    """eV."""
    forces: np.ndarray
    """[atoms, 3], eV/Å."""


def batches(case: Case) -> list[list[Structure]]:
    """The batches that one repetition goes through."""
    if case["task"] == "molecules":
        return [molecules(formula) for formula in FORMULAS]
    return [[repeated(water_box(case["molecules"]), case.get("repeats", 1))]]


def repeated(water: Structure, times: int) -> Structure:
    """A supercell, so that the number of atoms is all that differs."""
    assert water.cell is not None
    shifts = np.stack(np.meshgrid(*[np.arange(times)] * 3), axis=-1).reshape(-1, 1, 3) @ water.cell
    return Structure(
        (water.positions + shifts).reshape(-1, 3),
        np.tile(water.types, times**3),
        times * water.cell,
        times**3 * water.energy,
        np.tile(water.forces, (times**3, 1)),
    )


def places(one: Structure, dynamics: bool) -> Iterator[np.ndarray]:
    """Positions [atoms, 3] of one evaluation after another, the same for all sides.

    All atoms move together, so far that no neighbour list can be used again; in dynamics each moves a little,
    in a random direction.
    """
    rng, positions = np.random.default_rng(1), one.positions
    while True:
        yield positions
        step = np.full(3, FAR)
        if dynamics:
            directions = rng.normal(size=positions.shape)
            step = NEAR * directions / np.linalg.norm(directions, axis=1, keepdims=True)
        positions = positions + step


def molecules(formula: tuple[int, ...], seed: int = 1) -> list[Structure]:
    """A batch of molecules of one formula: atoms strung together at bond lengths, none closer than 0.9 Å."""
    rng = np.random.default_rng([seed, *formula])
    types = np.repeat(np.arange(len(formula)), formula)
    n = len(types)
    return [
        Structure(_chain(n, rng), types, None, rng.normal(scale=0.5), rng.normal(size=(n, 3)))
        for _ in range(-(-ATOMS_OF_A_BATCH // n))
    ]


def _chain(atoms: int, rng: np.random.Generator) -> np.ndarray:
    placed = np.zeros((1, 3))
    while len(placed) < atoms:
        step = rng.normal(size=3)
        atom = placed[rng.integers(len(placed))] + step / np.linalg.norm(step) * rng.uniform(1.0, 1.5)
        if np.linalg.norm(placed - atom, axis=1).min() > 0.9:
            placed = np.vstack([placed, atom])
    return placed


def water_box(molecules: int = 64, seed: int = 1) -> Structure:
    """Molecules at 1 g/cm³, near the sites of a simple cubic lattice and turned at random."""
    rng = np.random.default_rng(seed)
    length = (molecules * VOLUME) ** (1 / 3)
    per_side = int(np.ceil(round(molecules ** (1 / 3), 6)))
    grid = np.stack(np.meshgrid(*[np.arange(per_side)] * 3, indexing="ij"), axis=-1).reshape(-1, 3)
    sites = rng.permutation(grid)[:molecules] * (length / per_side)
    placed = np.empty((0, 3))
    for site in sites:
        placed = np.vstack([placed, _fitting_molecule(site, placed, length, rng)])
    return Structure(
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


def write_water(folder: Path, molecules: int) -> None:
    """A system of four frames of water in DeePMD-kit's layout."""
    frames = [water_box(molecules, seed) for seed in range(4)]
    (folder / "set.000").mkdir(parents=True)
    arrays = {"coord": "positions", "box": "cell", "energy": "energy", "force": "forces"}
    for name, field in arrays.items():
        stacked = np.stack([np.asarray(getattr(frame, field)).reshape(-1) for frame in frames])
        np.save(folder / "set.000" / f"{name}.npy", stacked)
    np.savetxt(folder / "type.raw", frames[0].types, fmt="%d")
    (folder / "type_map.raw").write_text("\n".join(WATER_TYPES) + "\n")
