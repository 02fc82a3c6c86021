"""kill -9, again and again: at any moment, between two writes, and in the middle of one."""

import os
import random

import pytest

from .commands import needs_preload
from .conftest import SEED
from .jobs import NOTHING_YET, deaths, die

pytestmark = [pytest.mark.slow, needs_preload]
KILLS = int(os.environ.get("DPAX_FAULT_KILLS", "50"))
IN_A_ROW = (1, 2, 3)
"""How often a job is killed before it may finish, by turns."""
SIMULATIONS = [("nvt", ".xyz"), ("npt", ".traj"), ("nvt", ".traj"), ("npt", ".xyz")]


def numbers(kills: int) -> range:
    """The numbers of the jobs that are killed so often; half as many more, for those that end too early."""
    return range(-(-int(1.5 * kills) * len(IN_A_ROW) // sum(IN_A_ROW)))


def survives(job, whole, number: int, record_property) -> None:
    """Kill a job some times in a row; then it goes on to its end, as if it had never been killed."""
    wanted, done = IN_A_ROW[number % len(IN_A_ROW)], []
    chance = random.Random(f"{SEED} {type(job).__name__} {number}")
    options: tuple[str, ...] = ()
    try:
        for death in deaths(whole, chance, wanted, 2 * number + number // 3):
            ended = die(job, whole, death, *options)
            if ended.code == 2 and NOTHING_YET.search(ended.err):
                ended = die(job, whole, death)
            assert ended.killed or ended.code == 0, f"{death}: {ended.words}"
            if not ended.killed:
                break
            done.append(str(death))
            options = ("--restart",)
        job.finish(whole)
    finally:
        record_property("faults", len(done))
        record_property("deaths", done)


@pytest.mark.parametrize("number", numbers(KILLS))
def test_trainings(jobs, tmp_path, number, record_property):
    """A training that was killed goes on with --restart, to the same bits as if it had not been."""
    kind = ("training", ("plain", "averaged")[number % 2])
    survives(jobs.make(tmp_path / "job", *kind), jobs.whole(*kind), number, record_property)


@pytest.mark.parametrize("number", numbers(KILLS * 3 // 5))
def test_simulations(jobs, tmp_path, number, record_property):
    """A simulation that was killed goes on with --restart, to the same bytes in all its files."""
    kind = ("simulation", *SIMULATIONS[number % len(SIMULATIONS)])
    survives(jobs.make(tmp_path / "job", *kind), jobs.whole(*kind), number, record_property)
