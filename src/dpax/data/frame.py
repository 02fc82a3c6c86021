"""One structure with its labels, and what a source of them looks like."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple, Protocol

import numpy as np

from dpax.errors import InputError
from dpax.geometry.cell import complete_cell

LABELS = (
    "energy",
    "forces",
    "virial",
    "atom_energies",
    "atom_pref",
    "atom_ener_coeff",
    "drdq",
    "hessian",
)
"""The labels a frame may carry."""
HEAVIEST = 118
"""The largest atomic number of an element."""
INPUTS = ("fparam", "aparam")
"""What a frame may tell the model beside the structure."""


@dataclass(frozen=True, eq=False)
class Frame:
    """One structure with whatever labels it has; checked when it is made.

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
    energy: float | None = None
    """eV."""
    forces: np.ndarray | None = None
    """float64 [atoms, 3], eV/Å."""
    virial: np.ndarray | None = None
    """float64 [3, 3], eV; W = -dE/d(strain) = -stress·volume in ASE's sign of stress."""
    atom_energies: np.ndarray | None = None
    """float64 [atoms], eV."""
    atom_pref: np.ndarray | None = None
    """float64 [atoms], the weight of each atom's forces in the loss."""
    atom_ener_coeff: np.ndarray | None = None
    """float64 [atoms], c of the energy Σ c_i E_i that `energy` stands for."""
    drdq: np.ndarray | None = None
    """float64 [3·atoms, generalized coordinates], dr/dq."""
    hessian: np.ndarray | None = None
    """float64 [3·atoms, 3·atoms], d²E/dr², eV/Å²."""
    fparam: np.ndarray | None = None
    """float64 [inputs], parameters of the frame (an electronic temperature, say), in any unit."""
    aparam: np.ndarray | None = None
    """float64 [atoms, inputs], parameters of each atom, in any unit."""

    def __post_init__(self) -> None:
        n_atoms = len(self.types)
        if n_atoms == 0:
            raise InputError(f"{self.source}: the frame has no atoms; remove it")
        types = np.asarray(self.types)
        if types.ndim != 1 or types.min() < 0:
            raise InputError(f"{self.source}: types must be a row of indices >= 0 into the type_map")
        object.__setattr__(self, "types", types.astype(np.int32, copy=False))
        object.__setattr__(self, "pbc", tuple(bool(p) for p in self.pbc))
        self._check("positions", (n_atoms, 3))
        self._check("cell", (3, 3))
        self._check("forces", (n_atoms, 3))
        self._check("virial", (3, 3))
        for name in ("atom_energies", "atom_pref", "atom_ener_coeff"):
            self._check(name, (n_atoms,))
        self._check("drdq", (3 * n_atoms, None))
        self._check("hessian", (3 * n_atoms, 3 * n_atoms))
        self._check("fparam", (None,))
        self._check("aparam", (n_atoms, None))
        self._check_energy()
        if self.cell is None and not any(self.pbc):
            return
        try:
            complete_cell(self.cell, self.pbc)
        except InputError as error:
            raise InputError(f"{self.source}: {error}") from None

    def _check(self, name: str, shape: tuple[int | None, ...]) -> None:
        """See that a field is finite and of a shape, in which None stands for any length but 0."""
        value = getattr(self, name)
        if value is None:
            return
        array = np.asarray(value, dtype=np.float64)
        fits = [got == want if want else got > 0 for got, want in zip(array.shape, shape, strict=False)]
        if array.ndim != len(shape) or not all(fits):
            wanted = ", ".join("any" if want is None else str(want) for want in shape)
            raise InputError(
                f"{self.source}: {name} has the shape {list(array.shape)}, expected [{wanted}] "
                f"for {len(self.types)} atoms"
            )
        if not np.isfinite(array).all():
            row = int(np.argwhere(~np.isfinite(array))[0][0])
            raise InputError(
                f"{self.source}: {name} holds NaN or infinite numbers, first in row {row} (counted from 0); "
                "correct or remove the frame"
            )
        object.__setattr__(self, name, array)

    def _check_energy(self) -> None:
        if self.energy is None:
            return
        energy = float(self.energy)
        if not np.isfinite(energy):
            raise InputError(f"{self.source}: the energy is {energy}; correct or remove the frame")
        object.__setattr__(self, "energy", energy)


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
    """See that atomic numbers are those of elements; 0 stands for no element.

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
