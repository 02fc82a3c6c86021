"""Tables of pair potentials, and lists of systems."""

from pathlib import Path
from random import Random

import numpy as np

from dpax.cli.sources import listed_systems
from dpax.model.pair_table import read_pair_table

from ..mutations import damaged_text
from ..target import Target


def _make_table(folder: Path) -> None:
    r = np.arange(0.5, 3.0, 0.1)
    np.savetxt(folder / "table.txt", np.stack([r, 1 / r, 2 / r, 3 / r], axis=1))


def _make_list(folder: Path) -> None:
    (folder / "systems.txt").write_text("data/a\n'data/b c'\n/nowhere/data[12]/*\n~/d.h5#/group\n")


def _damage(random: Random, name: str, content: bytes) -> bytes:
    return damaged_text(random, content)


TARGETS = [
    Target("pair-table", _make_table, lambda path: read_pair_table(path, 6.0, ("O", "H")), _damage),
    Target("list", _make_list, listed_systems, _damage),
]
