"""Systems in HDF5 files: groups for folders, datasets for files, and the names of DeePMD-kit's npy layout."""

import math
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from functools import cached_property
from pathlib import Path
from typing import Any
from weakref import WeakValueDictionary

import h5py
import numpy as np
from h5py import h5l, h5o  # pyright: ignore[reportAttributeAccessIssue]

from dpax.data.hdf5_heap import check_heaps
from dpax.data.npy_file import LONGEST_TEXT
from dpax.data.rows import Rows
from dpax.errors import InputError, brief

SUFFIXES = (".h5", ".hdf5")
SEPARATOR = "#"
"""Between the file and the group in a path: `file.h5#/group`."""
_ALWAYS_FINE = 2**20
"""Bytes of a dataset whose size need not be compared with what is stored."""
_MOST_COMPRESSED = 5000
"""Bytes that one stored byte may stand for; zlib reaches a thousand where all numbers are the same."""
_MOST_AT_ONCE = 2**28
"""Bytes of a frame, or of a chunk."""
_OPEN: WeakValueDictionary[tuple[Path, int], h5py.File] = WeakValueDictionary()
_OPENING = threading.Lock()


class Hdf5Rows(Rows):
    """A dataset whose first axis counts frames; one row is read at a time.

    Args:
        file: is held as well, so that it stays open.
        dataset: is held, because to find it by its name takes longer than to read it.
        path: for messages.

    Raises:
        InputError: it does not hold numbers, or more of them than the file can hold.
    """

    def __init__(self, file: h5py.File, dataset: Any, path: str):
        self._file, self._dataset = file, dataset
        with _reading(path):
            shape, kind = dataset.shape, dataset.dtype.kind
            if not shape or kind not in "fiu":
                raise InputError(
                    f"{path} does not hold an array of numbers with one row per frame; write it again"
                )
            _check_size(dataset, path)
        super().__init__(path, shape)

    def _row(self, frame: int) -> np.ndarray:
        return self._rows(frame, frame + 1).reshape(-1)

    def _rows(self, start: int, stop: int) -> np.ndarray:
        step = self.width if self.flat else 1
        try:
            return self._dataset[start * step : stop * step].reshape(stop - start, self.width)
        except MemoryError:
            raise
        except Exception as error:
            raise _damaged(self.path, error) from error


class Hdf5Group:
    """A folder of a system in an HDF5 file.

    Args:
        file: the HDF5 file.
        group: the name of the group, from the root of the file.

    Raises:
        InputError: it is not a whole HDF5 file; so for all that is asked of it.
    """

    def __init__(self, file: Path, group: str):
        self.path = file
        self._file = open_file(file)
        self._name = "/" + group.strip("/")
        self.name = self._name.rpartition("/")[2]
        self.where = f"{file}{SEPARATOR}{self._name}"
        with _reading(self.where):
            self._number = _number(self._file)

    @cached_property
    def _names(self) -> frozenset[str]:
        """What is in the group: to ask HDF5 for a name that is not there takes as long as for one that is."""
        with _reading(self.where):
            group: Any = self._file.get(self._name)
            names = frozenset(group if isinstance(group, h5py.Group) else ())
            if any(isinstance(name, bytes) for name in names):  # as h5py gives what is not UTF-8
                raise InputError(f"{self.where} holds names that are not UTF-8; write it again")
            return names

    def _item(self, name: str) -> Any:
        if name not in self._names:
            return None
        path = f"{self.where}/{name}"
        with _reading(path):
            item: Any = self._file.get(f"{self._name.rstrip('/')}/{name}")
            if item is not None and _number(item) != self._number:
                raise _link(path)
            return item

    def has(self, file: str) -> bool:
        """Whether there is a dataset of this name."""
        return isinstance(self._item(file), h5py.Dataset)

    def words(self, file: str) -> list[str]:
        """The words in a dataset of strings or integers.

        Raises:
            InputError: it is missing, or too large.
        """
        item, path = self._item(file), f"{self.where}/{file}"
        if not isinstance(item, h5py.Dataset):
            raise InputError(f"{path} cannot be read: no such dataset")
        with _reading(path):
            _check_size(item, path, LONGEST_TEXT)
            check_heaps(self.path, item, path)
            values = np.atleast_1d(item[()]).reshape(-1).tolist()
            return [_word(value) for value in values]

    def arrays(self) -> list[str]:
        """The names of all datasets of arrays, without .npy."""
        return [name.removesuffix(".npy") for name in self._names if name.endswith(".npy")]

    def sets(self) -> list["Hdf5Group"]:
        """The groups `set.*` in it, sorted."""
        names = sorted(name for name in self._names if name.startswith("set."))
        return [
            Hdf5Group(self.path, f"{self._name}/{name}")
            for name in names
            if isinstance(self._item(name), h5py.Group)
        ]

    def rows(self, *stems: str) -> Hdf5Rows | None:
        """The first of the datasets `STEM.npy` that exists.

        Raises:
            InputError: it does not hold numbers, or more of them than the file can hold.
        """
        for name in (f"{stem}.npy" for stem in stems):
            dataset = self._item(name)
            if isinstance(dataset, h5py.Dataset):
                return Hdf5Rows(self._file, dataset, f"{self.where.rstrip('/')}/{name}")
        return None


def find_groups(file: Path, group: str) -> list[str]:
    """The groups that hold `type.raw`, from one group downwards, sorted.

    Raises:
        InputError: the file is not a whole HDF5 file, or has a link into another file.
    """
    opened = open_file(file)
    with _reading(file):
        root = opened.get(group or "/")
        if not isinstance(root, h5py.Group):
            return []
        start, groups = str(root.name).rstrip("/"), [""] if "type.raw" in root else []

        def note(name: bytes, link: Any) -> str | None:
            """What is returned ends the visit."""
            if link.type == h5l.TYPE_EXTERNAL:
                return name.decode()
            if name.endswith(b"/type.raw"):
                groups.append(name.decode().rpartition("/")[0])
            return None

        # Not `root.visititems_links`, which makes an object of every link.
        elsewhere = root.id.links.visit(note, info=True)
        if elsewhere is not None:
            raise _link(f"{file}{SEPARATOR}{start}/{elsewhere}")
    return sorted(f"{start}/{name}".rstrip("/") or "/" for name in groups)


def open_file(path: Path) -> h5py.File:
    """An HDF5 file, the same one for all that hold it; a file that has been rewritten is another one.

    Raises:
        InputError: it is not a whole HDF5 file.
    """
    try:
        key = (path.absolute(), path.stat().st_mtime_ns)
    except OSError as error:
        raise InputError(f"{path} cannot be read: {error.strerror}") from error
    with _reading(path), _OPENING:
        file = _OPEN.get(key)
        if file is None:
            file = _OPEN[key] = h5py.File(path, "r")
        return file


@contextmanager
def _reading(path: Path | str) -> Iterator[None]:
    """Damage is an `InputError`, whatever HDF5 and h5py raise."""
    try:
        yield
    except (InputError, MemoryError):
        raise
    except Exception as error:
        raise _damaged(path, error) from error


def _number(item: Any) -> int:
    """HDF5's number of the file that an object lies in."""
    return h5o.get_info(item.id).fileno


def _link(path: str) -> InputError:
    """A restart, which compares files, would not see that the other file has changed."""
    return InputError(f"{path} is a link into another file; copy the data into this one")


def _damaged(path: Path | str, error: Exception) -> InputError:
    return InputError(
        f"{path}: this is not a whole HDF5 file, it is damaged or cut short ({brief(error)}); write it again"
    )


def _check_size(dataset: Any, path: str, most: int | None = None) -> None:
    """Compare what a dataset says to hold with what is stored, before memory is taken for it.

    Where chunks are missing, HDF5 fills in a number and calls that content; where they are compressed, a
    few bytes may stand for many, but not for any number.
    """
    shape, size = dataset.shape, dataset.dtype.itemsize
    row, whole, stored = math.prod(shape[1:]) * size, math.prod(shape) * size, dataset.id.get_storage_size()
    if whole > _ALWAYS_FINE and whole > _MOST_COMPRESSED * stored:
        raise InputError(
            f"{path} says that it holds {whole} bytes, of which {stored} are in the file; write it again"
        )
    storage = dataset.id.get_create_plist()  # not `dataset.chunks`, which keeps it
    chunk = storage.get_chunk() if storage.get_layout() == h5py.h5d.CHUNKED else ()
    at_once = max(row, math.prod(chunk) * size)
    if at_once > _MOST_AT_ONCE or (most is not None and whole > most):
        raise InputError(
            f"{path} would take {max(at_once, whole) / 1e6:.0f} MB at once; write it in smaller pieces"
        )


def _word(value: Any) -> str:
    return value.decode("utf-8-sig") if isinstance(value, bytes) else str(value).removeprefix("\ufeff")
