"""The machine fails a training under way: what it says, and that it can go on as if nothing had happened."""

import errno
import os
import shutil

import pytest

from dpax.errors import InputError, MachineError
from dpax.train import full_validation, loop, train
from dpax.train.checkpoints import Checkpoints
from dpax.train.log import LearningCurve

from .support import settings, write_data
from .test_restart import BASIC, Stops, assert_same_run, records_of

CHANGES = {**BASIC, "training.save_freq": 2, "training.disp_freq": 1, "dpax.valid_freq": 5}


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """Data, and a training that nothing has disturbed."""
    folder = tmp_path_factory.mktemp("faults")
    write_data(folder)
    train(settings(CHANGES), folder / "whole", base=folder)
    return folder


def fails_at(call: int, function, path: str = "out"):
    """The function, whose calls fail from a certain one on as on a full disk."""
    count = 0

    def failing(*arguments, **options):
        nonlocal count
        count += 1
        if count >= call:
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC), path)
        return function(*arguments, **options)

    return failing


@pytest.mark.parametrize(
    ("place", "name", "call", "saved"),
    [
        (LearningCurve, "add", 6, 4),
        (Checkpoints, "save", 3, 4),
        (loop, "save_model", 1, 4),  # the best model
        (loop, "save_model", 3, 8),  # the final model
        (full_validation.FullValidation, "write_log", 1, 4),
    ],
)
def test_a_full_disk(folder, tmp_path, monkeypatch, place, name, call, saved):
    run, whole = tmp_path / "run", folder / "whole"
    with monkeypatch.context() as broken:
        broken.setattr(place, name, fails_at(call, getattr(place, name)))
        with pytest.raises(MachineError) as caught:
            train(settings(CHANGES), run, base=folder)
    assert "the disk is full" in str(caught.value)
    assert str(caught.value).endswith(
        f"The last checkpoint is that of step {saved}, from which --restart continues"
    )
    train(settings(CHANGES), run, base=folder, restart=True)
    assert_same_run(run, whole, 8)
    assert records_of(run) == records_of(whole)
    assert (run / "lcurve.out").read_text() == (whole / "lcurve.out").read_text()
    assert {path.name for path in run.iterdir()} == {path.name for path in whole.iterdir()}


def test_data_that_vanish(folder, tmp_path):
    data, away, run = tmp_path / "data", tmp_path / "away", tmp_path / "run"
    shutil.copytree(folder, data, ignore=shutil.ignore_patterns("whole"))
    with pytest.raises(InputError) as caught:
        train(settings(CHANGES), run, base=data, reporter=Stops(3, lambda: data.rename(away)))
    assert str(data) in str(caught.value)
    assert "no such file or folder (any more)" in str(caught.value) or "vanished" in str(caught.value)
    assert "The last checkpoint is that of step" in str(caught.value)
    away.rename(data)
    train(settings(CHANGES), run, base=data, restart=True)
    assert records_of(run) == records_of(folder / "whole")
