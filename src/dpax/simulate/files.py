"""The files that a simulation writes."""

from dataclasses import dataclass
from pathlib import Path

from dpax.errors import InputError
from dpax.files import check_output
from dpax.simulate.beginning import is_beginning
from dpax.simulate.output import FORMATS


@dataclass(frozen=True)
class MDFiles:
    """The files of a simulation, all named after its trajectory."""

    trajectory: Path

    @property
    def lock(self) -> Path:
        """What other processes are kept out by; trajectories in all formats share it, as they do the rest."""
        return self.trajectory.with_name(f".{self.trajectory.stem}.lock")

    @property
    def log(self) -> Path:
        """Temperature, energies and so on, a line for each logged step."""
        return self.trajectory.with_suffix(".log")

    @property
    def checkpoint(self) -> Path:
        """The file that `--restart` continues from."""
        return self.trajectory.with_suffix(".checkpoint")

    @property
    def paths(self) -> tuple[Path, ...]:
        """All of them."""
        return self.trajectory, self.log, self.checkpoint, self.lock

    def check_place(self) -> None:
        """See whether a simulation may be written here.

        Raises:
            InputError: another ending, or no such folder.
        """
        if self.trajectory.suffix not in FORMATS:
            raise InputError(f"{self.trajectory}: a trajectory's name ends in {', '.join(FORMATS)}")
        check_output(self.trajectory, overwrite=True)

    def check_new(self) -> None:
        """Check that nothing would be replaced.

        Raises:
            InputError: files that are there.
        """
        there = [path for path in (self.trajectory, self.log, self.checkpoint) if path.exists()]
        if there:
            restart = "go on with --restart, " if self.checkpoint.exists() or self.begun else ""
            raise InputError(
                f"{there[0]} is there already: {restart}replace it with --overwrite, or give another --output"
            )

    @property
    def begun(self) -> bool:
        """Whether trajectory and log are those of a simulation that ended before its first checkpoint."""
        return is_beginning(self.trajectory, self.log)
