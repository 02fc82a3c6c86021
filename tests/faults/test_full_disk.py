"""A full disk at every kind of write: one line, nothing lost, and --restart goes on when there is room."""

import os
import random
from pathlib import Path

import ase.io
import pytest

from .commands import Fault, Process, needs_preload, run
from .conftest import SEED
from .disks import fill, small_disk
from .jobs import Simulation, Training

pytestmark = pytest.mark.slow
TRAINING = [("training", "plain", kind) for kind in Training.kinds]
AVERAGED = [("training", "averaged", kind) for kind in ("checkpoint", "best model", "final model")]
SIMULATION = [("simulation", "nvt", ".xyz", kind) for kind in Simulation.kinds]
OTHERS = [("simulation", "npt", ".traj", "trajectory")]
LAST_STATE = ("The last checkpoint is that of step", "There is no checkpoint yet")


@needs_preload
@pytest.mark.parametrize("case", TRAINING + AVERAGED + SIMULATION + OTHERS, ids="-".join)
def test_each_kind_of_write(jobs, tmp_path, case, record_property):
    """A disk that gets full is one line and exit code 2; with room, --restart goes on to the same bits."""
    *options, kind = case
    job, whole = jobs.make(tmp_path / "job", *options), jobs.whole(*options)
    at = random.Random(f"{SEED} {case}").randint(1, whole.calls[kind])
    record_property("at", f"{at} of {whole.calls[kind]}")
    ended = job.start(fault=Fault("full", job.kinds[kind], at)).end()
    if ended.code == 0:  # only renaming and removing was left, which needs no room
        job.check(whole)
        return
    error = ended.error()
    assert "the disk is full; make room and try again" in error
    assert str(job.folder) in error
    if job.log.exists() and job.has_lines():
        assert any(words in error for words in LAST_STATE), error
    job.finish(whole)


@needs_preload
@pytest.mark.parametrize(
    "options",
    [("training", "plain"), ("simulation", "nvt", ".xyz"), ("simulation", "npt", ".traj")],
    ids="-".join,
)
def test_restart_without_room(jobs, tmp_path, options):
    """A restart on a full disk loses nothing of what was there."""
    job, whole = jobs.make(tmp_path / "job", *options), jobs.whole(*options)
    kind = "checkpoint"
    ended = job.start(fault=Fault("kill", job.kinds[kind], int(0.7 * whole.calls[kind]))).end()
    assert ended.killed, ended.words
    lines = job.log.read_text().splitlines()
    ended = job.start("--restart", fault=Fault("full", "*", 1)).end()
    assert "the disk is full" in ended.error()
    assert job.log.read_text().splitlines()[: len(lines) // 2] == lines[: len(lines) // 2]
    job.finish(whole)


@pytest.mark.parametrize(
    "options",
    [("training", "averaged"), ("simulation", "nvt", ".xyz"), ("simulation", "nvt", ".traj")],
    ids="-".join,
)
def test_real_disk(jobs, tmp_path, options):
    """The same on a real file system that is filled while the job runs."""
    whole = jobs.whole(*options)
    with small_disk(tmp_path / "disk", "8m") as disk:
        job = jobs.make(disk / "job", *options)
        process = job.start()
        process.wait_for(job.has_lines)
        ballast = fill(disk)
        error = process.end().error()
        assert "the disk is full; make room and try again" in error
        ballast.unlink()
        job.finish(whole)


@needs_preload
def test_the_cache(jobs, tmp_path, monkeypatch):
    """No room for compiled programs is a warning; the training is the same."""
    options = ("training", "plain")
    job, whole = jobs.make(tmp_path / "job", *options), jobs.whole(*options)
    monkeypatch.setenv("DPAX_CACHE", str(tmp_path / "cache"))
    process = Process(job.words(), job.folder, fault=Fault("full", "*", 3), disk=tmp_path / "cache")
    ended = process.end()
    assert ended.code == 0, ended.words
    (line,) = ended.err.splitlines()
    assert line.startswith("dpax: warning: ")
    job.check(whole)


@pytest.mark.parametrize(
    "options", [("training", "plain"), ("simulation", "nvt", ".xyz")], ids=lambda kind: kind[0]
)
@pytest.mark.parametrize("how", ["full", "closed"])
def test_standard_output(jobs, tmp_path, options, how):
    """Standard output that is full or closed ends a job in order; --restart goes on to the same bits."""
    job, whole = jobs.make(tmp_path / "job", *options), jobs.whole(*options)
    if how == "full":
        with open("/dev/full", "wb") as full:
            assert "the disk is full" in job.start(stdout=full.fileno()).end().error()
    else:
        reading, writing = os.pipe()
        os.close(reading)
        ended = job.start(stdout=writing).end()
        os.close(writing)
        assert (ended.code, ended.err) == (141, "")
    job.finish(whole)


def outputs(inputs: Path) -> dict[str, list[object]]:
    """Commands that write one file or folder, which is their last word."""
    model, start = inputs / "metal.dpax", inputs / "start.xyz"
    data = [inputs / "small", inputs / "large"]
    return {
        "eval": ["eval", "-m", model, inputs / "many.xyz", "-o", "out.xyz"],
        "relax": ["relax", model, start, "--fmax", 10, "-o", "out.xyz"],
        "convert": ["convert", model, "out.dp"],
        "export": ["export", model, "-o", "out"],
        "npy": ["convert-data", *data, "--format", "npy", "-o", "out"],
        "hdf5": ["convert-data", *data, "--format", "hdf5", "-o", "out.h5"],
        "extxyz": ["convert-data", *data, "--format", "extxyz", "-o", "out.extxyz"],
        "test": ["test", "-m", inputs / "toy.dpax", "-s", inputs / "small", "-d", "out"],
        "eval-desc": ["eval-desc", "-m", inputs / "toy.dpax", "-s", inputs / "small", "-o", "out"],
        "model-devi": [
            *("model-devi", "-m", inputs / "toy.dpax", inputs / "toy.dpax", "-s", inputs / "small"),
            *("-o", "out.txt"),
        ],
    }


@pytest.fixture(scope="module")
def more_inputs(inputs, jobs):
    """What these commands read beside the rest."""
    ase.io.write(inputs / "many.xyz", [ase.io.read(inputs / "start.xyz")] * 40)
    whole = jobs.whole("training", "plain").job
    (inputs / "toy.dpax").write_bytes((whole.run / "model.dpax").read_bytes())
    return inputs


@pytest.mark.parametrize("name", outputs(Path()))
def test_output_of_commands(more_inputs, tmp_path, name):
    """A command whose output finds no room leaves nothing behind, and works when there is room."""
    words = outputs(more_inputs)[name]
    with small_disk(tmp_path / "disk", "8m") as disk:
        ballast = fill(disk)
        error = run(words, disk).error()
        assert "the disk is full" in error
        assert [path for path in disk.rglob("*") if path.is_file()] == [ballast]
        ballast.unlink()
        ended = run(words, disk)
        assert ended.code == 0, ended.words
        assert [path.name for path in disk.iterdir() if path.name.startswith("out")]
