"""The command line of the fuzzer: a table of outcomes, and exit code 1 if any is not what is promised."""

import argparse
import os
import shutil
import sys
import tempfile
from collections import Counter
from pathlib import Path
from time import monotonic

from .target import Input, inputs_in, write_input
from .targets import NAMES, target_named
from .workers import REFUSED, VALID, Outcome, outcomes, read_one

KEPT = Path(__file__).resolve().parents[2] / ".fuzz"
"""Where inputs that failed are kept."""
_EXAMPLES = 3
"""Inputs kept for each way to fail."""


def main() -> int:
    """Fuzz the targets that are named, or all."""
    parser = argparse.ArgumentParser(prog="python -m fuzz", description=__doc__)
    parser.add_argument("targets", nargs="*", metavar="TARGET", help=f"{', '.join(NAMES)}; default: all")
    parser.add_argument("--inputs", type=int, default=20_000, help="of each target")
    parser.add_argument("--seconds", type=float, default=600, help="after which a target ends")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--start", type=int, default=0, help="number of the first input")
    parser.add_argument("--processes", type=int, default=os.cpu_count() or 1)
    parser.add_argument("--only", type=int, help="read one input in this process and show what comes of it")
    given = parser.parse_args()
    names = given.targets or list(NAMES)
    if unknown := set(names) - set(NAMES):
        parser.error(f"no target {', '.join(sorted(unknown))}; there are {', '.join(NAMES)}")
    if given.only is not None:
        return max(_once(name, given.seed, given.only) for name in names)
    print(f"{'target':<20} {'inputs':>7} {VALID:>7} {REFUSED:>10} {'other':>6} {'seconds':>8}", flush=True)
    return max(_campaign(name, given) for name in names)


def _campaign(name: str, given: argparse.Namespace) -> int:
    begun, counts = monotonic(), Counter()
    for outcome in outcomes(name, given.seed, given.inputs, given.processes, given.start):
        counts[outcome.kind] += 1
        if not outcome.sound and counts[outcome.kind] <= _EXAMPLES:
            _keep(name, given.seed, outcome)
        if monotonic() - begun > given.seconds:
            break
    total, others = counts.total(), counts.total() - counts[VALID] - counts[REFUSED]
    print(
        f"{name:<20} {total:>7} {counts[VALID]:>7} {counts[REFUSED]:>10} {others:>6} "
        f"{monotonic() - begun:>8.0f}",
        flush=True,
    )
    for kind, count in counts.most_common():
        if kind not in (VALID, REFUSED):
            print(f"    {count:>6} {kind}", flush=True)
    return int(others > 0)


def _damaged(name: str, seed: int, number: int) -> Input:
    target = target_named(name)
    with tempfile.TemporaryDirectory() as folder:
        target.make(Path(folder))
        return target.damaged(inputs_in(Path(folder)), seed, number)


def _keep(name: str, seed: int, outcome: Outcome) -> None:
    place = KEPT / name / f"{seed}-{outcome.number}"
    shutil.rmtree(place, ignore_errors=True)
    place.mkdir(parents=True)
    write_input(place, _damaged(name, seed, outcome.number))
    (place / "outcome.txt").write_text(f"{outcome.kind}\n{outcome.detail}\n", encoding="utf-8")


def _once(name: str, seed: int, number: int) -> int:
    with tempfile.TemporaryDirectory() as folder:
        path = write_input(Path(folder), _damaged(name, seed, number))
        outcome = read_one(target_named(name), path, number)
    print(f"{name} {seed} {number}: {outcome.kind}\n{outcome.detail}")
    return int(not outcome.sound)


if __name__ == "__main__":
    sys.exit(main())
