"""A folder that becomes read-only while a job writes to it."""

import random

import pytest

from .commands import Fault, needs_preload
from .conftest import SEED
from .disks import obey_permissions
from .jobs import Simulation, Training

pytestmark = pytest.mark.slow
JOBS = [("training", "plain"), ("simulation", "nvt", ".xyz")]
CASES = [("training", "plain", kind) for kind in ("settings", "learning curve", "checkpoint", "best model")]
CASES += [("simulation", "npt", ".traj", kind) for kind in Simulation.kinds]


@needs_preload
@pytest.mark.parametrize("case", CASES, ids="-".join)
def test_file_system(jobs, tmp_path, case):
    """A file system that becomes read-only is one line; --restart goes on to the same bits when it is not."""
    *options, kind = case
    job, whole = jobs.make(tmp_path / "job", *options), jobs.whole(*options)
    at = random.Random(f"{SEED} {case}").randint(1, whole.calls[kind])
    error = job.start(fault=Fault("readonly", job.kinds[kind], at)).end().error()
    assert "the file system is read-only" in error
    assert str(job.folder) in error
    job.finish(whole)


@pytest.mark.parametrize("options", JOBS, ids="-".join)
def test_folder(jobs, tmp_path, options):
    """A folder whose permissions are taken away is one line; --restart goes on when they are given back."""
    job, whole = jobs.make(tmp_path / "job", *options), jobs.whole(*options)
    process = job.start(before=obey_permissions)
    process.wait_for(job.has_lines)
    folders = [job.folder]
    if isinstance(job, Training):
        folders = [job.run, job.run / "checkpoints"]
    for folder in folders:
        folder.chmod(0o555)
    error = process.end().error()
    assert "permission denied; change the permissions, or choose another place" in error
    for folder in folders:
        folder.chmod(0o755)
    job.finish(whole)
