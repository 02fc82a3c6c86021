"""Data in DeePMD-kit's layouts: folders of npy files, HDF5, LMDB."""

import io
from collections.abc import Callable
from pathlib import Path
from random import Random
from typing import Any

import h5py
import lmdb
import msgpack
import numpy as np

from dpax.data import elements_in, open_systems

from ..mutations import damaged_bytes, damaged_text
from ..target import Target

TYPES = np.array([0, 1, 1])
NAMES = ["O", "H"]
FRAMES = 4


def arrays(seed: int) -> dict[str, np.ndarray]:
    """A set of frames by the names of DeePMD-kit's files."""
    random, n = np.random.default_rng(seed), len(TYPES)
    return {
        "coord": random.uniform(0, 9, (FRAMES, 3 * n)),
        "box": np.tile(np.diag([9.0, 10.0, 11.0]).reshape(1, 9), (FRAMES, 1)),
        "energy": random.normal(-10, 1, FRAMES),
        "force": random.normal(size=(FRAMES, 3 * n)),
        "virial": random.normal(size=(FRAMES, 9)).astype(">f4"),
        "atom_pref": np.asfortranarray(random.uniform(size=(FRAMES, n))),
        "fparam": random.normal(size=(FRAMES, 2)).astype(np.float32),
        "numb_copy": np.array([1, 2, 0, 1]),
        "real_atom_types": np.array([TYPES, TYPES, [1, 0, -1], TYPES]),
    }


def read(path: Path) -> None:
    """Open the systems of a path and read every frame."""
    elements_in(str(path))
    for system in open_systems(str(path), NAMES):
        for index in range(len(system)):
            system.frame(index)
            system.n_atoms(index)


# Folders


def _make_folders(folder: Path) -> None:
    for name, left_out in (("plain", ("real_atom_types", "numb_copy")), ("mixed", ())):
        system = folder / name
        (system / "set.000").mkdir(parents=True)
        (system / "type.raw").write_text("\n".join(map(str, TYPES)) + "\n")
        (system / "type_map.raw").write_text("\n".join(NAMES) + "\n")
        for stem, array in arrays(seed=1).items():
            if stem not in left_out:
                np.save(system / f"set.000/{stem}.npy", array)


def _damage_folder(random: Random, name: str, content: bytes) -> bytes:
    """Texts as texts; of npy files the header as a text, with its length made right, or the bytes."""
    if name.endswith(".raw"):
        return damaged_text(random, content)
    if random.random() < 0.5:
        return damaged_bytes(random, content)
    length = int.from_bytes(content[8:10], "little")
    header = damaged_text(random, content[10 : 10 + length])[: 2**16 - 1]
    return content[:8] + len(header).to_bytes(2, "little") + header + content[10 + length :]


# HDF5


def _make_hdf5(folder: Path) -> None:
    for name, options in (("plain", {}), ("packed", {"compression": "gzip", "chunks": True})):
        with h5py.File(folder / f"{name}.h5", "w") as file:
            for group in ("a", "b/c"):
                file[f"{group}/type.raw"] = TYPES
                file[f"{group}/type_map.raw"] = np.array(
                    NAMES, "S" if name == "plain" else h5py.string_dtype()
                )
                for stem, array in arrays(seed=2).items():
                    file.create_dataset(f"{group}/set.000/{stem}.npy", data=array, **options)


def _damage_hdf5(random: Random, name: str, content: bytes) -> bytes:
    return damaged_bytes(random, content)


def _rewritten_hdf5(random: Random, name: str, content: bytes) -> bytes:
    """A whole file in which a dataset is replaced by another kind of thing."""
    file = io.BytesIO(content)
    with h5py.File(file, "r+") as opened:
        names: list[str] = []
        opened.visit(names.append)
        chosen = random.choice(names)
        parent = opened[chosen].parent
        other = random.choice(names)
        stem = chosen.rpartition("/")[2]
        del opened[chosen]
        random.choice(_REPLACEMENTS)(parent, stem, other)
    return file.getvalue()


def _huge(group: h5py.Group, name: str, other: str, **options: Any) -> None:
    group.create_dataset(name, (FRAMES, 2**40), "f8", chunks=(1, 2**10), **options)


_REPLACEMENTS: tuple[Callable[[Any, str, str], object], ...] = (
    lambda group, name, other: None,
    lambda group, name, other: group.create_group(name),
    _huge,
    lambda group, name, other: _huge(group, name, other, compression="gzip", fillvalue=1.0),
    lambda group, name, other: group.create_dataset(name, (2**40, 9), "f4", chunks=(2**10, 9)),
    lambda group, name, other: group.create_dataset(name, (FRAMES, 2**25), "f8", chunks=(2, 2**25)),
    lambda group, name, other: group.create_dataset(
        name, data=np.zeros((FRAMES, 2**17)), compression="gzip", chunks=(FRAMES, 2**17)
    ),
    lambda group, name, other: group.create_dataset(name, data=h5py.Empty("f8")),
    lambda group, name, other: group.create_dataset(name, data=np.float64(1)),
    lambda group, name, other: group.create_dataset(name, data=["a", "b"]),
    lambda group, name, other: group.create_dataset(name, data=b"\xff\xfe"),
    lambda group, name, other: group.create_dataset(name, data=np.zeros(FRAMES, "c16")),
    lambda group, name, other: group.create_dataset(name, data=np.zeros(FRAMES, [("x", "f8")])),
    lambda group, name, other: group.create_dataset(name, data=np.zeros(FRAMES, bool)),
    lambda group, name, other: group.create_dataset(name, data=np.zeros((0, 9))),
    lambda group, name, other: group.create_dataset(name, data=np.full(FRAMES, 2**64 - 1, "u8")),
    lambda group, name, other: group.create_dataset(name, data=np.full((FRAMES, 9), np.nan, "f2")),
    lambda group, name, other: group.create_dataset(
        name, data=np.arange(FRAMES * 9.0).reshape(FRAMES, 9) / 2
    ),
    lambda group, name, other: group.create_dataset(name, (FRAMES, 9), h5py.vlen_dtype(np.dtype("f8"))),
    lambda group, name, other: group.__setitem__(name, h5py.SoftLink(f"/{other}")),
    lambda group, name, other: group.__setitem__(name, h5py.SoftLink(f"{group.name}/{name}")),
    lambda group, name, other: group.__setitem__(name, h5py.ExternalLink("other.h5", "/a")),
    lambda group, name, other: group.__setitem__(name, group),
)


# LMDB


def _packed(value: Any) -> dict[str, Any]:
    array = np.asarray(value)
    return {"type": str(array.dtype), "shape": list(array.shape), "data": array.tobytes()}


def _make_lmdb(folder: Path) -> None:
    for name, padding in (("small", 0), ("large", 700)):
        environment = lmdb.open(str(folder / f"{name}.lmdb"), map_size=2**24)
        values = arrays(seed=3)
        with environment.begin(write=True) as transaction:
            for frame in range(FRAMES):
                record = {
                    "atom_types": _packed(TYPES),
                    "coords": _packed(values["coord"][frame]),
                    "cells": _packed(values["box"][frame]),
                    "energies": _packed(values["energy"][frame]),
                    "forces": _packed(values["force"][frame]),
                    "find_virial": 0.0,
                    "fparam": _packed(np.ones(2 + padding)),
                }
                transaction.put(b"%012d" % frame, msgpack.packb(record, use_bin_type=True))
            facts = {"nframes": FRAMES, "frame_idx_fmt": "012d", "type_map": NAMES}
            if not padding:
                facts |= {"frame_nlocs": [len(TYPES)] * FRAMES, "frame_system_ids": [0, 0, 1, 1]}
            transaction.put(b"__metadata__", msgpack.packb(facts, use_bin_type=True))
        environment.close()


def _damage_lmdb(random: Random, name: str, content: bytes) -> bytes:
    return content if name.endswith("lock.mdb") else damaged_bytes(random, content)


_STRANGE = (
    *(None, True, False, 0, 1, -1, 2**40, 2**63 - 1, 2**64 - 1, 0.5, 1e300, float("nan")),
    *("", "O", "012d", "<f8", "O8", "9999999f8", b"", b"\x00" * 24, [], [1], [[1], [2, 3]], {}),
    *(
        [2**40, 3],
        [-1],
        [0],
        [0.5],
        ["H", "H"],
        [None],
        {"type": "<f8"},
        {1: 2},
        {"data": b"12345678", "type": "f8"},
    ),
    *("9" * 5000, [0] * 5000, msgpack.Timestamp(1), msgpack.ExtType(1, b"x")),
)


def _rewritten_lmdb(random: Random, name: str, content: bytes) -> bytes:
    """A record with one of its parts replaced, in the place of the old one, so that the pages stay whole."""
    starts = [place for place in range(len(content)) if content[place] in (0x83, 0x85, 0x86, 0x87)]
    for place in random.sample(starts, len(starts)):
        unpacker = msgpack.Unpacker(raw=False, strict_map_key=False)
        unpacker.feed(content[place : place + 2**14])
        try:
            record = unpacker.unpack()
        except Exception:
            continue
        length = unpacker.tell()
        if isinstance(record, dict) and {"nframes", "atom_types"} & record.keys():
            changed = msgpack.packb(_replaced(random, record), use_bin_type=True)
            if len(changed) <= length:
                return content[:place] + changed.ljust(length, b"\xc0") + content[place + length :]
    return content


def _replaced(random: Random, value: Any) -> Any:
    """The same with one of the things in it replaced."""
    if isinstance(value, dict) and value and random.random() < 0.8:
        key = random.choice(list(value))
        if random.random() < 0.1:
            return {k: item for k, item in value.items() if k != key}
        return value | {key: _replaced(random, value[key])}
    if isinstance(value, list) and value and random.random() < 0.5:
        place = random.randrange(len(value))
        return [*value[:place], _replaced(random, value[place]), *value[place + 1 :]]
    return random.choice(_STRANGE)


TARGETS = [
    Target("npy", _make_folders, read, _damage_folder),
    Target("hdf5", _make_hdf5, read, _damage_hdf5),
    Target("hdf5-content", _make_hdf5, read, _rewritten_hdf5),
    Target("lmdb", _make_lmdb, read, _damage_lmdb),
    Target("lmdb-content", _make_lmdb, read, _rewritten_lmdb),
]
