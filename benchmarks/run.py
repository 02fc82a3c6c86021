"""dpax side by side with DeePMD-kit: the same weights, the same cores or GPU, the same run, taking turns.

    python benchmarks/run.py [--full | --short | --smoke] [--only NAME ...] [--sides NAME ...]
                             [--torch-python PATH] [--json FILE] [--page docs/performance.md]

--short (the default, `make bench`) compares a training step, and energy with forces and virial, of 192
atoms in float32 with DeePMD-kit's JAX backend. --full takes everything, DeePMD-kit's PyTorch backend too, for
which it makes an environment. Ratios are medians of the ratios of neighbouring turns, which a machine that
grows slower or faster moves little.
"""

import argparse
import json
import sys
import tempfile
import time
from collections.abc import Sequence
from contextlib import ExitStack
from pathlib import Path
from typing import Any

from commands import start_up
from comparisons import DPAX, FULL, GEMM, JAX, LARGE, MEMORY, PYTORCH, SHORT, SIDES, TINY, Comparison
from environments import named_python, torch_python
from measured import Measured
from provenance import Reports, machine, sides, warnings
from side import Side
from structures import write_water
from table import aims, details

PAUSE = 0.1
"""Seconds between two turns, in which the threads of the one before fall asleep."""
FILL = 0.3
"""Seconds that a turn fills with calls, of which a GPU makes dozens and a CPU often one."""
START_UP_NAME, MEMORY_NAME = "start-up", "memory"
MARKERS = "<!-- benchmarks: begin -->", "<!-- benchmarks: end -->"

Peaks = dict[str, dict[str, Any]]
"""The most memory that the process of an entry has had, bytes: host_peak, and device_peak (None on a CPU)."""


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
        self._sides = {name: self._start(name) for name in pythons}
        for side in self._sides.values():
            stack.callback(side.close)
        self.reports: Reports = {name: side.report for name, side in self._sides.items()}
        self.kind = self.reports[DPAX]["kind"]
        """Of dpax's devices: "cpu" or "gpu"."""

    def _start(self, name: str) -> Side:
        log = self._stack.enter_context((self.folder / f"{name}.log").open("a", encoding="utf-8"))
        return Side(name, self.pythons[name], log)

    def measure(self, comparison: Comparison, turns: int) -> Measured:
        """Time all entries of a comparison in turns."""
        entries = [entry for entry in comparison.on(self.kind).entries if entry.side in self.pythons]
        cases = {entry.name: entry.case(self.sizes, str(self.folder)) for entry in entries}
        ready, unavailable = {}, {}
        for entry in entries:
            self._sides[DPAX].ask(model=cases[entry.name])
            answer = self._sides[entry.side].ask(prepare=cases[entry.name], name=entry.name)
            if "unavailable" in answer:
                unavailable[entry.name] = answer["unavailable"]
            else:
                ready[entry.name] = answer
        runners = [entry for entry in entries if entry.name in ready]
        seconds: dict[str, list[list[float]]] = {entry.name: [] for entry in runners}
        fill = 0.0 if self.sizes is TINY else FILL
        for number in range(turns):
            # There and back, so that nobody always runs behind the same neighbour.
            for entry in runners if number % 2 == 0 else reversed(runners):
                time.sleep(PAUSE)
                seconds[entry.name].append(self._sides[entry.side].ask(run=entry.name, fill=fill)["calls"])
        for name in {entry.side for entry in entries}:
            self._sides[name].ask(forget=True)
        return Measured(comparison, cases, seconds, ready, unavailable)

    def peaks(self) -> Peaks:
        """Of processes that compute energy and forces once and do nothing else."""
        found = {}
        for entry in MEMORY:
            if entry.side in self.pythons and entry.on(self.kind):
                case = entry.case(self.sizes, str(self.folder))
                self._sides[DPAX].ask(model=case)
                side = self._start(entry.side)
                answer = side.ask(prepare=case, name="")
                side.close()
                if "unavailable" not in answer:
                    found[entry.name] = {key: answer[key] for key in ("host_peak", "device_peak")}
        return found

    def start_up(self) -> dict[str, float | None]:
        """Seconds from typing the training command to its first step."""
        system = self.folder / "water"
        write_water(system, self.sizes["molecules"])
        return start_up(self.sizes, system, self.folder / "start-up", self.pythons)


def rows(peaks: Peaks, start: dict[str, float | None]) -> list[list[str]]:
    """The rows of what is not timed in turns."""
    found = []
    largest = {entry.side: entry for entry in reversed(MEMORY) if entry.name in peaks}
    if DPAX in largest:
        own, peer = largest[DPAX].name, largest.get(PYTORCH)
        other = "–" if peer is None else f"{gigabytes(peaks[peer.name])} ({peer.name})"
        what = "peak memory, 12,288 atoms, energy + forces"
        found.append([what, gigabytes(peaks[own]), other, "–", "≤ 1.5 GB", "≤ 1 GB"])
    for kept in ("nothing", "programs"):
        own = start.get(f"dpax, {kept} kept")
        for peer in (JAX, PYTORCH):
            other = start.get(peer)
            if own is not None and other is not None:
                what = f"training command to its first step, {kept} kept, against {peer}"
                found.append([what, f"{own:.1f} s", f"{other:.1f} s", f"{other / own:.2f}", "–", "–"])
    return found


def gigabytes(peak: dict[str, int | None]) -> str:
    """A process's most memory: of the host, and first of the GPU where it has one."""
    host, device = (f"{1e-9 * (peak[key] or 0):.2f} GB" for key in ("host_peak", "device_peak"))
    return host if peak["device_peak"] is None else f"{device} of the GPU, {host} of the host"


def write_page(page: Path, text: str) -> None:
    """Put a text between the two markers of a page."""
    content = page.read_text(encoding="utf-8")
    before, begin, rest = content.partition(MARKERS[0])
    _, end, after = rest.partition(MARKERS[1])
    if not (begin and end):
        raise SystemExit(f"{page}: has no lines {MARKERS[0]} and {MARKERS[1]}")
    page.write_text(f"{before}{begin}\n\n{text}\n\n{end}{after}", encoding="utf-8")


def report(
    measured: Sequence[Measured],
    peaks: Peaks,
    start: dict[str, float | None],
    reports: Reports,
    elapsed: float,
) -> str:
    """Everything that was measured, in Markdown."""
    agreements = [
        f"{one.comparison.name}: {name}: {text}" for one in measured for name, text in one.disagreements()
    ]
    turns = [f"{one.comparison.name} {len(next(iter(one.turns.values())))}" for one in measured]
    memory = [f"{name} {gigabytes(peak)}" for name, peak in peaks.items()]
    paragraphs = [
        *(f"**Mind: {warning}.**" for warning in warnings(reports, measured)),
        f"{machine()}; {time.strftime('%Y-%m-%d')}, {elapsed / 60:.1f} minutes.",
        sides(reports, measured),
        f"Turns: {', '.join(turns)}." if turns else "",
        aims(measured, rows(peaks, start), bars=reports[DPAX]["kind"] == "cpu"),
        details(measured) if measured else "",
        f"Peak memory: {'; '.join(memory)}." if memory else "",
        f"Results beside those of dpax: {'; '.join(agreements)}." if agreements else "",
    ]
    return "\n\n".join(filter(None, paragraphs))


def make_parser() -> argparse.ArgumentParser:
    """The command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    length = parser.add_mutually_exclusive_group()
    length.add_argument("--full", action="store_true", help="everything: about 15 minutes on two cores")
    length.add_argument("--short", action="store_true", help="float32 against JAX only (default)")
    length.add_argument(
        "--smoke", action="store_true", help="everything once in tiny sizes, PyTorch if named: does it work?"
    )
    names = [one.name for one in FULL] + [START_UP_NAME, MEMORY_NAME]
    parser.add_argument("--only", nargs="+", choices=names, metavar="NAME", help=f"of {', '.join(names)}")
    others = [side for side in SIDES if side != DPAX]
    parser.add_argument(
        "--sides", nargs="+", choices=others, default=others, metavar="NAME", help=f"of {', '.join(others)}"
    )
    parser.add_argument("--torch-python", help="Python with torch and deepmd-kit, instead of the one made")
    parser.add_argument("--turns", type=int, help="of each comparison, instead of its own number")
    parser.add_argument("--json", type=Path, help="write all times to this file")
    parser.add_argument(
        "--page", type=Path, help="write the tables of a CPU between the markers of this page"
    )
    return parser


def pythons_of(arguments: argparse.Namespace) -> dict[str, str]:
    """The Python of each side that takes part."""
    pythons = {side: sys.executable for side in (DPAX, JAX, GEMM) if side in (DPAX, *arguments.sides)}
    if PYTORCH in arguments.sides and (arguments.full or arguments.smoke):
        if arguments.torch_python:
            pythons[PYTORCH] = named_python(arguments.torch_python)
        elif arguments.full:
            pythons[PYTORCH] = str(torch_python())
    return pythons


def main() -> None:
    """Measure and print."""
    arguments = make_parser().parse_args()
    everything = arguments.full or arguments.smoke
    wanted = arguments.only or [one.name for one in FULL] + [START_UP_NAME, MEMORY_NAME]
    comparisons = [one for one in (FULL if everything else SHORT) if one.name in wanted]
    began = time.perf_counter()
    with tempfile.TemporaryDirectory() as folder, ExitStack() as stack:
        sizes = TINY if arguments.smoke else LARGE
        benchmark = Benchmark(sizes, pythons_of(arguments), Path(folder), stack)
        for warning in warnings(benchmark.reports, []):
            print(f"Mind: {warning}.", file=sys.stderr)
        if arguments.page and any(report["kind"] != "cpu" for report in benchmark.reports.values()):
            raise SystemExit(
                f"{arguments.page}: its bars and its text are about CPUs, and here is a GPU: use --json"
            )
        measured = []
        for one in comparisons:
            turns = arguments.turns or (1 if arguments.smoke else one.turns)
            measured.append(benchmark.measure(one, turns))
            print(f"{time.perf_counter() - began:5.0f} s: {one.name}", file=sys.stderr)
        peaks = benchmark.peaks() if everything and MEMORY_NAME in wanted else {}
        start = benchmark.start_up() if everything and START_UP_NAME in wanted else {}
    text = report(measured, peaks, start, benchmark.reports, time.perf_counter() - began)
    print(text)
    if arguments.json:
        content = {
            "machine": machine(),
            "sides": benchmark.reports,
            "mind": list(warnings(benchmark.reports, measured)),
            "comparisons": {one.comparison.name: one.record() for one in measured},
            "peaks": peaks,
            "start_up_s": start,
        }
        arguments.json.write_text(json.dumps(content, indent=1) + "\n", encoding="utf-8")
    if arguments.page:
        write_page(arguments.page, text)


if __name__ == "__main__":
    main()
