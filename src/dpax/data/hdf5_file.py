"""Systems in HDF5 files: groups for folders, datasets for files, and the names of DeePMD-kit's npy layout."""

import threading
from pathlib import Path
from typing import Any
from weakref import WeakValueDictionary

import h5py
import numpy as np

from dpax.data.rows import Rows
from dpax.errors import InputError

SUFFIXES = (".h5", ".hdf5")
SEPARATOR = "#"
"""Between the file and the group in a path: `file.h5#/group`."""
_OPEN: WeakValueDictionary[tuple[Path, int], h5py.File] = WeakValueDictionary()
_OPENING = threading.Lock()


class Hdf5Rows(Rows):
    """A dataset whose first axis counts frames; one row is read at a time."""

    def __init__(self, file: Path, name: str):
        path = f"{file}{SEPARATOR}{name}"
        # Held both: the file stays open, and to find a dataset by its name takes longer than to read it.
        self._file = open_file(file)
        self._dataset: Any = self._file[name]
        dataset = self._dataset
        if dataset.ndim == 0 or dataset.dtype.kind not in "fiu":
            raise InputError(
                f"{path} does not hold an array of numbers with one row per frame; write it again"
            )
        super().__init__(path, dataset.shape)

    def _row(self, frame: int) -> np.ndarray:
        return self._rows(frame, frame + 1).reshape(-1)

    def _rows(self, start: int, stop: int) -> np.ndarray:
        step = self.width if self.flat else 1
        try:
            return self._dataset[start * step : stop * step].reshape(stop - start, self.width)
        except OSError as error:
            raise InputError(
                f"{self.path} cannot be read: it is damaged ({error}); write it again"
            ) from error


class Hdf5Group:
    """A folder of a system in an HDF5 file.

    Args:
        file: the HDF5 file.
        group: the name of the group, from the root of the file.
    """

    def __init__(self, file: Path, group: str):
        self.path = file
        self._file = open_file(file)
        self._name = "/" + group.strip("/")
        self.name = self._name.rpartition("/")[2]
        self.where = f"{file}{SEPARATOR}{self._name}"

    def _item(self, name: str) -> Any:
        return self._file.get(f"{self._name.rstrip('/')}/{name}")

    def has(self, file: str) -> bool:
        """Whether there is a dataset of this name."""
        return isinstance(self._item(file), h5py.Dataset)

    def words(self, file: str) -> list[str]:
        """The words in a dataset of strings or integers.

        Raises:
            InputError: it is missing.
        """
        item = self._item(file)
        if not isinstance(item, h5py.Dataset):
            raise InputError(f"{self.where}/{file} cannot be read: no such dataset")
        values = np.atleast_1d(item[()]).reshape(-1).tolist()
        return [value.decode() if isinstance(value, bytes) else str(value) for value in values]

    def arrays(self) -> list[str]:
        """The names of all datasets of arrays, without .npy."""
        group: Any = self._file[self._name]
        return [name.removesuffix(".npy") for name in group if name.endswith(".npy")]

    def sets(self) -> list["Hdf5Group"]:
        """The groups `set.*` in it, sorted."""
        group: Any = self._file[self._name]
        names = sorted(name for name in group if name.startswith("set."))
        return [
            Hdf5Group(self.path, f"{self._name}/{name}")
            for name in names
            if isinstance(self._item(name), h5py.Group)
        ]

    def rows(self, *stems: str) -> Hdf5Rows | None:
        """The first of the datasets `STEM.npy` that exists.

        Raises:
            InputError: it does not hold numbers.
        """
        found = next((f"{stem}.npy" for stem in stems if self.has(f"{stem}.npy")), None)
        return None if found is None else Hdf5Rows(self.path, f"{self._name.rstrip('/')}/{found}")


def find_groups(file: Path, group: str) -> list[str]:
    """The groups that hold `type.raw`, from one group downwards, sorted.

    Raises:
        InputError: the file is not a whole HDF5 file.
    """
    opened = open_file(file)
    root = opened.get(group or "/")
    if not isinstance(root, h5py.Group):
        return []
    found = ["" if "type.raw" in root else None]
    root.visit(lambda name: found.append(name.rpartition("/")[0]) if name.endswith("/type.raw") else None)
    start = str(root.name).rstrip("/")
    return sorted(f"{start}/{name}".rstrip("/") or "/" for name in found if name is not None)


def open_file(path: Path) -> h5py.File:
    """An HDF5 file, the same one for all that hold it; a file that was written anew is another one.

    Raises:
        InputError: it is not a whole HDF5 file.
    """
    try:
        key = (path.absolute(), path.stat().st_mtime_ns)
        with _OPENING:
            found = _OPEN.get(key)
            if found is None:
                found = _OPEN[key] = h5py.File(path, "r")
            return found
    except OSError as error:
        raise InputError(
            f"{path} is not a whole HDF5 file: it is damaged or cut short ({error}); write it again"
        ) from error
