"""One structure with its labels, and what a source of them looks like."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple, Protocol

import numpy as np

from dpax.data.quantities import CELL, POSITIONS, QUANTITIES, Quantities, Quantity
from dpax.errors import InputError
from dpax.geometry.cell import complete_cell

HEAVIEST = 118
"""The largest atomic number of an element."""


@dataclass(frozen=True, eq=False)
class Frame(Quantities):
    """One structure with its labels, checked when it is made.

    Raises:
        InputError: wrong shapes, NaN or infinite numbers, a periodic cell without volume, no atoms;
            the message begins with `source`.
    """

    positions: np.ndarray
    """float64 [atoms, 3], Å."""
    types: np.ndarray
    """int32 [atoms], index into the model's type_map; virtual atoms (-1) are removed by the readers."""
    cell: np.ndarray | None
    """float64 [3, 3], rows are lattice vectors, Å; None where nothing is periodic."""
    pbc: tuple[bool, bool, bool]
    """Periodicity along each lattice vector."""
    source: str
    """Where the frame comes from, for messages: "water/data_0/set.000 frame 12"."""

    def __post_init__(self) -> None:
        n_atoms = len(self.types)
        if n_atoms == 0:
            raise InputError(f"{self.source}: the frame has no atoms; remove it")
        types = np.asarray(self.types)
        if types.ndim != 1 or types.min() < 0:
            raise InputError(f"{self.source}: types must be a row of indices >= 0 into the type_map")
        object.__setattr__(self, "types", types.astype(np.int32, copy=False))
        object.__setattr__(self, "pbc", tuple(bool(p) for p in self.pbc))
        for quantity in (POSITIONS, CELL, *QUANTITIES.values()):
            self._check(quantity)
        if self.cell is None and not any(self.pbc):
            return
        try:
            complete_cell(self.cell, self.pbc)
        except InputError as error:
            raise InputError(f"{self.source}: {error}") from None

    def _check(self, quantity: Quantity) -> None:
        """Check that what the frame has of a quantity is finite and of the right shape."""
        name, value = quantity.name, getattr(self, quantity.name)
        if value is None:
            return
        array, shape = np.asarray(value, dtype=np.float64), quantity.sized(len(self.types))
        fits = [n == m or (m == -1 and n > 0) for n, m in zip(array.shape, shape, strict=False)]
        if array.ndim != len(shape) or not all(fits):
            wanted = ", ".join("any" if n == -1 else str(n) for n in shape)
            raise InputError(
                f"{self.source}: {name} has the shape {list(array.shape)}, expected [{wanted}] "
                f"for {len(self.types)} atoms"
            )
        finite = np.isfinite(array)
        if not finite.all():
            if array.ndim == 0:
                raise InputError(f"{self.source}: the {name} is {array}; correct or remove the frame")
            raise InputError(
                f"{self.source}: {name} holds NaN or infinite numbers, first in row "
                f"{int(np.argwhere(~finite)[0][0])} (counted from 0); correct or remove the frame"
            )
        object.__setattr__(self, name, array if array.ndim else float(array))


class ParameterWidths(NamedTuple):
    """How many parameters of a frame and of its atoms the fitting net takes."""

    fparam: int = 0
    """Numbers for each frame."""
    aparam: int = 0
    """Numbers for each atom."""
    default_fparam: tuple[float, ...] | None = None
    """What frames without `fparam` count as having."""

    def of(self, frame: Frame) -> np.ndarray:
        """A frame's parameters, float64 [atoms, fparam + aparam]: those of the frame, repeated, come first.

        Raises:
            InputError: the frame lacks what the model takes, or has another number of it.
        """
        frame_wide = frame.fparam
        if frame_wide is None and self.default_fparam is not None:
            frame_wide = np.asarray(self.default_fparam, np.float64)
        n_atoms = len(frame.types)
        own = _parameters("fparam", frame_wide, self.fparam, frame.source)
        atomic = _parameters("aparam", frame.aparam, self.aparam, frame.source)
        repeated = np.tile(own, (n_atoms, 1))
        return np.concatenate([repeated, np.broadcast_to(atomic, (n_atoms, self.aparam))], axis=1)


def _parameters(name: str, value: np.ndarray | None, width: int, source: str) -> np.ndarray:
    if width == 0:
        return np.empty(0)
    each = "frame" if name == "fparam" else "atom"
    if value is None:
        raise InputError(
            f"{source}: has no {name}, of which the model takes {width} for each {each}; give it as "
            f"{name}.npy in the set, or as '{name}' in the {'info' if each == 'frame' else 'arrays'} of "
            "ASE's atoms"
        )
    if value.shape[-1] != width:
        raise InputError(
            f"{source}: has {value.shape[-1]} {name} for each {each}, but the model takes {width}; "
            "correct the data or the model's settings"
        )
    return value


class System(Protocol):
    """A source of frames: one folder or file."""

    name: str
    """The path as the user would write it."""
    path: Path
    """Where it lies."""
    type_map: tuple[str, ...]
    """The model's element names, which the types of the frames index."""
    labels: frozenset[str]
    """The labels of `LABELS` that at least one frame has."""

    copies: np.ndarray | None
    """int64 [frames], how often a pass over the data takes each frame; None: all of them once."""
    unread: dict[str, list[str]]
    """What it holds under names that are not read but look like labels, by the label that they look like."""

    def __len__(self) -> int:
        """The number of frames."""
        ...

    def n_atoms(self, index: int) -> int:
        """The atoms of a frame, or an upper bound where virtual atoms pad it; reads no file."""
        ...

    def frame(self, index: int) -> Frame:
        """Read one frame."""
        ...


def check_numbers(numbers: np.ndarray, source: str) -> None:
    """Check that atomic numbers are those of elements; 0 stands for no element.

    Raises:
        InputError: one is not, in the structure called `source`.
    """
    wrong = np.flatnonzero((numbers < 0) | (numbers > HEAVIEST))
    if len(wrong):
        raise InputError(
            f"{source}: atom {wrong[0]} (counted from 0) has the atomic number {numbers[wrong[0]]}, which no "
            "element has; correct it"
        )


def type_indices(elements: Sequence[str], type_map: Sequence[str], source: str) -> np.ndarray:
    """Translate element names into indices of the model's type_map.

    Returns:
        int32, one for each name.

    Raises:
        InputError: names that the type_map lacks; the message lists them.
    """
    index = {name: number for number, name in enumerate(type_map)}
    missing = sorted(set(elements) - set(index))
    if missing:
        names = ", ".join(missing[:10]) + ", ..." * (len(missing) > 10)
        raise InputError(
            f"{source}: contains {names}, which the model's type_map {list(type_map)} lacks; "
            "add the element to type_map or leave this structure out"
        )
    return np.array([index[name] for name in elements], dtype=np.int32)
