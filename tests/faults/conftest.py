"""The campaign: how large it is, what it shares, what it keeps, and the table at its end.

Environment variables:
    DPAX_FAULT_KILLS: of trainings, at least; simulations are killed 3 times for 5 of them. 50 by default.
    DPAX_FAULT_SEED: of the moments, 1 by default.
    DPAX_FAULT_RESULTS: a file of JSON lines, to which the outcome of every test is appended. What has passed
        with this version and seed is not done again, so that a campaign can be taken up where it ended.
"""

import json
import os
from collections import Counter, defaultdict
from pathlib import Path
from typing import Any

import ase.io
import pytest

import dpax
from dpax.model.file import save_model
from faults.commands import COMPILER
from faults.jobs import Job, Simulation, Training, Whole
from simulate.support import crystal, metal
from train.support import write_data

SEED = int(os.environ.get("DPAX_FAULT_SEED", "1"))
RESULTS = os.environ.get("DPAX_FAULT_RESULTS")
HERE = Path(__file__).parent


@pytest.fixture(scope="session", autouse=True)
def one_device() -> None:
    """A campaign keeps one core busy."""
    os.environ["DPAX_DEVICES"] = "1"


@pytest.fixture(scope="session")
def inputs(tmp_path_factory) -> Path:
    """Training data, a model and a structure."""
    folder = tmp_path_factory.mktemp("inputs")
    write_data(folder)
    save_model(folder / "metal.dpax", metal(folder), {})
    ase.io.write(folder / "start.xyz", crystal(1))
    return folder


class Jobs:
    """Makes jobs, and keeps what the undisturbed ones are like."""

    def __init__(self, inputs: Path, folder: Path):
        self._inputs, self._folder = inputs, folder
        self._whole: dict[tuple[str, ...], Whole] = {}

    def make(self, folder: Path, kind: str, *options: str) -> Job:
        """A job: `training` with its variant, or `simulation` with ensemble and ending of the trajectory."""
        return (Training if kind == "training" else Simulation)(self._inputs, folder, *options)

    def whole(self, kind: str, *options: str) -> Whole:
        """The undisturbed job."""
        key = (kind, *options)
        if key not in self._whole:
            self._whole[key] = self.make(self._folder / "-".join(key), *key).whole()
        return self._whole[key]


@pytest.fixture(scope="session")
def jobs(inputs, tmp_path_factory) -> Jobs:
    """All jobs of the campaign."""
    if COMPILER is None:
        pytest.skip("faults at a chosen call need a C compiler")
    return Jobs(inputs, tmp_path_factory.mktemp("whole"))


def _done_before() -> dict[str, dict[str, Any]]:
    """What the file of results says of this version and seed, the last word on each test."""
    path = Path(RESULTS or "")
    lines = path.read_text(encoding="utf-8").splitlines() if RESULTS and path.exists() else []
    records = [json.loads(line) for line in lines]
    ours = [one for one in records if (one["version"], one["seed"]) == (dpax.__version__, SEED)]
    return {one["test"]: one for one in ours}


def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    """Leave out what was done before; a test's first line is what it promises."""
    done = {test for test, record in _done_before().items() if record["outcome"] == "passed"}
    ours = [item for item in items if HERE in item.path.parents]
    for item in ours:
        promise = (getattr(item, "function", None).__doc__ or item.name).partition("\n")[0]
        item.user_properties.append(("promise", promise))
    left_out = [item for item in ours if item.nodeid in done]
    if left_out:
        config.hook.pytest_deselected(items=left_out)
        items[:] = [item for item in items if item not in left_out]


_records: list[dict[str, Any]] = []


def pytest_runtest_logreport(report: pytest.TestReport) -> None:
    """Keep the outcome of a test, as soon as it is known."""
    properties = dict(report.user_properties)
    if "promise" not in properties or (report.when != "call" and report.outcome == "passed"):
        return
    record = {
        "test": report.nodeid,
        "outcome": report.outcome,
        "version": dpax.__version__,
        "seed": SEED,
        "seconds": round(report.duration, 1),
        **properties,
    }
    if report.outcome != "passed":
        reason = report.longrepr
        record["reason"] = reason[2] if isinstance(reason, tuple) else str(reason)[-2000:]
    _records.append(record)
    if RESULTS:
        with open(RESULTS, "a", encoding="utf-8") as file:
            file.write(json.dumps(record) + "\n")


def pytest_terminal_summary(terminalreporter: Any) -> None:
    """The table: for each promise the number of tests and faults, and how they came out."""
    latest = {**_done_before(), **{record["test"]: record for record in _records}}
    rows: dict[str, list[dict[str, Any]]] = defaultdict(list)
    for record in latest.values():
        rows[record["promise"]].append(record)
    if not rows:
        return
    terminalreporter.section(f"faults, dpax {dpax.__version__}, seed {SEED}")
    terminalreporter.line("| promise | tests | faults | passed | failed | skipped | seconds |")
    terminalreporter.line("|---|---|---|---|---|---|---|")
    for promise, records in rows.items():
        outcomes = Counter(one["outcome"] for one in records)
        counts = [outcomes[outcome] for outcome in ("passed", "failed", "skipped")]
        faults = sum(one.get("faults", 1) for one in records if one["outcome"] != "skipped")
        seconds = sum(one["seconds"] for one in records)
        cells = [promise, len(records), faults, *counts, round(seconds)]
        terminalreporter.line(f"| {' | '.join(map(str, cells))} |")
