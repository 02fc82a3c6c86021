"""dpax side by side with DeePMD-kit: the same weights, the same cores, the same run, taking turns.

    python benchmarks/run.py [--full | --short | --smoke] [--only NAME ...] [--torch-python PATH]
                             [--json FILE] [--page docs/performance.md]

--short (the default, `make bench`) compares a training step, and energy with forces and virial, of 192
atoms in float32 with DeePMD-kit's JAX backend. --full takes everything, DeePMD-kit's PyTorch backend too, for
which it makes an environment. Ratios are medians of the ratios of neighbouring repetitions, which a machine
that grows slower or faster moves little.
"""

import argparse
import json
import platform
import subprocess
import sys
import tempfile
import time
from collections.abc import Sequence
from contextlib import ExitStack
from pathlib import Path
from typing import Any, TextIO

from case import cores
from commands import start_up
from comparisons import DPAX, FULL, GEMM, JAX, LARGE, PYTORCH, SHORT, TINY, Comparison, Entry
from environments import torch_python
from measured import Measured
from structures import write_water
from table import aims, details, versions

WORKERS = Path(__file__).with_name("workers.py")
PAUSE = 0.1
"""Seconds between two turns, in which the threads of the one before fall asleep."""
START_UP, MEMORY = "start-up", "memory"
MARKERS = "<!-- benchmarks: begin -->", "<!-- benchmarks: end -->"


class Side:
    """A worker process."""

    def __init__(self, name: str, python: str, log: TextIO):
        self.name, self._log = name, log
        self._process = subprocess.Popen(
            [python, str(WORKERS), name],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=log,
            text=True,
            encoding="utf-8",
        )

    def ask(self, **request: Any) -> dict[str, Any]:
        """Send a request and wait for the answer."""
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        self._process.stdin.write(json.dumps(request) + "\n")
        self._process.stdin.flush()
        line = self._process.stdout.readline()
        if not line:
            raise SystemExit(f"{self.name} has died:\n{Path(self._log.name).read_text()[-3000:]}")
        return json.loads(line)

    def close(self) -> None:
        """Let the process end."""
        assert self._process.stdin is not None
        self._process.stdin.close()
        self._process.wait()


class Benchmark:
    """A run of the benchmarks: its settings, its folder and its processes.

    Args:
        sizes: of the models.
        pythons: of each side.
        folder: for models and logs.
        stack: ends the processes.
    """

    def __init__(self, sizes: dict[str, Any], pythons: dict[str, str], folder: Path, stack: ExitStack):
        self.sizes, self.pythons, self.folder, self._stack = sizes, pythons, folder, stack
        self._sides: dict[str, Side] = {}

    def _start(self, name: str) -> Side:
        log = self._stack.enter_context((self.folder / f"{name}.log").open("a", encoding="utf-8"))
        return Side(name, self.pythons[name], log)

    def side(self, name: str) -> Side:
        """The process of a side, started when it is first needed."""
        if name not in self._sides:
            self._sides[name] = self._start(name)
            self._stack.callback(self._sides[name].close)
        return self._sides[name]

    def measure(self, comparison: Comparison, repetitions: int) -> Measured:
        """Time all entries of a comparison, one repetition of each in turn."""
        entries = [entry for entry in comparison.entries if entry.side in self.pythons]
        cases = {entry.name: entry.case(self.sizes, str(self.folder)) for entry in entries}
        ready, unavailable = {}, {}
        for entry in entries:
            self.side(DPAX).ask(model=cases[entry.name])
            answer = self.side(entry.side).ask(prepare=cases[entry.name], name=entry.name)
            if "unavailable" in answer:
                unavailable[entry.name] = answer["unavailable"]
            else:
                ready[entry.name] = answer
        runners = [entry for entry in entries if entry.name in ready]
        seconds: dict[str, list[float]] = {entry.name: [] for entry in runners}
        for number in range(repetitions):
            # There and back, so that nobody always runs behind the same neighbour.
            for entry in runners if number % 2 == 0 else reversed(runners):
                time.sleep(PAUSE)
                seconds[entry.name].append(self.side(entry.side).ask(run=entry.name)["seconds"])
        for name in {entry.side for entry in entries}:
            self.side(name).ask(forget=True)
        return Measured(comparison, cases, seconds, ready, unavailable)

    def peak_memory(self) -> dict[str, float]:
        """GB that a process has had at most that computes energy and forces and does nothing else."""
        found = {}
        for entry in (
            Entry("dpax, 12,288 atoms", DPAX, "forces", repeats=4, warm_up=0),
            Entry("dpax, 1,536 atoms", DPAX, "forces", repeats=2, warm_up=0),
            Entry("deepmd-pytorch, 1,536 atoms", PYTORCH, "forces", repeats=2, warm_up=0),
        ):
            if entry.side in self.pythons:
                case = entry.case(self.sizes, str(self.folder))
                self.side(DPAX).ask(model=case)
                side = self._start(entry.side)
                found[entry.name] = 1e-9 * side.ask(prepare=case, name="")["peak"]
                side.close()
        return found

    def start_up(self) -> dict[str, float | None]:
        """Seconds from typing the training command to its first step."""
        system = self.folder / "water"
        write_water(system, self.sizes["molecules"])
        return start_up(self.sizes, system, self.folder / "start-up", self.pythons)


def rows(memory: dict[str, float], start: dict[str, float | None]) -> list[list[str]]:
    """The rows of what is not timed in turns."""
    found = []
    names = list(memory)
    if names:
        own, peer = names[0], names[-1] if len(names) > 2 else None
        other = f"{memory[peer]:.2f} GB ({peer})" if peer else "–"
        what = "peak memory, 12,288 atoms, energy + forces"
        found.append([what, f"{memory[own]:.2f} GB", other, "–", "≤ 1.5 GB", "≤ 1 GB"])
    for kept in ("nothing", "programs"):
        own = start.get(f"dpax, {kept} kept")
        for peer in (JAX, PYTORCH):
            other = start.get(peer)
            if own is not None and other is not None:
                what = f"training command to its first step, {kept} kept, against {peer}"
                found.append([what, f"{own:.1f} s", f"{other:.1f} s", f"{other / own:.2f}", "–", "–"])
    return found


def machine() -> str:
    """Processor and cores."""
    info = Path("/proc/cpuinfo")
    lines = info.read_text().splitlines() if info.exists() else []
    names = [line.partition(":")[2].strip() for line in lines if line.startswith("model name")]
    return f"{names[0] if names else platform.processor() or platform.machine()}, {cores()} cores"


def write_page(page: Path, text: str) -> None:
    """Put a text between the two markers of a page."""
    content = page.read_text(encoding="utf-8")
    before, begin, rest = content.partition(MARKERS[0])
    _, end, after = rest.partition(MARKERS[1])
    if not (begin and end):
        raise SystemExit(f"{page}: has no lines {MARKERS[0]} and {MARKERS[1]}")
    page.write_text(f"{before}{begin}\n\n{text}\n\n{end}{after}", encoding="utf-8")


def report(
    measured: Sequence[Measured], memory: dict[str, float], start: dict[str, float | None], elapsed: float
) -> str:
    """Everything that was found, in Markdown."""
    agreements = [
        f"{one.comparison.name}: {name}: {text}" for one in measured for name, text in one.disagreements()
    ]
    repetitions = ", ".join(
        f"{one.comparison.name} {len(next(iter(one.seconds.values())))}" for one in measured
    )
    return "\n\n".join(
        [
            f"{machine()}; {versions(measured)}; {time.strftime('%Y-%m-%d')}, {elapsed / 60:.1f} minutes. "
            f"Repetitions: {repetitions}.",
            aims(measured, rows(memory, start)),
            details(measured),
            "Peak memory: " + "; ".join(f"{name} {value:.2f} GB" for name, value in memory.items()),
            "Results beside those of dpax: " + "; ".join(agreements) + ".",
        ]
    )


def make_parser() -> argparse.ArgumentParser:
    """The command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    length = parser.add_mutually_exclusive_group()
    length.add_argument("--full", action="store_true", help="everything: about 12 minutes on two cores")
    length.add_argument("--short", action="store_true", help="float32 against JAX only (default)")
    length.add_argument(
        "--smoke", action="store_true", help="everything once in tiny sizes, PyTorch if named: does it work?"
    )
    names = [one.name for one in FULL] + [START_UP, MEMORY]
    parser.add_argument("--only", nargs="+", choices=names, metavar="NAME", help=f"of {', '.join(names)}")
    parser.add_argument("--torch-python", help="Python with torch and deepmd-kit, instead of the one made")
    parser.add_argument("--repetitions", type=int, help="of each comparison, instead of its own number")
    parser.add_argument("--json", type=Path, help="write all times to this file")
    parser.add_argument("--page", type=Path, help="write the tables between the markers of this page")
    return parser


def main() -> None:
    """Measure and print."""
    arguments = make_parser().parse_args()
    everything = arguments.full or arguments.smoke
    wanted = arguments.only or [one.name for one in FULL] + [START_UP, MEMORY]
    comparisons = [one for one in (FULL if everything else SHORT) if one.name in wanted]
    pythons = dict.fromkeys((DPAX, GEMM, JAX), sys.executable)
    if everything and arguments.torch_python:
        pythons[PYTORCH] = arguments.torch_python
    elif arguments.full:
        pythons[PYTORCH] = str(torch_python())
    began = time.perf_counter()
    with tempfile.TemporaryDirectory() as folder, ExitStack() as stack:
        benchmark = Benchmark(TINY if arguments.smoke else LARGE, pythons, Path(folder), stack)
        measured = []
        for one in comparisons:
            measured.append(
                benchmark.measure(one, arguments.repetitions or (1 if arguments.smoke else one.repetitions))
            )
            print(f"{time.perf_counter() - began:5.0f} s: {one.name}", file=sys.stderr)
        memory = benchmark.peak_memory() if everything and MEMORY in wanted else {}
        start = benchmark.start_up() if everything and START_UP in wanted else {}
    text = report(measured, memory, start, time.perf_counter() - began)
    print(text)
    if arguments.json:
        results = {one.comparison.name: one.record() for one in measured}
        content = {"machine": machine(), "comparisons": results, "peak_gb": memory, "start_up_s": start}
        arguments.json.write_text(json.dumps(content, indent=1) + "\n", encoding="utf-8")
    if arguments.page:
        write_page(arguments.page, text)


if __name__ == "__main__":
    main()
