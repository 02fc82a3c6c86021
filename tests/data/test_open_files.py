"""Threads that open a data file at the same time get the same open file."""

import threading
import time
from concurrent.futures import ThreadPoolExecutor

import h5py
import pytest

from dpax.data import hdf5_file, lmdb_file


def opened_at_once(open_file, path, n=6) -> list:
    start = threading.Barrier(n)

    def run(_):
        start.wait()
        return open_file(path)

    with ThreadPoolExecutor(n) as threads:
        return list(threads.map(run, range(n)))


def slowed(function):
    return lambda *args, **kwargs: (time.sleep(0.02), function(*args, **kwargs))[1]


def test_hdf5(tmp_path, monkeypatch):
    path = tmp_path / "data.h5"
    h5py.File(path, "w").close()
    monkeypatch.setattr(hdf5_file.h5py, "File", slowed(h5py.File))
    files = opened_at_once(hdf5_file.open_file, path)
    assert all(file is files[0] for file in files)


def test_lmdb(tmp_path, monkeypatch):
    """LMDB itself does not bear a file that is opened twice in a process."""
    pytest.importorskip("lmdb")
    from .builders import random_frame
    from .test_lmdb import record_of, write_lmdb

    write_lmdb(tmp_path / "set.lmdb", [record_of(random_frame(3, seed=1))])
    monkeypatch.setattr(lmdb_file, "LmdbFile", slowed(lmdb_file.LmdbFile))
    files = opened_at_once(lmdb_file._open, tmp_path / "set.lmdb")
    assert all(file is files[0] for file in files)
