"""What a system in DeePMD-kit's layout is made of: named arrays with one row per frame, read on demand."""

from abc import ABC, abstractmethod
from collections.abc import Sequence
from pathlib import Path
from typing import Protocol

import numpy as np

from dpax.errors import InputError

_PIECE = 4096


class Rows(ABC):
    """Numbers whose first axis counts frames.

    Args:
        path: for messages.
        shape: of the array; one without a second axis may also be a single frame (see `as_single`).
    """

    def __init__(self, path: Path | str, shape: Sequence[int]):
        self.path = path
        self.frames = shape[0]
        self.width = int(np.prod(shape[1:]))
        self.flat = len(shape) == 1

    @abstractmethod
    def _row(self, frame: int) -> np.ndarray:
        """One row, flat, as it is stored."""

    @abstractmethod
    def _rows(self, start: int, stop: int) -> np.ndarray:
        """Several rows as they are stored."""

    def as_single(self) -> None:
        """Take an array of one axis for the numbers of a single frame."""
        self.frames, self.width = 1, self.frames * self.width

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
        """One row, flat, as int64.

        Raises:
            InputError: a number that is not whole.
        """
        return whole_numbers(self._row(frame), self.path)

    def column(self) -> np.ndarray:
        """The one integer of each frame, int64 [frames].

        Raises:
            InputError: a number that is not whole.
        """
        return whole_numbers(self._rows(0, self.frames), self.path).reshape(self.frames)

    def values(self) -> np.ndarray:
        """The distinct integers in the whole array, sorted; reads it in pieces.

        Raises:
            InputError: a number that is not whole.
        """
        positions = np.empty(0, np.int64)
        for start in range(0, self.frames if self.width else 0, _PIECE):
            stop = min(start + _PIECE, self.frames)
            positions = np.union1d(positions, whole_numbers(self._rows(start, stop), self.path))
        return positions


def whole_numbers(numbers: np.ndarray, source: object) -> np.ndarray:
    """Numbers of any type as int64.

    Args:
        numbers: any shape.
        source: where they come from, for the message.

    Raises:
        InputError: one has a fraction, is NaN or infinite, or does not fit 64 bits.
    """
    numbers = np.asarray(numbers)
    with np.errstate(invalid="ignore"):
        whole = numbers.astype(np.int64)
    wrong = whole != numbers
    if wrong.any():
        raise InputError(f"{source}: expected whole numbers, got {numbers[wrong][0]}; write it again")
    return whole


class Folder(Protocol):
    """A folder of a system, on disk or in an HDF5 file."""

    name: str
    """Its own name, without those of the folders around it."""
    where: str
    """The whole path, for messages."""

    def has(self, file: str) -> bool:
        """Whether there is a file of this name."""
        ...

    def words(self, file: str) -> list[str]:
        """The words in a text file.

        Raises:
            InputError: it is missing or cannot be read.
        """
        ...

    def arrays(self) -> Sequence[str]:
        """The names of all files of arrays, without .npy."""
        ...

    def sets(self) -> Sequence["Folder"]:
        """The folders `set.*` in it, sorted."""
        ...

    def rows(self, *stems: str) -> Rows | None:
        """The array in the first of the files `STEM.npy` that exists.

        Raises:
            InputError: it is damaged, or does not hold numbers.
        """
        ...
