"""What a scheduler, a terminal and a user send: the job stops between two steps, after a checkpoint."""

import random
import signal

import pytest

from .conftest import SEED
from .disks import ignore_hangup

pytestmark = pytest.mark.slow
JOBS = [("training", "plain"), ("simulation", "nvt", ".xyz")]
SIGNALS = [signal.SIGINT, signal.SIGTERM, signal.SIGHUP]


@pytest.mark.parametrize("number", SIGNALS, ids=lambda number: number.name)
@pytest.mark.parametrize("kind", JOBS, ids=lambda kind: kind[0])
def test_stops_after_a_checkpoint(jobs, tmp_path, kind, number):
    """SIGINT, SIGTERM and SIGHUP stop a job after a checkpoint; --restart goes on to the same bits."""
    job, whole = jobs.make(tmp_path / "job", *kind), jobs.whole(*kind)
    process, lines = job.start(), random.Random(f"{SEED} {number} {kind}").randint(1, 20)
    process.wait_for(lambda: job.lines() >= lines)
    process.send(number)
    ended = process.end()
    assert ended.code == 128 + number, ended.words
    assert f"{number.name}: stopped at step" in ended.out
    assert "after a checkpoint; go on with --restart" in ended.out
    assert not ended.err
    job.finish(whole)


@pytest.mark.parametrize("kind", JOBS, ids=lambda kind: kind[0])
def test_before_the_first_step(jobs, tmp_path, kind):
    """A signal before the first step loses nothing, for there is nothing yet."""
    job, whole = jobs.make(tmp_path / "job", *kind), jobs.whole(*kind)
    process = job.start()
    process.wait_for(lambda: process.seconds > 0.3 * whole.until_first_sign)
    process.send(signal.SIGTERM)
    ended = process.end()
    assert ended.code in (-signal.SIGTERM, 128 + signal.SIGTERM), ended.words
    job.finish(whole)


@pytest.mark.parametrize("kind", JOBS, ids=lambda kind: kind[0])
def test_nohup(jobs, tmp_path, kind):
    """Under nohup a job goes on when its terminal is closed."""
    job, whole = jobs.make(tmp_path / "job", *kind), jobs.whole(*kind)
    process = job.start(before=ignore_hangup)
    process.wait_for(job.has_lines)
    process.send(signal.SIGHUP)
    ended = process.end()
    assert ended.code == 0, ended.words
    job.check(whole)
