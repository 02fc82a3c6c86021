"""Data sets of DeePMD-kit in LMDB: frames of many sizes, and what a user is told when they are damaged."""

import os
import struct
import sys

import hypothesis
import numpy as np
import pytest
from hypothesis import strategies as st

from dpax.data import BatchOrder, CapacityPlanner, batch_sizes, elements_in, make_batch, open_systems
from dpax.data.lmdb_pages import DamagedError, LmdbPages
from dpax.errors import InputError

from .builders import FIELDS, random_frame

lmdb = pytest.importorskip("lmdb")
msgpack = pytest.importorskip("msgpack")

NAMES = {
    "coord": "coords",
    "box": "cells",
    "energy": "energies",
    "force": "forces",
    "virial": "virials",
    "atom_ener": "atomic_ener",
}


def packed(array):
    array = np.asarray(array)
    return {"type": str(array.dtype), "shape": list(array.shape), "data": array.tobytes()}


def record_of(frame, **more):
    record = {"atom_types": packed(frame.types.astype(np.int64))}
    for name, field in FIELDS.items():
        value = getattr(frame, field)
        if value is not None:
            record[NAMES.get(name, name)] = packed(np.asarray(value))
    return record | more


def write_lmdb(path, records, **metadata):
    environment = lmdb.open(str(path), map_size=2**24)
    with environment.begin(write=True) as transaction:
        for number, record in enumerate(records):
            raw = record if isinstance(record, bytes) else msgpack.packb(record, use_bin_type=True)
            transaction.put(format(number, "012d").encode(), raw)
        described = {"nframes": len(records), "frame_idx_fmt": "012d", "type_map": ["O", "H"]} | metadata
        described = {key: value for key, value in described.items() if value is not None}
        transaction.put(b"__metadata__", msgpack.packb(described, use_bin_type=True))
    environment.close()


@pytest.fixture
def frames():
    return [random_frame(3 + k % 3, seed=k, periodic=k % 2 == 0, rare=k < 4) for k in range(9)]


@pytest.fixture
def data(tmp_path, frames):
    write_lmdb(tmp_path / "set.lmdb", [record_of(frame) for frame in frames])
    return tmp_path


def same(frame, other):
    assert frame.pbc == other.pbc
    assert np.array_equal(frame.types, other.types)
    for field in FIELDS.values():
        value = getattr(other, field)
        assert (getattr(frame, field) is None) == (value is None), field
        assert value is None or np.array_equal(getattr(frame, field), value), field


def test_every_frame_and_label(data, frames):
    systems = open_systems("set.lmdb", ("O", "H"), data)
    assert [system.name for system in systems] == [f"set.lmdb atoms {n}" for n in (3, 4, 5)]
    assert [len(system) for system in systems] == [3, 3, 3]
    for system, number in zip(systems, (0, 1, 2), strict=True):
        for index in range(3):
            frame = system.frame(index)
            assert frame.source == f"set.lmdb frame {number + 3 * index}"
            same(frame, frames[number + 3 * index])
            assert system.n_atoms(index) == len(frame.types)
    assert elements_in("set.lmdb", data) == ["H", "O"]


def test_types_are_matched_by_name(data, frames):
    system = open_systems("set.lmdb", ("H", "C", "O"), data)[0]
    assert np.array_equal(system.frame(0).types, np.array([2, 0])[frames[0].types])
    (tiny, *_) = open_systems("set.lmdb", ("H", "C"), data)
    with pytest.raises(InputError, match=r"set.lmdb frame 0: contains O"):
        tiny.frame(0)


def test_the_systems_it_was_made_from(tmp_path, frames):
    write_lmdb(
        tmp_path / "set.lmdb",
        [record_of(frame) for frame in frames],
        frame_system_ids=[0, 0, 0, 2, 2, 2, 2, 2, 2],
        frame_nlocs=[len(frame.types) for frame in frames],
    )
    systems = open_systems("set.lmdb", ("O", "H"), tmp_path)
    assert [(system.name, len(system)) for system in systems] == [
        ("set.lmdb system 0", 3),
        ("set.lmdb system 2", 6),
    ]
    same(systems[1].frame(4), frames[7])


def test_batches_of_all_sizes(data):
    systems = open_systems("set.lmdb", ("O", "H"), data)
    assert batch_sizes(systems, "auto:12") == [4, 3, 3]
    assert batch_sizes(systems, "max:12") == [4, 3, 2]
    order = BatchOrder(systems, [5] * 3, 0, mixed=True)
    picked = [systems[system].frame(frame) for system, frame in order.next()]
    batch = make_batch(picked, 4.0, CapacityPlanner(), np.float64)
    assert len({len(frame.types) for frame in picked}) > 1
    assert np.array_equal(batch.labels.values["energy"][:5], [frame.energy for frame in picked])


def test_deepmd_kit_reads_the_same(data):
    reader = pytest.importorskip("deepmd.dpmodel.utils.lmdb_data")
    theirs = reader.LmdbDataReader(str(data / "set.lmdb"), ["H", "O"])
    read = [theirs[k] for k in range(9)]
    theirs.close()
    for system in open_systems("set.lmdb", ("H", "O"), data):
        for index in range(len(system)):
            frame = system.frame(index)
            record = read[int(frame.source.split()[-1])]
            assert np.array_equal(frame.types, record["atype"])
            assert np.array_equal(frame.positions, record["coord"])
            assert np.array_equal(frame.forces, record["force"])
            assert np.array_equal(frame.virial.reshape(-1), record["virial"])
            assert np.array_equal(frame.atom_energies, record["atom_ener"])
            assert frame.energy == record["energy"][0]
            assert ("box" in record) == any(frame.pbc)


def test_virtual_atoms_zero_cells_and_denied_labels(tmp_path):
    frame = random_frame(4, rare=True)
    record = record_of(frame, cells=packed(np.zeros(9)), find_virial=0.0, find_force=1.0)
    record["atom_types"] = packed(np.array([1, -1, 0, -1], np.int32))
    record["energies"] = frame.energy
    write_lmdb(tmp_path / "v.lmdb", [record])
    (system,) = open_systems("v.lmdb", ("O", "H"), tmp_path)
    found, real = system.frame(0), np.array([True, False, True, False])
    assert found.pbc == (False,) * 3
    assert found.virial is None
    assert "virial" not in system.labels
    assert found.energy == frame.energy
    assert found.types.tolist() == [1, 0]
    assert np.array_equal(found.forces, frame.forces[real])
    components = np.repeat(real, 3)
    assert np.array_equal(found.hessian, frame.hessian[components][:, components])
    assert np.array_equal(found.drdq, frame.drdq[components])


@pytest.mark.parametrize(
    ("change", "words"),
    [
        (lambda r: r.pop("coords"), "has no coords"),
        (lambda r: r.pop("atom_types"), "has no atom_types"),
        (
            lambda r: r.update(forces=packed(np.zeros(7))),
            r"forces has 7 numbers, expected 4 atoms x 3",
        ),
        (lambda r: r.update(forces=packed(np.full((4, 3), np.nan))), "forces holds NaN"),
        (lambda r: r.update(forces={"type": "<f8", "shape": [9], "data": b"12"}), "forces is not an array"),
        (lambda r: r.update(energies="low"), "energy does not hold numbers|energies does not hold numbers"),
        (lambda r: r.update(atom_types=packed(np.array([0, 1, 5, 1]))), "index 5"),
        (
            lambda r: r.update(atom_types=packed(np.array([0, 1, 0.5, 1]))),
            "atom_types: expected whole numbers",
        ),
        (lambda r: r.update(atom_types=packed(np.array([0, 1]))), "has 2 atom_types, but .* 4 atoms"),
        (lambda r: r["forces"].update(type="nonsense"), "forces is not an array"),
        (lambda r: r["forces"].update(type="O"), "forces is not an array"),
        (lambda r: r["forces"].update(type="f8,,("), "forces is not an array"),
        (lambda r: r["forces"].update(shape=[2**40, 3]), "forces is not an array"),
        (lambda r: r["forces"].update(shape="long"), "forces is not an array"),
        (lambda r: r.update(forces=[[1.0], [2.0, 3.0]]), "forces is not an array"),
        (lambda r: r.update(forces=True), "forces does not hold numbers"),
    ],
)
def test_a_damaged_frame_is_refused_by_name(tmp_path, change, words):
    records = [record_of(random_frame(4)), record_of(random_frame(4, seed=1))]
    change(records[1])
    write_lmdb(tmp_path / "d.lmdb", records, frame_nlocs=[4, 4])
    (system,) = open_systems("d.lmdb", ("O", "H"), tmp_path)
    system.frame(0)
    with pytest.raises(InputError, match=rf"d.lmdb frame 1.*({words})"):
        system.frame(1)


def test_a_denial_that_is_no_number(tmp_path):
    write_lmdb(tmp_path / "d.lmdb", [record_of(random_frame(4), find_forces={"type": "<f8"})])
    with pytest.raises(InputError, match=r"d.lmdb frame 0: find_forces is not an array"):
        open_systems("d.lmdb", ("O", "H"), tmp_path)


# The file of LMDB itself


def library_file(folder, values, deleted=()):
    """What the library writes for values of given lengths, and for some that are taken out again."""
    environment = lmdb.open(str(folder), map_size=2**26)
    content = {f"{k:05d}".encode(): bytes([k % 251]) * length for k, length in enumerate(values)}
    with environment.begin(write=True) as transaction:
        for key, value in content.items():
            transaction.put(key, value)
    with environment.begin(write=True) as transaction:
        for k in deleted:
            key = f"{k:05d}".encode()
            if transaction.delete(key):
                del content[key]
    environment.close()
    return content


@hypothesis.given(
    st.lists(st.sampled_from([0, 1, 30, 1000, 2000, 2100, 4080, 9000]), max_size=300),
    st.lists(st.integers(0, 300), max_size=40),
)
def test_values_are_those_that_the_library_wrote(tmp_path_factory, values, deleted):
    folder = tmp_path_factory.mktemp("pages")
    content = library_file(folder, values, deleted)
    pages = LmdbPages(folder / "data.mdb")
    assert pages.entries == len(content)
    for key in [*content, *(f"{k:05d}".encode() for k in deleted), b"", b"0", b"00000 ", b"9" * 400]:
        assert pages.get(key) == content.get(key)


def test_a_deep_tree(tmp_path):
    content = library_file(tmp_path, [60] * 20_000)
    pages = LmdbPages(tmp_path / "data.mdb")
    assert all(pages.get(key) == value for key, value in content.items())


@pytest.mark.parametrize("length", [0, 10, 100, 4096, 5000, 8192, 9000, 12_000, -4096, -1])
def test_a_file_that_is_cut_short_is_refused(tmp_path, frames, length):
    write_lmdb(tmp_path / "c.lmdb", [record_of(frame) for frame in frames])
    path = tmp_path / "c.lmdb/data.mdb"
    path.write_bytes(path.read_bytes()[:length])
    with pytest.raises(InputError, match=r"c.lmdb is not a whole LMDB data set \(.*\); write it again"):
        [s.frame(index) for s in open_systems("c.lmdb", ("O", "H"), tmp_path) for index in range(len(s))]


def test_a_file_that_is_cut_short_while_it_is_open(data):
    systems = open_systems("set.lmdb", ("O", "H"), data)
    os.truncate(data / "set.lmdb/data.mdb", 8192)
    with pytest.raises(InputError, match="not a whole LMDB data set"):
        systems[0].frame(0)


def changed(raw, place, form, number):
    return raw[:place] + struct.pack(form, number) + raw[place + struct.calcsize(form) :]


def test_pages_that_lead_in_a_circle(tmp_path):
    library_file(tmp_path, [60] * 5000)
    raw = (tmp_path / "data.mdb").read_bytes()
    described = max((0, 4096), key=lambda start: struct.unpack_from("<Q", raw, start + 144))
    (root,) = struct.unpack_from("<Q", raw, described + 128)
    (stop,) = struct.unpack_from("<H", raw, root * 4096 + 12)
    for node in struct.unpack_from(f"<{(stop - 16) // 2}H", raw, root * 4096 + 16):
        raw = changed(raw, root * 4096 + node, "<I", root)
    (tmp_path / "data.mdb").write_bytes(raw)
    with pytest.raises(DamagedError, match="too deep or circular"):
        LmdbPages(tmp_path / "data.mdb").get(b"00001")


@pytest.mark.parametrize(
    ("records", "metadata", "words"),
    [
        ([b"\xc1 is no msgpack"], {}, "the record 000000000000 is damaged"),
        ([], {"nframes": 0}, "holds no frames"),
        ([record_of(random_frame())], {"nframes": 3}, "nframes is 3, but it has 2 records"),
        ([record_of(random_frame())], {"nframes": 2}, "has no frame 1 of 2"),
        ([record_of(random_frame())], {"nframes": None}, "nframes .* expected the number of frames"),
        ([record_of(random_frame())], {"nframes": True}, "nframes .* expected the number of frames"),
        ([record_of(random_frame())], {"nframes": 1.0}, "nframes .* expected the number of frames"),
        ([record_of(random_frame())], {"nframes": "1"}, "nframes .* expected the number of frames"),
        ([record_of(random_frame())], {"nframes": -1}, "holds no frames"),
        ([record_of(random_frame())], {"nframes": 2**63 - 1}, "expected the number of frames"),
        ([record_of(random_frame())], {"frame_idx_fmt": "99999999999d"}, "frame_idx_fmt .* such as 012d"),
        ([record_of(random_frame())], {"frame_idx_fmt": "s"}, "frame_idx_fmt .* such as 012d"),
        ([record_of(random_frame())], {"frame_idx_fmt": 12}, "frame_idx_fmt .* such as 012d"),
        ([record_of(random_frame())], {"type_map": True}, "type_map .* list of different element names"),
        ([record_of(random_frame())], {"type_map": "OH"}, "type_map .* list of different element names"),
        ([record_of(random_frame())], {"type_map": ["O", 1]}, "type_map .* list of different element names"),
        (
            [record_of(random_frame())],
            {"type_map": ["O", "O"]},
            "type_map .* list of different element names",
        ),
        ([record_of(random_frame())], {"type_map": {"O": 1}}, "type_map .* list of different element names"),
        (
            [record_of(random_frame())],
            {"frame_nlocs": [1, 2]},
            r"frame_nlocs has the shape \[2\], nframes is 1",
        ),
        ([record_of(random_frame())], {"frame_nlocs": 5}, r"frame_nlocs has the shape \[\], nframes is 1"),
        ([record_of(random_frame())], {"frame_nlocs": [[5], []]}, "frame_nlocs is not an array"),
        ([record_of(random_frame())], {"frame_nlocs": "5"}, "frame_nlocs does not hold numbers"),
        ([record_of(random_frame())], {"frame_nlocs": [5.5]}, "frame_nlocs: expected whole numbers, got 5.5"),
        ([record_of(random_frame())], {"frame_nlocs": [None]}, "frame_nlocs does not hold numbers"),
        ([record_of(random_frame())], {"frame_system_ids": [2**64 - 1]}, "frame_system_ids: expected whole"),
    ],
)
def test_a_wrong_data_set_is_refused_when_it_is_opened(tmp_path, records, metadata, words):
    write_lmdb(tmp_path / "w.lmdb", records, **metadata)
    with pytest.raises(InputError, match=words):
        open_systems("w.lmdb", ("O", "H"), tmp_path)


def test_a_file_that_is_not_lmdb(tmp_path):
    (tmp_path / "w.lmdb").mkdir()
    (tmp_path / "w.lmdb/data.mdb").write_bytes(b"nothing of the kind" * 1000)
    with pytest.raises(InputError, match="not a whole LMDB data set"):
        open_systems("w.lmdb", ("O", "H"), tmp_path)


def test_without_the_extra_it_says_what_to_install(data, monkeypatch):
    monkeypatch.setitem(sys.modules, "msgpack", None)
    with pytest.raises(InputError, match=r"package msgpack.*pip install 'dpax\[lmdb\]'"):
        open_systems("set.lmdb", ("O", "H"), data)


def test_a_rare_label_that_comes_late_is_not_dropped(tmp_path, monkeypatch):
    """Only some frames are asked for their labels, and these decide what batches have room for."""
    monkeypatch.setattr("dpax.data.lmdb_file._PROBED", 2)
    records = [record_of(random_frame(3, seed=k, rare=k == 1)) for k in range(3)]
    write_lmdb(tmp_path / "set.lmdb", records)
    (system,) = open_systems("set.lmdb", ("O", "H"), tmp_path)
    assert system.frame(0).drdq is None
    with pytest.raises(InputError, match=r"frame 1: has \w+, which none of the 2 frames"):
        system.frame(1)
