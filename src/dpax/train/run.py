"""The folder of a run: which files lie in it, and what may be done to one that is there."""

import os
import shutil
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path

from dpax.data import System
from dpax.errors import InputError
from dpax.files import is_temporary, write_json, writing
from dpax.lock import locked
from dpax.model.settings import ModelSettings
from dpax.train import file_names
from dpax.train.restart import differences
from dpax.train.settings import InputSettings, read_settings


@dataclass(frozen=True)
class RunFolder:
    """The files of a run."""

    path: Path

    @property
    def input(self) -> Path:
        """The settings as resolved."""
        return self.path / file_names.INPUT

    @property
    def log(self) -> Path:
        """The learning curve as JSON lines."""
        return self.path / file_names.LOG

    @property
    def checkpoints(self) -> Path:
        """The folder of checkpoints."""
        return self.path / file_names.CHECKPOINTS

    @property
    def statistics(self) -> Path:
        """Cached statistics of the training data."""
        return self.path / file_names.STATISTICS

    @property
    def data(self) -> Path:
        """What the data were when the run was last started."""
        return self.path / file_names.DATA

    @property
    def profile(self) -> Path:
        """The folder of a trace of JAX's profiler."""
        return self.path / file_names.PROFILE

    @property
    def model(self) -> Path:
        """The model after the last step."""
        return self.path / "model.dpax"

    @property
    def averaged_model(self) -> Path:
        """The same with the moving average of the weights."""
        return self.path / "model_ema.dpax"

    @contextmanager
    def locked(self) -> Iterator[None]:
        """Keep other processes from writing here; a folder that is made for it and stays empty is removed.

        Raises:
            InputError: a run is written here, in another process or another thread; or the folder cannot be
                made.
        """
        try:
            str(self.path.absolute()).encode()
        except UnicodeEncodeError:
            raise InputError(f"{self.path}: checkpoints need a name in UTF-8; give another -o") from None
        places = (self.path, *self.path.absolute().parents)
        place = next(path for path in places if path.exists())
        if not place.is_dir():
            raise InputError(f"{place} is a file; give a folder for the run with -o")
        if not os.access(place, os.W_OK):
            raise InputError(f"{place}: nothing may be written here; give another folder with -o")
        made = [path for path in places if not path.exists()]
        self.path.mkdir(parents=True, exist_ok=True)
        advice = "wait until it has ended, or stop it; another run needs another -o"
        try:
            with locked(self.path / file_names.LOCK, f"the run {self.path}", advice):
                yield
        finally:
            with suppress(OSError):
                for path in made:
                    path.rmdir()

    def check_new(self, overwrite: bool) -> None:
        """See whether a new run may be put here; nothing is changed.

        Raises:
            InputError: the folder holds a run already, or other files, and `overwrite` is not given.
        """
        files = [path for path in self.path.iterdir() if not is_temporary(path)]
        if overwrite or all(path.name == file_names.LOCK for path in files):
            return
        if self.input.exists():
            raise InputError(
                f"{self.path} already holds a run: continue it with --restart, replace it with "
                "--overwrite, or give another -o"
            )
        raise InputError(
            f"{self.path} is not empty and holds no run: give another -o, or --overwrite to use it anyway"
        )

    def owns(self, path: Path) -> bool:
        """Whether a path is the run's folder, or one of the files in it that a new run would remove."""
        folder, file = self.path.resolve(), path.resolve()
        if not file.is_relative_to(folder):
            return False
        return file == folder or file_names.is_reserved(file.relative_to(folder).parts[0])

    def check_data(self, system: System) -> None:
        """Check that data are not where the run writes its own files.

        Raises:
            InputError: they are, and would be replaced.
        """
        if self.owns(system.path) and system.path.resolve() != self.path.resolve():
            raise InputError(
                f"{system.name} has the name of a file that the run writes into {self.path}; move the data, "
                "or give another -o"
            )

    def check_shared(self, key: str, path: Path, settings: InputSettings) -> None:
        """Check that a file which may lie anywhere is none of the run's own.

        Args:
            key: of the settings, which names the file.
            path: of the file.
            settings: of the run.

        Raises:
            InputError: it is one.
        """
        logs = [self.path / name for name in settings.named_files.values()]
        if self.owns(path) or path.resolve() in [log.resolve() for log in logs]:
            raise InputError(f"{key}: {path} is one of the run's own files; choose another name")

    def prepare_new(self, *logs: str) -> None:
        """Make room for a new run: the files of a run that is there are removed.

        Args:
            logs: names of the files that the run will write its errors to.
        """
        files = [self.input, self.log, self.data, self.checkpoints, self.profile]
        files += [self.model, self.averaged_model]
        files += [self.path / name for name in logs]
        files += [*self.path.glob("best*.dpax")]
        with writing(self.path):
            for file in files:
                shutil.rmtree(file) if file.is_dir() else file.unlink(missing_ok=True)

    def write_settings(self, settings: InputSettings) -> None:
        """Write the resolved settings."""
        write_json(self.input, settings.resolved())

    def read_settings(self) -> InputSettings:
        """The settings that the run was started with.

        Raises:
            InputError: the folder holds no run.
        """
        if not self.input.is_file():
            raise InputError(f"{self.path}: no run here ({self.input.name} is missing)")
        return read_settings(self.input)

    def check_model(self, before: ModelSettings, now: ModelSettings) -> None:
        """Check that a run continues with its model. Raises: InputError: the

        model sections differ; the message says how.
        """
        changes = differences({"model": before.resolved()}, {"model": now.resolved()})
        if changes:
            raise InputError(
                f"{self.input}: the run was started with another model section: "
                f"{', '.join(map(str, changes))}. "
                "A restart must keep the model: undo the change, or start a new run in another folder"
            )
