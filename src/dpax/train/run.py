"""The folder of a run: which files lie in it, and what may be done to one that is there."""

import json
import os
import shutil
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from dpax.errors import InputError
from dpax.train.settings import InputSettings, read_settings


@dataclass(frozen=True)
class RunFolder:
    """The files of a run."""

    path: Path

    @property
    def input(self) -> Path:
        """The settings as resolved."""
        return self.path / "input.json"

    @property
    def log(self) -> Path:
        """The learning curve as JSON lines."""
        return self.path / "log.jsonl"

    @property
    def checkpoints(self) -> Path:
        """The folder of checkpoints."""
        return self.path / "checkpoints"

    @property
    def statistics(self) -> Path:
        """Cached statistics of the training data."""
        return self.path / "statistics.json"

    @property
    def model(self) -> Path:
        """The model after the last step."""
        return self.path / "model.dpax"

    @property
    def best(self) -> Path:
        """The model with the smallest error on validation data."""
        return self.path / "best.dpax"

    def check_new(self, overwrite: bool) -> None:
        """See whether a new run may be put here; nothing is changed.

        Raises:
            InputError: the folder holds a run already, or other files, and `overwrite` is not given; or it
                cannot be made.
        """
        place = next(p for p in (self.path, *self.path.absolute().parents) if p.exists())
        if not place.is_dir():
            raise InputError(f"{place} is a file; give a folder for the run with -o")
        if not os.access(place, os.W_OK):
            raise InputError(f"{place}: nothing may be written here; give another folder with -o")
        if self.path.is_dir() and any(self.path.iterdir()) and not overwrite:
            if self.input.exists():
                raise InputError(
                    f"{self.path} already holds a run: continue it with --restart, replace it with "
                    "--overwrite, or give another -o"
                )
            raise InputError(
                f"{self.path} is not empty and holds no run: give another -o, or --overwrite to use it anyway"
            )

    def prepare_new(self, disp_file: str) -> None:
        """Make the folder for a new run; the files of a run that is there are removed."""
        lcurve = self.path / disp_file
        for file in (self.input, self.log, lcurve, self.checkpoints, self.model, self.best):
            shutil.rmtree(file) if file.is_dir() else file.unlink(missing_ok=True)
        self.path.mkdir(parents=True, exist_ok=True)

    def write_settings(self, settings: InputSettings) -> None:
        """Write the settings as resolved."""
        _write_json(self.input, settings.resolved())

    def read_settings(self) -> InputSettings:
        """The settings that the run was started with.

        Raises:
            InputError: the folder holds no run.
        """
        if not self.input.is_file():
            raise InputError(f"{self.path}: no run to be found here ({self.input.name} is missing)")
        return read_settings(self.input)


def _write_json(path: Path, content: Any) -> None:
    temporary = path.with_suffix(".tmp")
    temporary.write_text(json.dumps(content, indent=2) + "\n", encoding="utf-8")
    os.replace(temporary, path)
