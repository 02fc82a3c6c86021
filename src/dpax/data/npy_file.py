"""Folders of .npy files, of which one row is read at a time."""

import os
from functools import cached_property
from pathlib import Path

import numpy as np

from dpax.data.rows import Rows
from dpax.errors import InputError, brief

LONGEST_TEXT = 2**24
"""Bytes of a text file: the types of some millions of atoms, and no frame has as many."""


class NpyFile(Rows):
    """A .npy file whose first axis counts frames.

    Only the header is read when it is opened, and one row at each read. The file is not kept open or
    mapped in between: both hold a file descriptor, and a data set may have thousands of systems.

    Raises:
        InputError: the file is damaged or cut short, or does not hold numbers.
    """

    def __init__(self, path: Path):
        try:
            # Mapped, not read: what the header promises is then compared with the size of the file.
            rows = np.load(path, mmap_mode="r", allow_pickle=False)
        except Exception as error:  # a header is an expression of Python, and may fail as one
            raise InputError(
                f"{path} is not a whole .npy file of numbers: it is damaged or cut short "
                f"({brief(error)}); write it again"
            ) from error
        if not isinstance(rows, np.memmap) or rows.ndim == 0 or rows.dtype.kind not in "fiu":
            raise InputError(
                f"{path} does not hold an array of numbers with one row per frame; write it again"
            )
        super().__init__(path, rows.shape)
        self._file = path
        self._dtype, self._offset, self._shape = rows.dtype, rows.offset, rows.shape
        self._fortran = rows.flags.f_contiguous and not rows.flags.c_contiguous

    def _map(self) -> np.ndarray:
        order = "F" if self._fortran else "C"
        try:
            return np.memmap(self._file, self._dtype, "r", self._offset, self._shape, order)
        except (OSError, ValueError) as error:
            raise self._changed() from error

    def _row(self, frame: int) -> np.ndarray:
        if self._fortran:
            return np.array(self._map()[frame]).reshape(-1)
        start = self._offset + frame * self.width * self._dtype.itemsize
        try:
            row = np.fromfile(self._file, self._dtype, count=self.width, offset=start)
        except OSError as error:
            raise self._changed() from error
        if len(row) < self.width:
            raise self._changed()
        return row

    def _changed(self) -> InputError:
        return InputError(
            f"{self.path} vanished or became shorter while it was in use; restore it and start again"
        )

    def _rows(self, start: int, stop: int) -> np.ndarray:
        if self.width * self.frames == 0:
            return np.empty((0, self.width))
        rows = self._map()
        return (rows.reshape(self.frames, self.width) if self.flat else rows)[start:stop]


class NpyFolder:
    """A folder of a system on disk."""

    def __init__(self, path: Path):
        self.path = path
        self.name, self.where = path.name, str(path)

    @cached_property
    def _names(self) -> frozenset[str]:
        """What is in the folder: quicker than to ask for each file."""
        try:
            return frozenset(os.listdir(self.path))
        except (FileNotFoundError, NotADirectoryError):
            return frozenset()
        except OSError as error:
            raise InputError(f"{self.path} cannot be read: {error.strerror}") from error

    def has(self, file: str) -> bool:
        """Whether there is a file of this name."""
        return file in self._names

    def words(self, file: str) -> list[str]:
        """The words in a text file.

        Raises:
            InputError: it is missing or cannot be read.
        """
        path = self.path / file
        try:
            size = path.stat().st_size
            if size > LONGEST_TEXT:
                raise InputError(
                    f"{path} has {size / 1e6:.0f} MB, which is too much for one word per atom; write it again"
                )
            # An editor may have put a byte order mark in front.
            return path.read_text(encoding="utf-8-sig").split()
        except UnicodeDecodeError as error:
            raise InputError(f"{path} cannot be read: it is not text in UTF-8; save it as UTF-8") from error
        except OSError as error:
            raise InputError(f"{path} cannot be read: {error.strerror}") from error

    def arrays(self) -> list[str]:
        """The names of all files of arrays, without .npy."""
        return [name.removesuffix(".npy") for name in self._names if name.endswith(".npy")]

    def sets(self) -> list["NpyFolder"]:
        """The folders `set.*` in it, sorted."""
        paths = [self.path / name for name in sorted(self._names) if name.startswith("set.")]
        return [NpyFolder(path) for path in paths if path.is_dir()]

    def rows(self, *stems: str) -> NpyFile | None:
        """The array in the first of the files `STEM.npy` that exists.

        Raises:
            InputError: it is damaged, or does not hold numbers.
        """
        names = (f"{stem}.npy" for stem in stems)
        return next((NpyFile(self.path / name) for name in names if name in self._names), None)
