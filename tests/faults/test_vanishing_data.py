"""Data that vanish, or are cut short, while a training reads them or before it goes on."""

import os
import shutil
import signal
from pathlib import Path

import pytest

from .commands import run
from .jobs import Training, Whole

pytestmark = pytest.mark.slow
FORMATS = {"npy": "", "hdf5": ".hdf5", "extxyz": ".extxyz"}


def training(inputs: Path, folder: Path, kind: str) -> Training:
    """A training on data of a format that are its own."""
    data = folder / "data"
    for name in ("small", "large", "valid"):
        target = data / f"{name}{FORMATS[kind]}"
        if kind == "npy":
            shutil.copytree(inputs / name, target)
        else:
            data.mkdir(parents=True, exist_ok=True)
            ended = run(["convert-data", inputs / name, "-o", target, "--format", kind], folder)
            assert ended.code == 0, ended.words
    return Training(data, folder / "job", data="../data", suffix=FORMATS[kind])


def hide(data: Path) -> None:
    """Take the data away."""
    data.rename(data.with_name("hidden"))


def cut(data: Path) -> None:
    """Leave half of every file, and the whole files elsewhere."""
    shutil.copytree(data, data.with_name("hidden"))
    for path in [path for path in data.rglob("*") if path.is_file()]:
        os.truncate(path, path.stat().st_size // 2)


def put_back(data: Path) -> None:
    """Have them where they were, as they were."""
    shutil.rmtree(data, ignore_errors=True)
    data.with_name("hidden").rename(data)


@pytest.fixture(scope="module")
def wholes(inputs, tmp_path_factory):
    """The undisturbed training on each format, made when it is asked for."""
    made: dict[str, Whole] = {}

    def get(kind: str) -> Whole:
        if kind not in made:
            made[kind] = training(inputs, tmp_path_factory.mktemp(kind), kind).whole()
        return made[kind]

    return get


@pytest.mark.parametrize("loss", [hide, cut], ids=lambda loss: loss.__name__)
@pytest.mark.parametrize("kind", FORMATS)
def test_during_the_steps(inputs, tmp_path, wholes, kind, loss):
    """Data lost during a training end it with one line, or not at all; with them back, --restart goes on."""
    whole, job = wholes(kind), training(inputs, tmp_path, kind)
    process = job.start()
    process.wait_for(job.has_lines)
    loss(job.inputs)
    ended = process.end()
    if ended.code:
        assert "/data/" in ended.error()
    put_back(job.inputs)
    job.finish(whole)


@pytest.mark.parametrize("loss", [hide, cut], ids=lambda loss: loss.__name__)
@pytest.mark.parametrize("kind", FORMATS)
def test_before_a_restart(inputs, tmp_path, wholes, kind, loss):
    """A restart without its data is refused with one line, and nothing is changed until they are back."""
    whole, job = wholes(kind), training(inputs, tmp_path, kind)
    process = job.start()
    process.wait_for(job.has_lines)
    process.send(signal.SIGTERM)
    assert process.end().code == 128 + signal.SIGTERM
    loss(job.inputs)
    assert "/data/" in job.start("--restart").end().error()
    put_back(job.inputs)
    job.finish(whole)
