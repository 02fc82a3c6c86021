"""Structures in extended XYZ, plain and compressed."""

import bz2
import gzip
import io
import lzma
from collections.abc import Callable
from pathlib import Path
from random import Random

import ase.io
import numpy as np
from ase import Atoms
from ase.calculators.singlepoint import SinglePointCalculator

from dpax.simulate.structure import read_structure

from ..mutations import damaged_bytes, damaged_text
from ..target import Target
from .systems import read

_PACKING: dict[str, tuple[Callable[[bytes], bytes], Callable[[bytes], bytes]]] = {
    "gz": (gzip.decompress, lambda content: gzip.compress(content, mtime=0)),
    "bz2": (bz2.decompress, bz2.compress),
    "xz": (lzma.decompress, lzma.compress),
}


def _structures() -> list[Atoms]:
    random = np.random.default_rng(4)
    structures = []
    for periodic in (True, False):
        atoms = Atoms("OHH", random.uniform(0, 5, (3, 3)), cell=[6, 7, 8] if periodic else None, pbc=periodic)
        atoms.info["fparam"] = random.uniform(size=2)
        atoms.arrays["aparam"] = random.uniform(size=(3, 2))
        atoms.calc = SinglePointCalculator(atoms, energy=-1.5, forces=random.normal(size=(3, 3)))
        if periodic:
            atoms.calc.results["stress"] = random.normal(size=6)
        structures.append(atoms)
    return structures


def _make_xyz(folder: Path) -> None:
    text = io.StringIO()
    ase.io.write(text, _structures(), format="extxyz")
    content = text.getvalue().encode()
    (folder / "a.xyz").write_bytes(content)
    for suffix, (_, pack) in _PACKING.items():
        (folder / f"a.xyz.{suffix}").write_bytes(pack(content))


def _damage_xyz(random: Random, name: str, content: bytes) -> bytes:
    """The text, or now and then the bytes of a file that is compressed."""
    packing = _PACKING.get(name.rpartition(".")[2])
    if packing is None:
        return damaged_text(random, content)
    if random.random() < 0.3:
        return damaged_bytes(random, content)
    unpack, pack = packing
    return pack(damaged_text(random, unpack(content)))


def _read(path: Path) -> None:
    read(path)
    read_structure(path)
    read_structure(path, index=0)


TARGETS = [
    Target("extxyz", _make_xyz, _read, _damage_xyz),
]
