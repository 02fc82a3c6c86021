"""Systems in HDF5 files: the same as folders, and what a user is told when the file is wrong."""

import h5py
import numpy as np
import pytest

from dpax.data import elements_in, open_systems
from dpax.errors import InputError

from .builders import FIELDS, write_hdf5, write_system


@pytest.fixture
def tree(tmp_path):
    write_system(tmp_path / "water", sets=2, rare=True)
    write_system(tmp_path / "gas", types=(1, 0), nopbc=True, seed=1)
    groups = {"bulk/water": tmp_path / "water", "gas": tmp_path / "gas"}
    write_hdf5(tmp_path / "all.h5", groups)
    return tmp_path


@pytest.mark.parametrize(
    ("path", "expected"),
    [
        ("all.h5", ["all.h5#/bulk/water", "all.h5#/gas"]),
        ("all.h5#/bulk", ["all.h5#/bulk/water"]),
        ("all.h5#/bulk/water", ["all.h5#/bulk/water"]),
        ("all.h5#gas", ["all.h5#/gas"]),
        ("*.h5#/gas", ["all.h5#/gas"]),
    ],
)
def test_what_a_path_may_be(tree, path, expected):
    assert [system.name for system in open_systems(path, ("O", "H"), tree)] == expected


@pytest.mark.parametrize(("group", "folder"), [("bulk/water", "water"), ("gas", "gas")])
def test_a_group_is_read_as_the_folder(tree, group, folder):
    (ours,) = open_systems(f"all.h5#/{group}", ("H", "O"), tree)
    (same,) = open_systems(folder, ("H", "O"), tree)
    assert len(ours) == len(same)
    assert ours.labels == same.labels
    for index in range(len(same)):
        frame, other = ours.frame(index), same.frame(index)
        assert frame.pbc == other.pbc
        assert np.array_equal(frame.types, other.types)
        for field in FIELDS.values():
            assert np.array_equal(getattr(frame, field), getattr(other, field)), field
    assert ours.frame(1).source == f"all.h5#/{group}/set.000 frame 1"
    assert elements_in("all.h5", tree) == ["H", "O"]


def test_deepmd_kit_reads_the_same_file(tree):
    data = pytest.importorskip("deepmd.utils.data")
    theirs = data.DeepmdData(f"{tree / 'all.h5'}#/bulk/water", shuffle_test=False, type_map=["O", "H"])
    theirs.add("force", 3, atomic=True, must=True).add("energy", 1, must=True, high_prec=True)
    (ours,) = open_systems("all.h5#/bulk/water", ("O", "H"), tree)
    parts = [theirs._load_set(folder) for folder in theirs.dirs]
    for index in range(len(ours)):
        frame, part = ours.frame(index), parts[index // 4]
        assert np.array_equal(frame.forces.reshape(-1), part["force"][index % 4])
        assert np.array_equal(frame.positions.reshape(-1), part["coord"][index % 4])
        assert np.array_equal(frame.cell.reshape(-1), part["box"][index % 4])
        assert frame.energy == part["energy"][index % 4, 0]


def test_mixed_type_with_padding(tmp_path):
    write_system(tmp_path / "m", types=(0, 0, 0), rare=True)
    types = np.array([[0, 1, -1], [1, 1, 1], [-1, 0, 0], [1, -1, -1]])
    np.save(tmp_path / "m/set.000/real_atom_types.npy", types)
    write_hdf5(tmp_path / "m.hdf5", {"m": tmp_path / "m"})
    (ours,), (same,) = (open_systems(path, ("O", "H"), tmp_path) for path in ("m.hdf5", "m"))
    for index, row in enumerate(types):
        assert np.array_equal(ours.frame(index).types, row[row >= 0])
        assert np.array_equal(ours.frame(index).hessian, same.frame(index).hessian)


def declared(name, shape, chunks):
    """A dataset that says to be huge, with nothing in it."""

    def change(path):
        with h5py.File(path, "r+") as file:
            del file[name]
            file.create_dataset(name, shape, "f8", chunks=chunks)

    return change


def cut_short(path):
    path.write_bytes(path.read_bytes()[:900])


def emptied(path):
    path.write_bytes(b"")


def changed(name, value):
    def change(path):
        with h5py.File(path, "a") as file:
            if isinstance(name, str):
                file.pop(name, None)
            if value is not None:
                file[name] = value

    return change


@pytest.mark.parametrize(
    ("spoil", "words"),
    [
        (cut_short, ["all.h5", "this is not a whole HDF5 file"]),
        (emptied, ["all.h5", "this is not a whole HDF5 file"]),
        (
            declared("gas/set.000/energy.npy", (4, 2**40), (1, 1024)),
            ["energy.npy", "of which 0 are"],
        ),
        (
            declared("gas/set.000/force.npy", (4, 2**26), (1, 2**26)),
            ["force.npy", "of which 0 are"],
        ),
        (changed("gas/type_map.raw", np.array([b"O", b"O"])), ["type_map.raw", "has O twice"]),
        (changed("gas/type.raw", np.array([0.5, 1])), ["type.raw", "whole numbers"]),
        (changed("gas/set.000/coord.npy", None), ["#/gas/set.000 has no coord.npy"]),
        (changed("gas/set.000", None), ["#/gas has type.raw but no set.*"]),
        (
            changed("gas/set.000/force.npy", np.zeros((4, 9))),
            ["#/gas/set.000/force.npy", "expected 6", "got 9"],
        ),
        (changed("gas/set.000/energy.npy", np.zeros(3)), ["energy.npy: holds 3 frames", "holds 4"]),
        (
            changed("gas/set.000/energy.npy", np.array([b"a"] * 4)),
            ["energy.npy does not hold an array of numbers"],
        ),
        (changed("gas/set.000/energy.npy", 1.0), ["energy.npy does not hold an array of numbers"]),
        (changed("gas/type.raw", np.array([0, 7])), ["index 7", "type_map.raw has 2 names"]),
        (changed("gas/type_map.raw", np.array([b"O", b"Xe"])), ["contains Xe"]),
        (
            changed(b"gas/set.000/for\xffe.npy", np.zeros((4, 6))),
            ["set.000 holds names that are not UTF-8"],
        ),
        (changed(b"gas/s\xfft.000/energy.npy", np.zeros(4)), ["#/gas holds names that are not UTF-8"]),
        (changed("bulk/water/set.000/box.npy", None), ["#/bulk/water/set.000 has no box.npy", "nopbc"]),
    ],
)
def test_a_wrong_file_is_refused_when_it_is_opened(tree, spoil, words):
    assert len(open_systems("all.h5", ("O", "H"), tree)) == 2
    spoil(tree / "all.h5")
    with pytest.raises(InputError) as caught:
        open_systems("all.h5", ("O", "H"), tree)
    assert all(word in str(caught.value) for word in words), str(caught.value)


@pytest.mark.parametrize("name", ["gas/set.000/energy.npy", "gas/type.raw", "gas/set.000", "gas"])
def test_links_into_another_file_are_refused(tree, name):
    """The record of a run's data would not notice that they have changed, and groups would be left out."""
    with h5py.File(tree / "other.h5", "w") as other, h5py.File(tree / "all.h5", "a") as file:
        file.copy(name, other, "x")
        del file[name]
        file[name] = h5py.ExternalLink("other.h5", "/x")
    with pytest.raises(InputError, match=f"{name} is a link into another file"):
        open_systems("all.h5", ("O", "H"), tree)


def names_of_variable_length(path):
    """Where the heap of their strings begins."""
    with h5py.File(path, "a") as file:
        for group in ("gas", "bulk/water"):
            names = file[f"{group}/type_map.raw"].asstr()[()].astype(object)
            del file[f"{group}/type_map.raw"]
            file.create_dataset(f"{group}/type_map.raw", data=names, dtype=h5py.string_dtype())
    return path.read_bytes().index(b"GCOL")


@pytest.mark.parametrize("entry", [0, 1, 3])
@pytest.mark.parametrize("size", [0, 8, 2**64 - 8, 2**63, 5000])
def test_strings_that_cannot_be_found_are_refused(tree, entry, size):
    """HDF5 2.0 would look for them for ever: in a heap, each entry says where the next one is."""
    path = tree / "all.h5"
    start = names_of_variable_length(path)
    assert len(open_systems("all.h5", ("O", "H"), tree)) == 2
    content = bytearray(path.read_bytes())
    place = start + 16 + entry * 24  # each of the first entries holds a name of one letter, filled up to 8
    content[place : place + 16] = np.array([0, size], "<u8").tobytes()
    path.write_bytes(content)
    with pytest.raises(InputError, match=r"type_map.raw: .*its strings cannot be found"):
        open_systems("all.h5", ("O", "H"), tree)


def test_a_group_without_systems_is_not_found(tree):
    with pytest.raises(InputError, match=r"no data found at 'all.h5#/steam'"):
        open_systems("all.h5#/steam", ("O", "H"), tree)


def test_a_bad_number_is_refused_with_its_frame(tree):
    with h5py.File(tree / "all.h5", "a") as file:
        file["gas/set.000/force.npy"][2, 1] = np.nan
    (system,) = open_systems("all.h5#/gas", ("O", "H"), tree)
    system.frame(1)
    with pytest.raises(InputError, match=r"all.h5#/gas/set.000/force.npy: frame 2 .*NaN"):
        system.frame(2)
