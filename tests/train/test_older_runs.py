"""A run of dpax 0.1: its checkpoints, which name arrays otherwise, are refused; its input means the same."""

import shutil
from pathlib import Path

import pytest

from cli.commands import error_of
from dpax.train import train
from dpax.train.settings import read_settings

from .test_restart import records_of

WHAT_TO_DO = (
    "Continue with that version, or start a new run from the run's model: --init-model RUN/model.dpax"
)


@pytest.fixture
def folder(tmp_path) -> Path:
    """The input, the data, and in `run` the run, whose models are left out."""
    return shutil.copytree(Path(__file__).parent / "run_of_0_1", tmp_path / "old")


def contents(folder: Path) -> dict[Path, bytes | None]:
    """All that lies in a folder."""
    return {path: path.read_bytes() if path.is_file() else None for path in folder.rglob("*")}


@pytest.mark.parametrize(
    "command",
    [
        "train {0}/input.json -o {0}/run --restart",
        "train {0}/input.json -o {0}/run --restart --allow-changes",
        "freeze {0}/run -o {0}/model.dpax",
        "freeze {0}/run -o {0}/model.dpax --step 8",
        "freeze {0}/run -o {0}/model.dpax --ema",
    ],
)
def test_the_checkpoints_of_another_version_are_named(folder, command):
    before = contents(folder)
    told = error_of(*command.format(folder).split())
    assert told.startswith("the checkpoint was written by another version of dpax")
    assert told.endswith(WHAT_TO_DO)
    assert contents(folder) == before


def test_the_same_input_learns_the_same(folder, tmp_path):
    """Weights are drawn by seed and name, and the names that count are those of the first version."""
    train(read_settings(folder / "input.json"), tmp_path / "new", base=folder)
    before, now = records_of(folder / "run"), records_of(tmp_path / "new")
    assert len(before) == len(now) == 7
    for old, new in zip(before, now, strict=True):
        assert flat(new) == pytest.approx(flat(old), rel=1e-9)


def flat(record: dict) -> dict[str, float]:
    """A line of the log, with sections in it spread out."""
    inner = {f"{k}.{n}": v for k, part in record.items() if isinstance(part, dict) for n, v in part.items()}
    return inner | {key: value for key, value in record.items() if not isinstance(value, dict)}
