"""The record of a run's data: every change of what is read is seen, and nothing else."""

import os
import shutil
from pathlib import Path

import ase.io
import h5py
import numpy as np
import pytest
from ase import Atoms
from ase.calculators.singlepoint import SinglePointCalculator

from data.builders import write_hdf5
from dpax.data import open_systems
from dpax.data.deepmd_system import ARRAYS
from dpax.data.npy_file import NpyFolder
from dpax.errors import InputError, MachineError
from dpax.train import data_record
from dpax.train.data_record import Sections, check_sizes, compare, describe, digests, read

from .support import write_toy

NAMES = ["a", "b"]


def write_xyz(path: Path, energy: float) -> None:
    frames = []
    for number in range(3):
        atoms = Atoms("OH", positions=[[0, 0, 0], [0, 0, 1 + 0.1 * number]])
        atoms.calc = SinglePointCalculator(atoms, energy=energy + number, forces=np.zeros((2, 3)))
        frames.append(atoms)
    ase.io.write(path, frames)


@pytest.fixture
def base(tmp_path) -> Path:
    for seed, name in enumerate(NAMES):
        write_toy(tmp_path / name, seed=seed)
    return tmp_path


def record(base: Path, systems=NAMES) -> Sections:
    return describe({"training_data": open_systems(systems, ("O", "H"), base), "validation_data": []})


def recorded(base: Path, systems=NAMES) -> Sections:
    """As a run has it in its folder when it ends."""
    sections, path = record(base, systems), base / "data.json"
    with digests(sections, path):
        pass
    found = read(path)
    assert found is not None
    return found


def changes(before: Sections, base: Path, systems=NAMES) -> list[str]:
    return compare(before["training_data"], record(base, systems)["training_data"])


def forbid_reading(monkeypatch) -> None:
    def fail(*_):
        raise AssertionError("a file was read that has not changed")

    monkeypatch.setattr(data_record, "_digest", fail)


def rewrite(path: Path) -> None:
    """The same contents at another time, in another place on the disk."""
    content = path.read_bytes()
    path.unlink()
    path.write_bytes(content)
    os.utime(path, ns=(1, 1))


def test_what_has_not_changed_is_not_read(base, monkeypatch):
    before = recorded(base)
    forbid_reading(monkeypatch)
    assert changes(before, base) == []


def test_touched_copied_and_moved_data_are_the_same(base, tmp_path_factory):
    before = recorded(base)
    for path in base.rglob("*.npy"):
        rewrite(path)
    assert changes(before, base) == []
    moved = tmp_path_factory.mktemp("moved")
    for name in NAMES:
        shutil.copytree(base / name, moved / "deeper" / name.upper())
    assert changes(before, moved, ["deeper/A", "deeper/B"]) == []


@pytest.mark.parametrize("name", ["energy", "force", "virial", "coord", "box"])
def test_any_array_that_changes_in_place_is_named(base, name):
    before, path = recorded(base), base / "b" / "set.000" / f"{name}.npy"
    array = np.load(path)
    array.flat[-1] = np.nextafter(array.flat[-1], 100)
    np.save(path, array)
    assert changes(before, base) == [f"b has changed (set.000/{name}.npy)"]


def test_a_change_that_keeps_the_times_is_seen(base):
    """`touch -r` sets the time of the contents back, but not that of the entry."""
    before, path = recorded(base), base / "a" / "set.000" / "energy.npy"
    facts = path.stat()
    np.save(path, np.load(path) + 100)
    os.utime(path, ns=(facts.st_atime_ns, facts.st_mtime_ns))
    assert changes(before, base) == ["a has changed (set.000/energy.npy)"]


def test_systems_that_were_exchanged_are_named(base):
    before = recorded(base)
    (base / "a").rename(base / "c")
    (base / "b").rename(base / "a")
    (base / "c").rename(base / "b")
    assert changes(before, base) == ["a has taken the place of b", "b has taken the place of a"]
    assert changes(before, base, ["b", "a"]) == []


def test_files_that_come_and_go(base):
    before, folder = recorded(base), base / "a" / "set.000"
    np.save(folder / "numb_copy.npy", np.full(6, 2))
    (folder / "virial.npy").unlink()
    (base / "b" / "type_map.raw").write_text("H\nO\n")
    np.save(folder / "dipole.npy", np.zeros(6))  # which nothing reads
    (base / "a" / "notes.txt").write_text("mine")
    found = changes(before, base)
    assert found == [
        "a has changed (set.000/numb_copy.npy, set.000/virial.npy)",
        "b has changed (type_map.raw)",
    ]


def test_frames_and_systems_that_come_and_go(base):
    before, folder = recorded(base), base / "a" / "set.000"
    for path in folder.iterdir():
        np.save(path, np.concatenate([np.load(path), np.load(path)[:1]]))
    assert changes(before, base) == ["a had 6 frames and now has 7"]
    now = record(base)["training_data"]
    with pytest.raises(InputError, match="a had 6 frames and now has 7; a run continues with the frames"):
        check_sizes(before["training_data"], now)
    with pytest.raises(InputError, match="started with 2 systems, and there are now 1"):
        check_sizes(before["training_data"], now[:1])


def test_files_of_all_kinds(base):
    write_xyz(base / "x.xyz", -1.0)
    write_hdf5(base / "h.h5", {"one": base / "a", "two": base / "b"})
    systems = ["x.xyz", "h.h5"]
    before = recorded(base, systems)
    rewrite(base / "x.xyz")
    rewrite(base / "h.h5")
    assert changes(before, base, systems) == []
    write_xyz(base / "x.xyz", -2.0)
    assert changes(before, base, systems) == ["x.xyz has changed"]
    with h5py.File(base / "h.h5", "r+") as file:
        file["two/set.000/energy.npy"][0] += 1
    assert any(text.startswith("h.h5#/two has changed") for text in changes(before, base, systems))


def test_a_data_set_in_lmdb(base):
    lmdb, msgpack = pytest.importorskip("lmdb"), pytest.importorskip("msgpack")

    def write(energy: float) -> None:
        shutil.rmtree(base / "l.lmdb", ignore_errors=True)
        environment = lmdb.open(str(base / "l.lmdb"), map_size=2**20)
        one = {"coords": [0.0, 0, 0, 0, 0, 1], "atom_types": [0, 1], "energies": [energy]}
        with environment.begin(write=True) as transaction:
            transaction.put(b"000000000000", msgpack.packb(one))
            transaction.put(b"__metadata__", msgpack.packb({"nframes": 1, "type_map": ["O", "H"]}))
        environment.close()

    write(-1.0)
    before = recorded(base, ["l.lmdb"])
    rewrite(base / "l.lmdb" / "data.mdb")
    assert changes(before, base, ["l.lmdb"]) == []
    write(-2.0)
    (changed,) = changes(before, base, ["l.lmdb"])
    assert "l.lmdb" in changed
    assert "has changed" in changed


def test_a_disk_that_gets_full_is_not_told_by_the_thread(base, monkeypatch):
    """The training itself says so."""
    sections, written, raised = record(base), [], []

    def write(*_):
        written.append(1)
        if len(written) > 1:
            raise MachineError("data.json cannot be written: the disk is full")

    monkeypatch.setattr(data_record, "write", write)
    monkeypatch.setattr("threading.excepthook", lambda told: raised.append(told.exc_value))
    with digests(sections, base / "data.json"):
        pass
    assert len(written) == 2
    assert raised == []


def test_a_file_that_was_not_read_before_it_was_touched(base):
    """The training was killed before the digests were made: sizes and times are all that is known."""
    data_record.write(record(base), base / "data.json")
    before = read(base / "data.json")
    assert before is not None
    assert changes(before, base) == []
    rewrite(base / "a" / "set.000" / "energy.npy")
    assert changes(before, base) == [
        "a has changed (set.000/energy.npy; some were modified before dpax had recorded their contents)"
    ]


@pytest.mark.parametrize("content", ["", "{", "[]", "{}", '{"training_data": [1]}', "null", "[" * 9000])
def test_a_damaged_record_is_not_a_missing_one(tmp_path, content):
    assert read(tmp_path / "data.json") is None
    (tmp_path / "data.json").write_text(content)
    with pytest.raises(InputError, match=r"data\.json: the record of the run's data cannot be read"):
        read(tmp_path / "data.json")


def test_every_array_that_is_read_is_in_the_record(base, monkeypatch):
    """Whatever the reader of systems asks for, by any of its spellings."""
    asked, real = set(), NpyFolder.rows

    def rows(folder: NpyFolder, *stems: str):
        asked.update(f"{stem}.npy" for stem in stems)
        return real(folder, *stems)

    monkeypatch.setattr(NpyFolder, "rows", rows)
    record(base)
    assert asked == ARRAYS
