"""What a simulation leaves that ended before its first checkpoint: files that may be begun again."""

from pathlib import Path

from ase.io.trajectory import TrajectoryReader

_MAGIC = b"- of UlmASE-Trajectory"
"""With this begins a file in ASE's own format."""


def is_beginning(trajectory: Path, log: Path) -> bool:
    """Whether two files hold no more than the start of a simulation, which may not have come to its end.

    First both are empty, then the log has its first line, and then the trajectory its first frame.
    """
    if not (trajectory.exists() or log.exists()):
        return False
    lines, frames = _lines_of_log(log), _frames(trajectory)
    return lines is not None and frames is not None and frames <= lines


def _lines_of_log(path: Path) -> int | None:
    """Lines after the head of a log, 0 or 1; None if it has more, or is something else."""
    lines = _text(path, 3)
    if not lines:
        return 0
    head, *rest = lines
    if not (head.startswith("#") and "time[fs]" in head):
        return None
    return len(rest) if [line.split()[:1] for line in rest] in ([], [["0"]]) else None


def _frames(path: Path) -> int | None:
    """Frames of a trajectory, 0 or 1, whole or not; None if it has more, or is something else."""
    if not path.exists() or path.stat().st_size == 0:
        return 0
    return _frames_of_ase(path) if path.suffix == ".traj" else _frames_of_xyz(path)


def _frames_of_xyz(path: Path) -> int | None:
    count, *rest = _text(path, 2)
    if not count.strip().isdecimal() or (rest and rest[0].endswith("\n") and " step=0 " not in rest[0]):
        return None
    return 1 if len(_text(path, int(count) + 3)) <= int(count) + 2 else None


def _frames_of_ase(path: Path) -> int | None:
    with path.open("rb") as file:
        if not _MAGIC.startswith(file.read(len(_MAGIC))):
            return None
    try:
        with TrajectoryReader(path) as reader:
            return len(reader) if len(reader) <= 1 else None
    except Exception:  # ASE raises many kinds for a file that is cut short
        return 1


def _text(path: Path, count: int) -> list[str]:
    """The first lines of a file; none if it is missing, and one that is no line of ours if it is not text."""
    if not path.exists():
        return []
    try:
        with path.open(encoding="utf-8") as file:
            return [line for line, _ in zip(file, range(count), strict=False)]
    except UnicodeDecodeError:
        return ["?"]
