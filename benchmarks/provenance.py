"""What ran on what, and what makes a comparison unfair."""

import platform
import shutil
import subprocess
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from case import cores
from comparisons import DPAX, PYTORCH
from measured import Measured

Reports = Mapping[str, dict[str, Any]]
"""What each side says that it runs on: kind, devices, threads, settings and versions."""


def machine() -> str:
    """Processor and cores; GPUs and their driver, where there are any."""
    info = Path("/proc/cpuinfo")
    lines = info.read_text().splitlines() if info.exists() else []
    names = [line.partition(":")[2].strip() for line in lines if line.startswith("model name")]
    processor = names[0] if names else platform.processor() or platform.machine()
    return ", ".join([processor, f"{cores()} cores", *_cards()])


def _cards() -> list[str]:
    if shutil.which("nvidia-smi") is None:
        return []
    query = ["nvidia-smi", "--query-gpu=name,driver_version", "--format=csv,noheader"]
    done = subprocess.run(query, capture_output=True, text=True, check=False)
    names = Counter(done.stdout.splitlines()) if done.returncode == 0 else Counter()
    return [f"{number} × {name.replace(', ', ' with driver ')}" for name, number in names.items()]


def searches(measured: Sequence[Measured]) -> set[str | None]:
    """With what DeePMD-kit's PyTorch searched neighbours, as its evaluations say; None for its own search."""
    return {
        ready["neighbor_search"]
        for one in measured
        for ready in one.ready.values()
        if "neighbor_search" in ready
    }


def sides(reports: Reports, measured: Sequence[Measured]) -> str:
    """A line for each side: devices, threads, settings, versions."""
    return "\n".join(f"- {name}: {_side(name, report, measured)}" for name, report in reports.items())


def _side(name: str, report: dict[str, Any], measured: Sequence[Measured]) -> str:
    devices = [f"{number} × {device}" for device, number in Counter(report["devices"]).items()]
    settings = [f"{key} {value}" for key, value in report["settings"].items()]
    if name == PYTORCH:
        settings += [f"neighbours by {search or 'all pairs'}" for search in searches(measured)]
    versions = [f"{package} {version}" for package, version in report["versions"].items()]
    threads = f"{report['threads']} processor threads"
    return "; ".join(", ".join(words) for words in ([*devices, threads], settings, versions) if words)


def warnings(reports: Reports, measured: Sequence[Measured]) -> Iterator[str]:
    """What a reader of the ratios must know first."""
    own = reports[DPAX]
    for name, report in reports.items():
        if _hardware(report) != _hardware(own):
            where = f"{name} computes on {_hardware(report)}, dpax on {_hardware(own)}"
            yield f"{where}: ratios between them compare devices, not programs"
    if reports.get(PYTORCH, {}).get("settings", {}).get("operators") == "missing":
        yield f"{PYTORCH} runs without its operators, which its users have: it cannot run compressed models"
    if None in searches(measured):
        yield (
            f"{PYTORCH} searches neighbours among all pairs, without the vesin-torch that deepmd-kit[torch] "
            "brings: its users have a faster one"
        )


def _hardware(report: dict[str, Any]) -> str:
    if report["kind"] == "cpu":
        return "the CPU"
    number = len(report["devices"])
    return f"{number} {report['kind'].upper()}{'s' * (number != 1)}"
