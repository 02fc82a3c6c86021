"""The files of a simulation: trajectory and log. Each can be cut back to what it held at a checkpoint."""

import os
from collections.abc import Callable, Sequence
from contextlib import suppress
from pathlib import Path
from typing import IO, Protocol

import ase
import numpy as np
from ase.calculators.singlepoint import SinglePointCalculator
from ase.io.extxyz import write_extxyz
from ase.io.trajectory import TrajectoryReader, TrajectoryWriter

from dpax.errors import InputError, brief
from dpax.files import replacing, writing


class Trajectory(Protocol):
    """A file of frames."""

    def write(self, atoms: ase.Atoms) -> None:
        """Append a frame with the results of its calculator."""
        ...

    def mark(self) -> int:
        """Bring all frames to the disk; a number that identifies the present state of the file."""
        ...

    def close(self) -> None:
        """Close the file."""
        ...


def open_trajectory(path: Path, mark: int | None) -> Trajectory:
    """Begin a trajectory, or go on with one.

    Args:
        path: the file; its suffix selects the format.
        mark: go on behind what the file held when it was marked; None: a new file.

    Raises:
        InputError: the file is not what it was.
    """
    return FORMATS[path.suffix](path, mark)


class TextFile:
    """Lines that are appended, and cut back to a number of bytes."""

    def __init__(self, path: Path, mark: int | None):
        self.path = path
        if mark is None:
            with writing(path):
                self.file: IO[str] = path.open("w", encoding="utf-8")
            return
        size = path.stat().st_size if path.is_file() else 0
        if size < mark:
            raise InputError(
                f"{path}: is shorter ({size} bytes) than when the checkpoint was written ({mark} bytes); "
                "put the file back, or start a new simulation"
            )
        with writing(path):
            os.truncate(path, mark)
            self.file = path.open("a", encoding="utf-8")

    def mark(self) -> int:
        """Bring all lines to the disk; the number of bytes."""
        with writing(self.path):
            self.file.flush()
            os.fsync(self.file.fileno())
        return os.fstat(self.file.fileno()).st_size

    def close(self) -> None:
        """Close the file."""
        with suppress(OSError):  # every line was flushed: a full disk has been complained about already
            self.file.close()


class XyzTrajectory(TextFile):
    """Extended XYZ."""

    def write(self, atoms: ase.Atoms) -> None:
        """Append a frame with the results of its calculator."""
        with writing(self.path):
            write_extxyz(self.file, [atoms])
            self.file.flush()


class AseTrajectory:
    """ASE's own format, which cannot be cut back: the frames up to the mark are copied."""

    def __init__(self, path: Path, mark: int | None):
        self._path = path
        self._frames = 0 if mark is None else mark
        if mark is not None:
            _keep_frames(path, mark)
        with writing(path):
            self._writer = TrajectoryWriter(path, "w" if mark is None else "a")

    def write(self, atoms: ase.Atoms) -> None:
        """Append a frame with the results of its calculator."""
        with writing(self._path):
            self._writer.write(atoms)
        self._frames += 1

    def mark(self) -> int:
        """The number of frames; ASE has flushed each."""
        return self._frames

    def close(self) -> None:
        """Close the file."""
        with suppress(OSError):
            self._writer.close()


def _keep_frames(path: Path, count: int) -> None:
    if not path.is_file():
        raise InputError(f"{path}: cannot be read; put the file back, or start a new simulation")
    try:
        with (
            replacing(path) as temporary,
            TrajectoryReader(path) as reader,
            TrajectoryWriter(temporary) as writer,
        ):
            if len(reader) < count:
                raise InputError(
                    f"{path}: has {len(reader)} frames, fewer than at the time of the checkpoint ({count}); "
                    "put the file back, or start a new simulation"
                )
            for number in range(count):
                writer.write(reader[number])
    except InputError:
        raise
    except Exception as error:  # ASE raises many kinds for a damaged file
        raise InputError(
            f"{path}: cannot be read as a trajectory ({brief(error)}); put the file back, or start the "
            "new simulation"
        ) from None


FORMATS: dict[str, Callable[[Path, int | None], Trajectory]] = {
    ".xyz": XyzTrajectory,
    ".extxyz": XyzTrajectory,
    ".traj": AseTrajectory,
}
"""The formats of trajectories by the ending of the file."""


class ThermoLog(TextFile):
    """One line for each logged step: columns that NumPy's `loadtxt` reads.

    Args:
        path: the file.
        mark: as for `open_trajectory`.
        columns: names with their units.
    """

    def __init__(self, path: Path, mark: int | None, columns: Sequence[str]):
        super().__init__(path, mark)
        if mark is None:
            self._append("#" + " ".join(f"{name:>19}" for name in columns))

    def write(self, step: int, values: Sequence[float]) -> None:
        """Append a line."""
        self._append(f" {step:19d} " + " ".join(f"{value:19.10f}" for value in values))

    def _append(self, line: str) -> None:
        with writing(self.path):
            self.file.write(f"{line}\n")
            self.file.flush()


def snapshot(atoms: ase.Atoms, step: int, time: float) -> ase.Atoms:
    """The atoms as a frame of a trajectory: with energy, forces and, in a cell, stress.

    Args:
        atoms: with a calculator that knows their energy.
        step: noted in the frame.
        time: fs, noted in the frame.
    """
    frame = atoms.copy()
    frame.info |= {"step": step, "time": time}
    results = {"energy": atoms.get_potential_energy(), "forces": atoms.get_forces(apply_constraint=False)}
    if atoms.pbc.all():
        results["stress"] = np.array(atoms.get_stress(apply_constraint=False))
    frame.calc = SinglePointCalculator(frame, **results)
    return frame
