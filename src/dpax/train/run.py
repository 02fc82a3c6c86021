"""The folder of a run: which files lie in it, and what may be done to one that is there."""

import json
import os
import shutil
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from dpax.errors import InputError
from dpax.files import replacing, writing
from dpax.model.settings import ModelSettings
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
    def profile(self) -> Path:
        """The folder of a trace of JAX's profiler."""
        return self.path / "profile"

    @property
    def model(self) -> Path:
        """The model after the last step."""
        return self.path / "model.dpax"

    @property
    def averaged_model(self) -> Path:
        """The same with the moving average of the weights."""
        return self.path / "model_ema.dpax"

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

    def prepare_new(self, *logs: str) -> None:
        """Make the folder for a new run; the files of a run that is there are removed.

        Args:
            logs: names of the files that the run will write its errors to.
        """
        files = [self.input, self.log, self.checkpoints, self.profile, self.model, self.averaged_model]
        files += [self.path / name for name in logs]
        files += [*self.path.glob("best*.dpax")]
        with writing(self.path):
            for file in files:
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

    def check_model(self, before: ModelSettings, now: ModelSettings) -> None:
        """See that a run goes on with the model that it was started with.

        Raises:
            InputError: the model sections differ; the message says in what.
        """
        changes = _differences(before.resolved(), now.resolved(), "model")
        if changes:
            raise InputError(
                f"{self.input}: the run was started with another model section: {', '.join(changes)}. "
                "A restart must keep the model: undo the change, or start anew in another folder"
            )


def _differences(before: Any, now: Any, path: str) -> list[str]:
    """What differs between two trees of plain settings."""
    if before == now:
        return []
    if not (isinstance(before, dict) and isinstance(now, dict)):
        return [f"{path} was {before!r} and is now {now!r}"]
    keys = dict.fromkeys([*before, *now])
    return [text for key in keys for text in _differences(before.get(key), now.get(key), f"{path}.{key}")]


def _write_json(path: Path, content: Any) -> None:
    with replacing(path) as temporary:
        temporary.write_text(json.dumps(content, indent=2) + "\n", encoding="utf-8")
