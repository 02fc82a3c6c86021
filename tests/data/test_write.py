"""What is written can be read again, by dpax and by DeePMD-kit."""

from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from dpax.data import open_systems, write_deepmd_npy
from dpax.errors import InputError

from .builders import random_frame

NAMES = ("H", "C", "O")


LABEL_SETS = st.sets(st.sampled_from(["energy", "forces", "virial", "atom_energies"]))


@given(st.lists(st.tuples(st.integers(1, 6), st.booleans(), LABEL_SETS), min_size=1, max_size=6))
def test_round_trip(tmp_path_factory, recipe):
    folder = tmp_path_factory.mktemp("data")
    frames = []
    for seed, (size, periodic, kept) in enumerate(recipe):
        frame = random_frame(size, seed=seed, periodic=periodic, ntypes=3)
        dropped = {"energy", "forces", "virial", "atom_energies"} - kept
        frames.append(replace(frame, **dict.fromkeys(dropped)))
    paths = write_deepmd_npy(folder / "out", frames, NAMES)
    systems = open_systems(["out"], NAMES, folder)
    assert len(systems) == len(paths)
    back = {}
    for system in systems:
        for index in range(len(system)):
            frame = system.frame(index)
            back[np.sort(frame.positions, axis=None).tobytes()] = frame
    assert len(back) == len(frames)
    for frame in frames:
        twin = back[np.sort(frame.positions, axis=None).tobytes()]
        order = np.argsort(frame.types, kind="stable")
        assert np.array_equal(twin.types, frame.types[order])
        assert np.array_equal(twin.positions, frame.positions[order])
        assert twin.pbc == frame.pbc
        assert twin.energy == frame.energy
        for field, rows in (("cell", ...), ("forces", order), ("virial", ...), ("atom_energies", order)):
            ours, written = getattr(twin, field), getattr(frame, field)
            assert (ours is None) == (written is None)
            assert ours is None or np.array_equal(ours, written[rows])


def test_one_system_for_each_composition_and_periodicity(tmp_path):
    base = random_frame(4, ntypes=2)
    shuffled = replace(base, types=base.types[::-1])
    free = replace(base, cell=None, pbc=(False,) * 3)
    paths = write_deepmd_npy(tmp_path, [base, shuffled, free], ("O", "H"))
    oxygens = int((base.types == 0).sum())
    assert [p.name for p in paths] == [f"O{oxygens}H{4 - oxygens}", f"O{oxygens}H{4 - oxygens}_nopbc"]
    assert [len(s) for s in open_systems(str(tmp_path), ("O", "H"))] == [2, 1]


def test_deepmd_kit_reads_the_result(tmp_path):
    utils = pytest.importorskip("deepmd.utils.data")
    frames = [replace(random_frame(5, seed=k), types=np.array([0, 1, 0, 1, 1])) for k in range(3)]
    (path,) = write_deepmd_npy(tmp_path, frames, ("O", "H"))
    theirs = utils.DeepmdData(str(path), set_prefix="set", shuffle_test=False, type_map=["O", "H"])
    theirs.add("energy", 1, atomic=False, high_prec=True).add("force", 3, atomic=True).add("virial", 9)
    loaded = theirs._load_set(theirs.dirs[0])
    assert theirs.get_natoms() == 5
    np.testing.assert_allclose(loaded["energy"][:, 0], [f.energy for f in frames])
    np.testing.assert_allclose(loaded["virial"], [f.virial.reshape(-1) for f in frames])
    order = np.argsort(frames[0].types, kind="stable")
    np.testing.assert_allclose(loaded["force"], [f.forces[order].reshape(-1) for f in frames])


def test_nothing_is_overwritten(tmp_path):
    write_deepmd_npy(tmp_path, [random_frame()], ("O", "H"))
    with pytest.raises(InputError, match="already there"):
        write_deepmd_npy(tmp_path, [random_frame()], ("O", "H"))


def test_slabs_cannot_be_written(tmp_path):
    slab = replace(random_frame(source="slab.xyz frame 3"), pbc=(True, True, False))
    with pytest.raises(InputError, match=r"slab.xyz frame 3: is periodic in some.*extended xyz"):
        write_deepmd_npy(tmp_path, [slab], ("O", "H"))
