"""A look at HDF5's global heaps, in which strings of variable length lie, before HDF5 reads them.

HDF5 2.0 goes through a heap from entry to entry by their sizes. Where damage has left an entry of free space
without a size, it goes round for ever, and no exception or signal handler of Python gets it out of there.
Source: HDF5 File Format Specification, III.E (Global Heap), with offsets and lengths of 8 bytes.
"""

from pathlib import Path
from typing import IO, Any

import numpy as np

from dpax.errors import InputError

_REFERENCE = np.dtype([("length", "<u4"), ("heap", "<u8"), ("entry", "<u4")])
"""What a dataset of strings holds in place of each."""
_HEAP = np.dtype([("signature", "S4"), ("version", "<u4"), ("size", "<u8")])
_ENTRY = np.dtype([("number", "<u2"), ("references", "<u2"), ("reserved", "<u4"), ("size", "<u8")])
"""Comes before the content of an entry; number 0 is free space, whose size includes these bytes."""


def check_heaps(file: Path, dataset: Any, path: str) -> None:
    """Check that every entry of the heaps that hold a dataset's strings leads on to the next.

    Args:
        file: the HDF5 file.
        dataset: of strings, whose length may vary.
        path: of the dataset, for messages.

    Raises:
        InputError: one leads nowhere.
    """
    start = dataset.id.get_offset()
    if start is None or dataset.dtype.kind != "O":
        return
    with file.open("rb") as content:
        references = _read(content, start, _REFERENCE, dataset.size)
        for heap in np.unique(references["heap"]):
            _check(content, int(heap), path)


def _check(content: IO[bytes], start: int, path: str) -> None:
    head = _read(content, start, _HEAP)
    if not len(head) or head["signature"][0] != b"GCOL":
        return  # HDF5 says so
    place, end = start + _HEAP.itemsize, start + int(head["size"][0])
    while place + _ENTRY.itemsize <= end:
        entry = _read(content, place, _ENTRY)
        if not len(entry):
            return
        size = int(entry["size"][0])
        step = size if entry["number"][0] == 0 else _ENTRY.itemsize + -(-size // 8) * 8
        if step < _ENTRY.itemsize or place + step > end:
            raise InputError(
                f"{path}: this is not a whole HDF5 file, it is damaged (its strings cannot be found); "
                "write it again"
            )
        place += step


def _read(content: IO[bytes], start: int, kind: np.dtype, count: int = 1) -> np.ndarray:
    """So many records from a place in a file, or those that it has."""
    if start >= 2**63:
        return np.empty(0, kind)
    content.seek(start)
    data = content.read(count * kind.itemsize)
    return np.frombuffer(data, kind, len(data) // kind.itemsize)
