"""Every format that is written gives back, bit for bit, all that was put in."""

from dataclasses import replace

import numpy as np
import pytest

from dpax.data import open_systems, type_names, write_deepmd_npy, write_extxyz, write_hdf5
from dpax.errors import InputError

from .builders import FIELDS, random_frame

NAMES = ("H", "C", "O")


def mixed_npy(path, frames, names):
    write_deepmd_npy(path, frames, names, mixed=True)


WRITERS = {"out": write_deepmd_npy, "mixed": mixed_npy, "out.h5": write_hdf5, "out.xyz": write_extxyz}


def read_all(path, names=NAMES):
    systems = open_systems(str(path), names)
    return [system.frame(index) for system in systems for index in range(len(system))]


def sorted_by_type(frame):
    """The frame with its atoms in the order of their types, as npy systems have them."""
    order = np.argsort(frame.types, kind="stable")
    rows = (3 * order[:, None] + np.arange(3)).reshape(-1)
    changed = {"types": frame.types[order]}
    for field in ("positions", "forces", "atom_energies", "atom_pref", "atom_ener_coeff", "aparam"):
        value = getattr(frame, field)
        changed[field] = None if value is None else value[order]
    if frame.drdq is not None:
        changed |= {"drdq": frame.drdq[rows], "hessian": frame.hessian[np.ix_(rows, rows)]}
    return replace(frame, **changed)


def assert_same(ours, theirs):
    """Equal frames, in any order."""

    def by_place(frames):
        return sorted(map(sorted_by_type, frames), key=lambda frame: frame.positions.tobytes())

    assert len(ours) == len(theirs)
    for frame, other in zip(by_place(ours), by_place(theirs), strict=True):
        assert frame.pbc == other.pbc
        assert np.array_equal(frame.types, other.types)
        for field in FIELDS.values():
            value, wanted = getattr(frame, field), getattr(other, field)
            assert (value is None) == (wanted is None), field
            assert value is None or np.array_equal(value, wanted), field


@pytest.fixture
def frames():
    """Frames of several sizes, periodic or not, with all labels, with some, with none."""
    some = {"forces": None, "aparam": None, "atom_energies": None}
    return [
        random_frame(5, seed=0, ntypes=3, rare=True),
        random_frame(5, seed=1, ntypes=3, periodic=False, rare=True),
        random_frame(1, seed=2, ntypes=3, rare=True),
        replace(random_frame(3, seed=3, ntypes=3, rare=True), **some),
        random_frame(4, seed=4, ntypes=3, labels=False),
        replace(random_frame(5, seed=5, ntypes=3, rare=True), fparam=np.arange(9) / 7),
        random_frame(5, seed=6, ntypes=3),
    ]


@pytest.mark.parametrize("name", WRITERS)
def test_round_trip(tmp_path, frames, name):
    WRITERS[name](tmp_path / name, frames, NAMES)
    assert_same(read_all(tmp_path / name), frames)
    assert type_names(str(tmp_path / name)) == ["C", "H", "O"]


def test_a_chain_through_all_formats(tmp_path, frames):
    now = frames
    for name, write in WRITERS.items():
        write(tmp_path / name, now, NAMES)
        now = read_all(tmp_path / name)
    assert_same(now, frames)


def test_mixed_type_keeps_the_order_of_the_atoms_and_deepmd_kit_reads_it(tmp_path, frames):
    periodic = [frame for frame in frames if all(frame.pbc) and len(frame.types) == 5]
    (folder,) = write_deepmd_npy(tmp_path, [replace(f, fparam=None) for f in periodic], NAMES, mixed=True)
    assert folder.name == "5"
    for frame, original in zip(read_all(folder), (periodic[0], periodic[1], periodic[2]), strict=True):
        assert np.array_equal(frame.types, original.types)
        assert np.array_equal(frame.positions, original.positions)
    data = pytest.importorskip("deepmd.utils.data")
    theirs = data.DeepmdData(str(folder), shuffle_test=False, type_map=list(NAMES), sort_atoms=False)
    assert theirs.mixed_type
    assert np.array_equal(theirs._load_set(theirs.dirs[0])["type"][0], periodic[0].types)


@pytest.mark.parametrize("write", [write_deepmd_npy, write_hdf5, mixed_npy])
def test_what_the_layout_cannot_say_is_refused(tmp_path, write):
    slab = replace(random_frame(), pbc=(True, True, False), source="slab")
    with pytest.raises(InputError, match=r"slab: is periodic in some directions only"):
        write(tmp_path / "out", [slab], NAMES)


def test_extended_xyz_keeps_partly_periodic_cells(tmp_path):
    slab = replace(random_frame(rare=True), pbc=(True, False, True))
    write_extxyz(tmp_path / "slab.xyz", [slab], NAMES)
    (back,) = read_all(tmp_path / "slab.xyz")
    assert_same([back], [slab])


def test_names_that_are_no_elements_cannot_go_to_extended_xyz(tmp_path):
    with pytest.raises(InputError, match=r"frame 3: .*OW is none"):
        write_extxyz(tmp_path / "a.xyz", [random_frame(source="frame 3")], ("OW", "HW"))


@pytest.mark.parametrize("name", ["out.h5", "out.xyz"])
def test_a_file_is_never_overwritten(tmp_path, name):
    (tmp_path / name).write_text("precious")
    with pytest.raises(InputError, match="already there"):
        WRITERS[name](tmp_path / name, [random_frame()], NAMES)
    assert (tmp_path / name).read_text() == "precious"


@pytest.mark.parametrize("mixed", [False, True])
def test_copies_are_kept_with_their_frames(tmp_path, mixed):
    frames = [random_frame(4, seed=k, labels=k != 1) for k in range(3)]
    write_deepmd_npy(tmp_path / "out", frames, NAMES, mixed=mixed, copies=[3, 0, 5])
    found = {}
    for system in open_systems(str(tmp_path / "out"), NAMES):
        for index in range(len(system)):
            assert system.copies is not None
            found[system.frame(index).energy] = system.copies[index]
    assert found == {frames[0].energy: 3, None: 0, frames[2].energy: 5}
