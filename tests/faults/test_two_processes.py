"""Two processes that would write the same files: the second is refused, and the first never notices."""

import signal
import socket

import pytest

from .commands import Process
from .jobs import without_time

pytestmark = pytest.mark.slow
JOBS = [("training", "plain"), ("simulation", "nvt", ".xyz")]


@pytest.mark.parametrize("options", [[], ["--restart"], ["--overwrite"]], ids=["", "restart", "overwrite"])
@pytest.mark.parametrize("kind", JOBS, ids=lambda kind: kind[0])
def test_second_is_refused(jobs, tmp_path, kind, options):
    """Beside a living job another one is refused, with process id and host; the first is not disturbed."""
    job, whole = jobs.make(tmp_path / "job", *kind), jobs.whole(*kind)
    first = job.start()
    first.wait_for(job.has_lines)
    first.send(signal.SIGSTOP)  # so that it cannot end too early
    try:
        error = job.start(*options).end().error()
    finally:
        first.send(signal.SIGCONT)
    assert f"process {first.pid}" in error
    assert socket.gethostname() in error
    ended = first.end()
    assert ended.code == 0, ended.words
    job.check(whole)


@pytest.mark.parametrize("kind", JOBS, ids=lambda kind: kind[0])
def test_at_the_same_time(jobs, tmp_path, kind):
    """Of two jobs that start at the same moment one is refused, and the other ends with the same bits."""
    job, whole = jobs.make(tmp_path / "job", *kind), jobs.whole(*kind)
    both = [process.end() for process in [job.start(), job.start()]]
    ended, refused = sorted(both, key=lambda ended: ended.code)
    assert ended.code == 0, ended.words
    refused.error()
    job.check(whole)


def test_shared_statistics(jobs, tmp_path):
    """Trainings in folders of their own that share a file of statistics do not disturb each other."""
    kind = ("training", "plain")
    job, whole = jobs.make(tmp_path / "job", *kind), jobs.whole(*kind)
    elsewhere = job.folder / "other"
    words = [*job.words()[:-1], elsewhere]
    processes = [job.start(), Process(words, job.folder)]
    for process in processes:
        ended = process.end()
        assert ended.code == 0, ended.words
    job.check(whole)
    assert without_time(elsewhere / "model.dpax") == without_time(job.folder / "run" / "model.dpax")
