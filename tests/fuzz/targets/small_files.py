"""Statistics of training data, tables of pair potentials, and lists of systems."""

from pathlib import Path
from random import Random

import numpy as np

from dpax.cli.sources import listed_systems
from dpax.model.pair_table import read_pair_table
from dpax.train.statistics import Statistics, is_statistics, read_statistics, write_statistics

from ..mutations import damaged_text
from ..target import Target


def _make_statistics(folder: Path) -> None:
    arrays = {name: np.linspace(0.1, 1.7, 8).reshape(2, 4) for name in ("mean", "stddev")}
    arrays |= {"bias": np.array([-93.0, -187.1])}
    arrays |= {"parameter_mean": np.zeros(1), "parameter_deviation": np.ones(1)}
    found = Statistics(
        **arrays,
        sel=40,
        max_neighbors=38,
        crowded="data/a frame 3",
        observed=[0, 1],
        min_distance=0.9,
        fingerprint="5f",
    )
    write_statistics(folder / "statistics.json", found)


def _read_statistics(path: Path) -> None:
    is_statistics(path)
    found = read_statistics(path, "5f")
    if found is not None:
        shapes = [getattr(found, name).shape for name in ("mean", "stddev", "bias")]
        assert shapes == [(2, 4), (2, 4), (2,)]
        assert np.isfinite(found.mean).all()
        assert found.sel > 0


def _make_table(folder: Path) -> None:
    r = np.arange(0.5, 3.0, 0.1)
    np.savetxt(folder / "table.txt", np.stack([r, 1 / r, 2 / r, 3 / r], axis=1))


def _make_list(folder: Path) -> None:
    (folder / "systems.txt").write_text("data/a\n'data/b c'\n/nowhere/data[12]/*\n~/d.h5#/group\n")


def _damage(random: Random, name: str, content: bytes) -> bytes:
    return damaged_text(random, content)


TARGETS = [
    Target("statistics", _make_statistics, _read_statistics, _damage),
    Target("pair-table", _make_table, lambda path: read_pair_table(path, 6.0, ("O", "H")), _damage),
    Target("list", _make_list, listed_systems, _damage),
]
