"""DeePMD-kit's npy layout: what is read, and what a user is told when the folder is wrong."""

import os
from collections import Counter

import numpy as np
import pytest

from dpax.data import BatchOrder, DeepmdSystem
from dpax.data.quantities import LABELS
from dpax.errors import InputError

from .builders import FIELDS, write_system


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
@pytest.mark.parametrize("sets", [1, 3])
def test_every_array_reaches_its_frame(tmp_path, dtype, sets):
    arrays = write_system(tmp_path / "s", sets=sets, frames=4, dtype=dtype)
    system = DeepmdSystem(tmp_path / "s", ("H", "O"), name="s")
    assert len(system) == 4 * sets
    assert system.labels == {"energy", "forces", "virial", "atom_energies"}
    assert system.n_atoms(0) == 3
    for index in range(len(system)):
        frame = system.frame(index)
        assert frame.source == f"s/set.{index // 4:03d} frame {index % 4}"
        assert np.array_equal(frame.types, [1, 0, 0])
        assert frame.pbc == (True, True, True)
        assert frame.energy == float(arrays["energy"][index])
        for name, field in {
            "coord": "positions",
            "box": "cell",
            "force": "forces",
            "virial": "virial",
            "atom_ener": "atom_energies",
        }.items():
            value = getattr(frame, field)
            assert value.dtype == np.float64
            assert np.array_equal(value.reshape(-1), arrays[name][index])


def test_atoms_are_not_sorted(tmp_path):
    arrays = write_system(tmp_path / "s", types=(1, 0, 1))
    frame = DeepmdSystem(tmp_path / "s", ("O", "H")).frame(0)
    assert np.array_equal(frame.types, [1, 0, 1])
    assert np.array_equal(frame.positions.reshape(-1), arrays["coord"][0])


def test_labels_are_optional_and_may_differ_between_sets(tmp_path):
    write_system(tmp_path / "s", sets=2)
    for name in ("force", "virial", "atom_ener"):
        (tmp_path / "s/set.001" / f"{name}.npy").unlink()
    for part in ("set.000", "set.001"):
        (tmp_path / "s" / part / "energy.npy").unlink()
    system = DeepmdSystem(tmp_path / "s", ("O", "H"))
    assert system.labels == {"forces", "virial", "atom_energies"}
    assert system.frame(0).energy is None
    assert system.frame(0).forces is not None
    assert system.frame(4).forces is None


def test_energies_may_stand_in_a_column_and_arrays_in_fortran_order(tmp_path):
    arrays = write_system(tmp_path / "s")
    np.save(tmp_path / "s/set.000/energy.npy", arrays["energy"][:, None])
    np.save(tmp_path / "s/set.000/force.npy", np.asfortranarray(arrays["force"]))
    np.save(tmp_path / "s/set.000/box.npy", arrays["box"].reshape(-1, 3, 3))
    frame = DeepmdSystem(tmp_path / "s", ("O", "H")).frame(2)
    assert frame.energy == arrays["energy"][2]
    assert np.array_equal(frame.forces.reshape(-1), arrays["force"][2])
    assert np.array_equal(frame.cell.reshape(-1), arrays["box"][2])


def test_atomic_ener_is_a_spelling_of_atom_ener(tmp_path):
    arrays = write_system(tmp_path / "s")
    folder = tmp_path / "s/set.000"
    (folder / "atom_ener.npy").rename(folder / "atomic_ener.npy")
    assert np.array_equal(
        DeepmdSystem(tmp_path / "s", ("O", "H")).frame(1).atom_energies, arrays["atom_ener"][1]
    )


def test_rare_labels_and_parameters_reach_their_frame(tmp_path):
    arrays = write_system(tmp_path / "s", sets=2, rare=True)
    system = DeepmdSystem(tmp_path / "s", ("O", "H"))
    assert system.labels == set(LABELS)
    for index in range(len(system)):
        frame = system.frame(index)
        for name, field in FIELDS.items():
            assert np.array_equal(np.ravel(getattr(frame, field)), np.ravel(arrays[name][index])), name
    assert (frame.drdq.shape, frame.hessian.shape) == ((9, 2), (9, 9))
    assert (frame.fparam.shape, frame.aparam.shape) == ((2,), (3, 3))


def test_deepmd_kit_reads_the_same(tmp_path):
    data = pytest.importorskip("deepmd.utils.data")
    write_system(tmp_path / "s", types=(1, 0, 1), rare=True)
    for name in ("atom_pref", "atom_ener"):
        (tmp_path / f"s/set.000/{name}.npy").rename(
            tmp_path / f"s/set.000/{name.replace('atom', 'atomic')}.npy"
        )
    theirs = data.DeepmdData(str(tmp_path / "s"), shuffle_test=False, type_map=["H", "O"])
    widths = {
        "fparam": 2,
        "aparam": 3,
        "force": 3,
        "atom_ener": 1,
        "atom_pref": 1,
        "atom_ener_coeff": 1,
        "drdq": 6,
        "frame_weight": 1,
    }
    for name, width in widths.items():
        theirs.add(name, width, atomic=name not in ("fparam", "frame_weight"), must=True)
    for name, width in {"energy": 1, "virial": 9, "hessian": 1}.items():
        theirs.add(name, width, must=True)
    part = theirs._load_set(theirs.dirs[0])
    ours = DeepmdSystem(tmp_path / "s", ("H", "O"))
    for index in range(len(ours)):
        frame = ours.frame(index)
        order = np.argsort(frame.types, kind="stable")
        rows = np.ravel(3 * order[:, None] + np.arange(3))
        assert np.array_equal(part["type"][index], frame.types[order])
        for name, field in FIELDS.items():
            value = np.asarray(getattr(frame, field))
            if name in ("coord", "force", "atom_ener", "atom_pref", "atom_ener_coeff", "aparam"):
                value = value[order]
            elif name == "drdq":
                value = value[rows]
            elif name == "hessian":
                value = value[np.ix_(rows, rows)]
            assert np.array_equal(part[name][index], value.reshape(-1)), name


def test_a_set_may_be_a_single_frame_without_an_axis_of_frames(tmp_path):
    arrays = write_system(tmp_path / "s", frames=1, rare=True)
    for path in (tmp_path / "s/set.000").iterdir():
        np.save(path, np.load(path).reshape(-1))
    system = DeepmdSystem(tmp_path / "s", ("O", "H"))
    assert len(system) == 1
    for name, field in FIELDS.items():
        assert np.array_equal(np.ravel(getattr(system.frame(0), field)), np.ravel(arrays[name])), name


def test_numb_copy_says_how_often_a_pass_takes_each_frame(tmp_path):
    write_system(tmp_path / "s", sets=2)
    assert DeepmdSystem(tmp_path / "s", ("O", "H")).copies is None
    np.save(tmp_path / "s/set.001/numb_copy.npy", np.array([[3], [0], [1], [2]]))
    system = DeepmdSystem(tmp_path / "s", ("O", "H"))
    assert system.copies.tolist() == [1, 1, 1, 1, 3, 0, 1, 2]
    assert len(system) == 8
    order = BatchOrder([system], [1], 0)
    taken = Counter(frame for _ in range(10) for _, frame in order.next())
    assert taken == {0: 1, 1: 1, 2: 1, 3: 1, 4: 3, 6: 1, 7: 2}


def test_numb_copy_repeats_frames_as_in_deepmd_kit(tmp_path):
    data = pytest.importorskip("deepmd.utils.data")
    arrays = write_system(tmp_path / "s")
    np.save(tmp_path / "s/set.000/numb_copy.npy", np.array([2, 0, 1, 3]))
    theirs = data.DeepmdData(str(tmp_path / "s"), type_map=["O", "H"])
    theirs.add("energy", 1, must=True, high_prec=True)
    seen = Counter(theirs.get_batch(6)["energy"][:, 0].tolist())
    order = BatchOrder([DeepmdSystem(tmp_path / "s", ("O", "H"))], [6], 0)
    assert seen == Counter(float(arrays["energy"][frame]) for _, frame in order.next())


@pytest.mark.parametrize(
    ("numbers", "words"), [([1, -1, 1, 1], "frame 1 .*-1 times"), ([0, 0, 0, 0], "leave the system out")]
)
def test_numb_copy_must_make_sense(tmp_path, numbers, words):
    write_system(tmp_path / "s")
    np.save(tmp_path / "s/set.000/numb_copy.npy", np.array(numbers))
    with pytest.raises(InputError, match=words):
        DeepmdSystem(tmp_path / "s", ("O", "H"))


@pytest.mark.parametrize("box", [True, False])
def test_the_nopbc_file_decides_even_where_a_box_lies_beside_it(tmp_path, box):
    arrays = write_system(tmp_path / "s", nopbc=True)
    if box:
        np.save(tmp_path / "s/set.000/box.npy", arrays["box"])
    frame = DeepmdSystem(tmp_path / "s", ("O", "H")).frame(0)
    assert frame.pbc == (False, False, False)
    assert frame.cell is None


def test_without_type_map_raw_the_indices_are_those_of_the_model(tmp_path):
    write_system(tmp_path / "s", types=(2, 0, 1), type_map=None)
    assert np.array_equal(DeepmdSystem(tmp_path / "s", ("O", "H", "C")).frame(0).types, [2, 0, 1])
    with pytest.raises(InputError, match=r"index 2.*\['O', 'H'\].*0 to 1"):
        DeepmdSystem(tmp_path / "s", ("O", "H"))


def test_a_missing_element_is_named_but_an_unused_one_does_no_harm(tmp_path):
    write_system(tmp_path / "s", types=(0, 2, 2), type_map=("O", "Xe", "H"))
    assert np.array_equal(DeepmdSystem(tmp_path / "s", ("H", "O")).frame(0).types, [1, 0, 0])
    with pytest.raises(InputError, match=r"contains H, which the model's type_map \['O', 'C'\] lacks"):
        DeepmdSystem(tmp_path / "s", ("O", "C"))


# Mixed type


@pytest.fixture
def mixed(tmp_path):
    arrays = write_system(tmp_path / "m", types=(0, 0, 0, 0), type_map=("H", "C", "N"), nopbc=True, rare=True)
    types = np.array([[0, 1, -1, -1], [1, 1, 1, 1], [-1, 2, -1, 0], [2, 2, 0, -1]])
    np.save(tmp_path / "m/set.000/real_atom_types.npy", types)
    return tmp_path / "m", arrays, types


def test_virtual_atoms_are_removed_with_all_that_belongs_to_them(mixed):
    folder, arrays, types = mixed
    system = DeepmdSystem(folder, ("N", "C", "H"))
    for index, row in enumerate(types):
        frame, real = system.frame(index), row >= 0
        assert np.array_equal(frame.types, np.array([2, 1, 0])[row[real]])
        assert np.array_equal(frame.positions, arrays["coord"][index].reshape(4, 3)[real])
        assert np.array_equal(frame.forces, arrays["force"][index].reshape(4, 3)[real])
        assert np.array_equal(frame.atom_energies, arrays["atom_ener"][index][real])
        assert frame.energy == arrays["energy"][index]
        components = np.repeat(real, 3)
        assert np.array_equal(frame.aparam, arrays["aparam"][index].reshape(4, 3)[real])
        assert np.array_equal(frame.atom_pref, arrays["atom_pref"][index][real])
        assert np.array_equal(frame.atom_ener_coeff, arrays["atom_ener_coeff"][index][real])
        assert np.array_equal(frame.drdq, arrays["drdq"][index].reshape(12, 2)[components])
        hessian = arrays["hessian"][index].reshape(12, 12)
        assert np.array_equal(frame.hessian, hessian[components][:, components])
        assert len(frame.types) <= system.n_atoms(index)


def test_the_elements_of_all_frames_are_checked_at_once(mixed):
    with pytest.raises(InputError, match="contains N"):
        DeepmdSystem(mixed[0], ("H", "C"))


def test_a_frame_of_virtual_atoms_alone_is_refused_by_name(mixed):
    np.save(mixed[0] / "set.000/real_atom_types.npy", np.array([[0] * 4, [-1] * 4, [0] * 4, [0] * 4]))
    system = DeepmdSystem(mixed[0], ("H", "C", "N"), name="m")
    system.frame(0)
    with pytest.raises(InputError, match=r"m/set.000 frame 1: the frame has no atoms"):
        system.frame(1)


@pytest.mark.parametrize("bad", [7, -2])
def test_types_outside_the_map_are_refused(mixed, bad):
    np.save(mixed[0] / "set.000/real_atom_types.npy", np.full((4, 4), bad))
    with pytest.raises(InputError, match=f"index {bad}, but type_map.raw has 3 names"):
        DeepmdSystem(mixed[0], ("H", "C", "N"))


def test_every_set_of_a_mixed_system_needs_its_types(tmp_path):
    write_system(tmp_path / "m", types=(0, 0, 0), sets=2)
    np.save(tmp_path / "m/set.001/real_atom_types.npy", np.zeros((4, 3), int))
    with pytest.raises(InputError, match=r"only set.001 of its 2 sets has real_atom_types.npy"):
        DeepmdSystem(tmp_path / "m", ("O", "H"))


# Mistakes


def cut_short(folder):
    path = folder / "set.000/force.npy"
    path.write_bytes(path.read_bytes()[:-40])


def cut_to_nothing(folder):
    (folder / "set.000/energy.npy").write_bytes(b"")


def with_objects(folder):
    np.save(folder / "set.000/energy.npy", np.array([{}, 1, 2, 3]))


def with_text(folder):
    np.save(folder / "set.000/energy.npy", np.array(["a", "b", "c", "d"]))


def replaced(name, array):
    def change(folder):
        np.save(folder / f"set.000/{name}.npy", array)

    return change


def without(name):
    def change(folder):
        (folder / name).unlink()

    return change


def with_file(name, text):
    def change(folder):
        (folder / name).write_text(text)

    return change


def with_header(old, new):
    def change(folder):
        path = folder / "set.000/energy.npy"
        raw = path.read_bytes()
        assert old in raw
        length = len(raw) - 32  # four numbers of eight bytes
        path.write_bytes(raw.replace(old, new, 1)[:length].ljust(length) + raw[length:])

    return change


@pytest.mark.parametrize("name", ["type.raw", "type_map.raw"])
def test_a_byte_order_mark_is_no_content(tmp_path, name):
    write_system(tmp_path / "s")
    path = tmp_path / "s" / name
    path.write_bytes(b"\xef\xbb\xbf" + path.read_bytes())
    assert DeepmdSystem(tmp_path / "s", ("O", "H")).frame(0).types.tolist() == [0, 1, 1]


def without_sets(folder):
    (folder / "set.000").rename(folder / "frames")


@pytest.mark.parametrize(
    ("spoil", "words"),
    [
        (cut_short, ["force.npy", "cut short"]),
        (cut_to_nothing, ["energy.npy", "cut short"]),
        (with_objects, ["energy.npy", "numbers"]),
        (with_text, ["energy.npy", "numbers"]),
        (
            replaced("force", np.zeros((4, 6))),
            ["force.npy", "expected 9", "3 atoms x 3", "got 6"],
        ),
        (replaced("coord", np.zeros((4, 12))), ["coord.npy", "expected 9", "got 12"]),
        (replaced("coord", np.zeros((0, 9))), ["coord.npy", "no frames"]),
        (replaced("energy", np.zeros((4, 3))), ["energy.npy", "expected 1", "got 3"]),
        (replaced("virial", np.zeros((4, 6))), ["virial.npy", "expected 9", "got 6"]),
        (replaced("box", np.zeros((4, 3))), ["box.npy", "expected 9", "got 3"]),
        (replaced("energy", np.zeros(3)), ["energy.npy", "holds 3 frames", "coord.npy beside it holds 4"]),
        (without("set.000/coord.npy"), ["set.000", "no coord.npy"]),
        (without("set.000/box.npy"), ["set.000", "no box.npy", "nopbc"]),
        (replaced("aparam", np.zeros((4, 4))), ["aparam.npy", "a multiple of 3 atoms", "got 4"]),
        (replaced("drdq", np.zeros((4, 12))), ["drdq.npy", "a multiple of 3 times 3 atoms", "got 12"]),
        (replaced("hessian", np.zeros((4, 9))), ["hessian.npy", "expected 81", "got 9"]),
        (replaced("atom_pref", np.zeros((4, 9))), ["atom_pref.npy", "expected 3", "got 9"]),
        (without("type.raw"), ["type.raw", "cannot be read"]),
        (with_file("type.raw", "0 1 5"), ["index 5", "type_map.raw has 2 names", "0 to 1"]),
        (with_file("type.raw", "O H H"), ["type.raw", "whole numbers"]),
        (with_file("type.raw", "0 1 " + "9" * 5000), ["type.raw", "whole numbers", "atom 2"]),
        (with_file("type.raw", "0 1.0 1"), ["type.raw", "whole numbers", "'1.0' for atom 1"]),
        (with_file("type.raw", "0 1e0 1"), ["type.raw", "whole numbers"]),
        (with_file("type.raw", "0 \u0661 1"), ["type.raw", "whole numbers"]),
        (with_file("type_map.raw", "O H O"), ["type_map.raw", "has O twice"]),
        (with_file("type_map.raw", "O " + "H" * 9000), ["type_map.raw", "is not an element name"]),
        (with_header(b"}", b" "), ["energy.npy", "damaged"]),
        (with_header(b"(4,)", b"(9**9,)"), ["energy.npy", "damaged"]),
        (with_header(b"(4,)", b"(-4,)"), ["energy.npy", "damaged"]),
        (with_header(b"(4,)", b"(4444444444444,)"), ["energy.npy", "damaged"]),
        (with_header(b"(4,)", b"((((((((4"), ["energy.npy", "damaged"]),
        (with_header(b"<f8", b"|O8"), ["energy.npy", "damaged"]),
        (with_header(b"<f8", b"<q9"), ["energy.npy", "damaged"]),
        (with_header(b"\x93NUMPY", b"PK\x03\x04zip"), ["energy.npy", "damaged"]),
        (replaced("numb_copy", np.array([1, 0.5, 1, 1])), ["numb_copy.npy", "whole numbers, got 0.5"]),
        (replaced("real_atom_types", np.full((4, 3), 2**64 - 1, "u8")), ["real_atom_types.npy", "whole"]),
        (replaced("real_atom_types", np.full((4, 3), np.nan)), ["real_atom_types.npy", "whole", "nan"]),
        (with_file("type.raw", "0 -1 1"), ["type.raw", ">= 0", "-1"]),
        (with_file("type.raw", ""), ["type.raw", "one index"]),
        (without_sets, ["no set.* folder", "set.000/coord.npy"]),
    ],
)
def test_a_wrong_folder_is_refused_when_it_is_opened(tmp_path, spoil, words):
    write_system(tmp_path / "s")
    spoil(tmp_path / "s")
    with pytest.raises(InputError) as caught:
        DeepmdSystem(tmp_path / "s", ("O", "H"))
    assert all(word in str(caught.value) for word in words), str(caught.value)
    assert str(tmp_path / "s") in str(caught.value)


@pytest.mark.parametrize("name", ["coord", "box", "energy", "force", "virial", "atom_ener"])
@pytest.mark.parametrize("value", [np.nan, np.inf])
def test_a_bad_number_is_refused_with_file_and_frame(tmp_path, name, value):
    arrays = write_system(tmp_path / "s")
    arrays[name].reshape(4, -1)[2, -1] = value
    np.save(tmp_path / f"s/set.000/{name}.npy", arrays[name])
    system = DeepmdSystem(tmp_path / "s", ("O", "H"))
    system.frame(1)
    with pytest.raises(InputError, match=rf"set.000/{name}.npy: frame 2 .*NaN or infinite.*remove"):
        system.frame(2)


def test_a_box_without_volume_is_refused_with_its_frame(tmp_path):
    arrays = write_system(tmp_path / "s")
    arrays["box"][3] = [1, 2, 3, 2, 4, 6, 0, 0, 1]
    np.save(tmp_path / "s/set.000/box.npy", arrays["box"])
    with pytest.raises(InputError, match=r"s/set.000 frame 3: the cell has zero volume"):
        DeepmdSystem(tmp_path / "s", ("O", "H"), name="s").frame(3)


def test_a_file_that_shrinks_during_training_is_noticed(tmp_path):
    write_system(tmp_path / "s")
    system = DeepmdSystem(tmp_path / "s", ("O", "H"))
    cut_short(tmp_path / "s")
    with pytest.raises(InputError, match=r"force.npy vanished or became shorter"):
        system.frame(3)


@pytest.mark.skipif(not os.path.isdir("/proc/self/fd"), reason="needs /proc")
def test_thousands_of_systems_do_not_use_up_the_file_descriptors(tmp_path):
    write_system(tmp_path / "s")
    before = len(os.listdir("/proc/self/fd"))
    systems = [DeepmdSystem(tmp_path / "s", ("O", "H")) for _ in range(50)]
    frames = [system.frame(0) for system in systems]
    assert len(os.listdir("/proc/self/fd")) <= before + 1
    assert len(frames) == 50


# Real data


def test_water_is_read_as_deepmd_kit_reads_it(real_data):
    utils = pytest.importorskip("deepmd.utils.data")
    folder = real_data("water/data_1")
    theirs = utils.DeepmdData(str(folder), set_prefix="set", shuffle_test=False, type_map=["O", "H"])
    theirs.add("energy", 1, atomic=False, high_prec=True).add("force", 3, atomic=True)
    ours = DeepmdSystem(folder, ("O", "H"))
    assert len(ours) == 160
    expected = [theirs._load_set(path) for path in theirs.dirs]
    for index in (0, 79, 80, 159):
        frame, part = ours.frame(index), expected[index // 80]
        np.testing.assert_allclose(frame.positions.reshape(-1), part["coord"][index % 80])
        np.testing.assert_allclose(frame.cell.reshape(-1), part["box"][index % 80])
        np.testing.assert_allclose(frame.forces.reshape(-1), part["force"][index % 80])
        assert frame.energy == part["energy"][index % 80, 0]


def test_padded_mixed_data_equal_the_systems_they_were_made_from(real_data):
    names = ("C", "H", "O")
    padded = DeepmdSystem(real_data("mixed/nopbc_padded"), names)
    known = {}
    for formula in ("C1H4O2", "C3H3O4", "C4H3O1"):
        system = DeepmdSystem(real_data(f"nopbc/{formula}"), names)
        for index in range(0, len(system), 7):
            frame = system.frame(index)
            known[frame.positions.tobytes()] = frame
    found = 0
    for index in range(len(padded)):
        frame = padded.frame(index)
        twin = known.get(frame.positions.tobytes())
        if twin is not None:
            found += 1
            assert np.array_equal(frame.types, twin.types)
            assert np.array_equal(frame.forces, twin.forces)
            assert frame.energy == twin.energy
    assert found >= len(known)


def test_data_without_energies_can_be_read(real_data):
    system = DeepmdSystem(real_data("mixed/property_0"), ("H", "C", "N", "O"))
    assert system.labels == frozenset()
    assert system.frame(3).energy is None
