"""Rows of a .npy file, one per frame, read on demand."""

from pathlib import Path

import numpy as np

from dpax.errors import InputError


class NpyFile:
    """A .npy file whose first axis counts frames.

    Only the header is read when it is opened, and one row at each read. The file is not kept open or
    mapped in between: both hold a file descriptor, and a data set may have thousands of systems.

    Raises:
        InputError: the file is damaged or cut short, or does not hold numbers.
    """

    def __init__(self, path: Path):
        self.path = path
        try:
            rows = np.load(path, mmap_mode="r", allow_pickle=False)
        except (OSError, ValueError, EOFError) as error:
            raise InputError(
                f"{path} is not a whole .npy file of numbers: it is damaged or cut short ({error}); "
                "write it again"
            ) from error
        if not isinstance(rows, np.memmap) or rows.ndim == 0 or rows.dtype.kind not in "fiu":
            raise InputError(
                f"{path} does not hold an array of numbers with one row per frame; write it again"
            )
        self.frames = rows.shape[0]
        self.width = int(np.prod(rows.shape[1:]))
        self._dtype, self._offset, self._shape = rows.dtype, rows.offset, rows.shape
        self._fortran = rows.flags.f_contiguous and not rows.flags.c_contiguous

    def _map(self) -> np.ndarray:
        order = "F" if self._fortran else "C"
        return np.memmap(self.path, self._dtype, "r", self._offset, self._shape, order)

    def _row(self, frame: int) -> np.ndarray:
        if self._fortran:
            return np.array(self._map()[frame]).reshape(-1)
        start = self._offset + frame * self.width * self._dtype.itemsize
        row = np.fromfile(self.path, self._dtype, count=self.width, offset=start)
        if len(row) < self.width:
            raise InputError(f"{self.path} became shorter while it was in use; restore it and start again")
        return row

    def expect(self, frames: int, width: int, meaning: str) -> None:
        """Check the shape against that of the other files.

        Args:
            frames: of coord.npy.
            width: numbers in a frame; where it is negative any multiple of its size.
            meaning: of the width, for the message.

        Raises:
            InputError: another number of frames, or of numbers in a frame.
        """
        if self.width != width and (width > 0 or self.width == 0 or self.width % -width):
            wanted = f"{width} numbers" if width > 0 else "numbers"
            raise InputError(f"{self.path}: expected {wanted} per frame ({meaning}), got {self.width}")
        if self.frames != frames:
            raise InputError(
                f"{self.path}: holds {self.frames} frames, but coord.npy beside it holds {frames}; "
                "write the set again so that all its files agree"
            )

    def floats(self, frame: int) -> np.ndarray:
        """One row, flat, as float64.

        Raises:
            InputError: NaN or infinite numbers.
        """
        row = self._row(frame).astype(np.float64)
        if not np.isfinite(row).all():
            raise InputError(
                f"{self.path}: frame {frame} (counted from 0) holds NaN or infinite numbers; "
                "correct or remove the frame"
            )
        return row

    def integers(self, frame: int) -> np.ndarray:
        """One row, flat, as int64."""
        return self._row(frame).astype(np.int64)

    def values(self) -> np.ndarray:
        """The distinct integers in the whole file, sorted; reads it in pieces."""
        found = np.empty(0, np.int64)
        rows = self._map() if self.frames and self.width else np.empty((0, 1))
        for start in range(0, self.frames, 4096):
            found = np.union1d(found, np.asarray(rows[start : start + 4096]).astype(np.int64))
        return found
