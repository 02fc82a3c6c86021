"""Neighbours of data, counted by brute force and by DeePMD-kit."""

import numpy as np
import pytest

from dpax.data import NeighborStatistics, open_systems
from dpax.errors import InputError

from .builders import random_frame, write_system

CUTOFF = 4.0


def brute_force(frame, cutoff):
    """Distances of all pairs within the cutoff, and the neighbours of each type of each atom."""
    shifts = np.stack(np.meshgrid(*[range(-2, 3)] * 3, indexing="ij"), -1).reshape(-1, 3)
    images = shifts @ frame.cell if all(frame.pbc) else np.zeros((1, 3))
    vectors = frame.positions[None, :, None] + images - frame.positions[:, None, None]
    distances = np.linalg.norm(vectors, axis=-1)
    inside = (distances > 0) & (distances < cutoff)
    counts = np.stack([inside[:, frame.types == t].sum(axis=(1, 2)) for t in (0, 1)], -1)
    return distances[inside].min(initial=np.inf), counts


@pytest.mark.parametrize("periodic", [True, False])
def test_against_brute_force(periodic):
    frames = [random_frame(n, seed=n, periodic=periodic) for n in (1, 4, 9)]
    statistics = NeighborStatistics(2, CUTOFF)
    for frame in frames:
        assert statistics.add(frame) == bool(brute_force(frame, CUTOFF)[1].any())
    found = [brute_force(frame, CUTOFF) for frame in frames]
    counts = np.concatenate([c for _, c in found])
    assert statistics.min_distance == pytest.approx(min(d for d, _ in found), abs=1e-12)
    assert statistics.max_by_type.tolist() == counts.max(axis=0).tolist()
    assert statistics.max_neighbors == counts.sum(axis=1).max()
    assert statistics.mean_neighbors == pytest.approx(counts.sum(axis=1).mean())


@pytest.mark.parametrize("nopbc", [False, True])
@pytest.mark.parametrize("mixed_type", [False, True])
def test_against_deepmd_kit(tmp_path, nopbc, mixed_type):
    statistics = pytest.importorskip("deepmd.dpmodel.utils.neighbor_stat")
    system = pytest.importorskip("deepmd.utils.data_system")
    write_system(tmp_path / "s", types=(0, 1, 1, 0, 1, 1), nopbc=nopbc, sets=2)
    data = system.DeepmdDataSystem([str(tmp_path / "s")], 1, 1, type_map=["H", "O"])
    least, most = statistics.NeighborStat(2, CUTOFF, mixed_type=mixed_type).get_stat(data)
    ours = NeighborStatistics(2, CUTOFF)
    (opened,) = open_systems(str(tmp_path / "s"), ("H", "O"))
    ours.add_system(opened)
    assert ours.min_distance == pytest.approx(least, rel=1e-12)
    assert most.tolist() == ([ours.max_neighbors] if mixed_type else ours.max_by_type.tolist())


def test_an_atom_at_the_cutoff_is_no_neighbour():
    frame = random_frame(2, periodic=False)
    distance = float(np.linalg.norm(frame.positions[1] - frame.positions[0]))
    at, beyond = NeighborStatistics(2, distance), NeighborStatistics(2, 1.001 * distance)
    assert not at.add(frame)
    assert at.min_distance == np.inf
    assert beyond.add(frame)


def test_coincident_atoms_are_refused_by_frame():
    frame = random_frame(2, periodic=False, source="frame 5")
    frame.positions[1] = frame.positions[0]
    with pytest.raises(InputError, match=r"frame 5: atoms 0 and 1"):
        NeighborStatistics(2, CUTOFF).add(frame)
