"""dpax side by side with DeePMD-kit: the same weights, the same cores, the same run, taking turns.

    python benchmarks/run.py [--short | --smoke] [--torch-python PATH] [--repetitions N] [--json FILE]

What is timed: a training step, and energy with forces and virial, of one frame of 192 atoms of water, for
`se_atten` (concat, smooth) and `se_atten_v2` in float32 and float64. Ratios are medians of the ratios of
neighbouring repetitions, which a machine that grows slower or faster moves little. The fraction is that of
the rate of one large matrix product on all cores, measured between the others.
"""

import argparse
import json
import platform
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from contextlib import ExitStack
from itertools import chain, product
from pathlib import Path
from typing import Any, TextIO

from case import Case, cores
from roofline import flops
from table import NAMES, Measured, table

WORKERS = Path(__file__).with_name("workers.py")
DESCRIPTORS: dict[str, dict[str, Any]] = {
    "se_atten": {"type": "se_atten", "tebd_input_mode": "concat", "smooth_type_embedding": True},
    "se_atten_v2": {"type": "se_atten_v2"},
}
LARGE: dict[str, Any] = {
    "molecules": 64,
    "fitting": [240, 240, 240],
    "descriptor": {
        "rcut": 6.0,
        "rcut_smth": 0.5,
        "sel": 120,
        "neuron": [25, 50, 100],
        "axis_neuron": 16,
        "attn": 128,
        "attn_layer": 2,
    },
}
TINY: dict[str, Any] = {
    "molecules": 8,
    "fitting": [8],
    "descriptor": {
        "rcut": 3.0,
        "rcut_smth": 0.5,
        "sel": 24,
        "neuron": [4, 8],
        "axis_neuron": 4,
        "attn": 8,
        "attn_layer": 1,
    },
}
"""To see that every worker works; its times mean nothing."""


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
            raise SystemExit(f"{NAMES[self.name]} has died:\n{Path(self._log.name).read_text()[-3000:]}")
        return json.loads(line)

    def close(self) -> None:
        """Let the process end."""
        assert self._process.stdin is not None
        self._process.stdin.close()
        self._process.wait()


def cases(arguments: argparse.Namespace, folder: Path) -> Iterator[Case]:
    """What is to be measured."""
    sizes = TINY if arguments.smoke else LARGE
    precisions = ("float32",) if arguments.short else ("float32", "float64")
    descriptors = ("se_atten",) if arguments.short else DESCRIPTORS
    for task, precision, descriptor in product(("step", "forces"), precisions, descriptors):
        yield {
            **sizes,
            "task": task,
            "precision": precision,
            "descriptor": {**DESCRIPTORS[descriptor], **sizes["descriptor"]},
            "file": str(folder / "model.dpax"),
        }


def measure(case: Case, sides: list[Side], repetitions: int) -> Measured:
    """Time a case on all sides, one repetition of each in turn."""
    ready = {side.name: side.ask(prepare=case) for side in sides}
    descriptor = {key: case["descriptor"][key] for key in ("neuron", "axis_neuron", "attn", "attn_layer")}
    strip = case["descriptor"]["type"] == "se_atten_v2"
    work = flops(
        case["task"],
        3 * case["molecules"],
        ready["dpax"]["slots"],
        **descriptor,
        fitting=case["fitting"],
        strip=strip,
    )
    seconds: dict[str, list[float]] = {side.name: [] for side in sides}
    for number in range(repetitions):
        # There and back, so that nobody always runs behind the same neighbour.
        for side in sides if number % 2 == 0 else reversed(sides):
            seconds[side.name].append(side.ask(run=True)["seconds"])
    return Measured(
        case,
        work,
        ready["gemm"]["flops"],
        seconds,
        {name: answer["seconds"] for name, answer in ready.items()},
        {name: disagreement(answer["result"], ready["dpax"]["result"]) for name, answer in ready.items()},
    )


def disagreement(result: dict[str, Any] | None, own: dict[str, Any]) -> str:
    """How far a side is from dpax, in the largest force component or the loss."""
    if result is None:
        return "not compared"
    if "loss" in own:
        return f"loss {abs(result['loss'] / own['loss'] - 1):.1e} (relative)"
    forces = (chain.from_iterable(found["forces"]) for found in (result, own))
    return f"forces {max(abs(a - b) for a, b in zip(*forces, strict=True)):.1e} eV/Å"


def start_sides(arguments: argparse.Namespace, folder: Path, stack: ExitStack) -> list[Side]:
    """The processes, dpax first: it writes the model that the others read."""
    pythons = dict.fromkeys(("dpax", "gemm", "deepmd-jax"), sys.executable)
    if arguments.torch_python and not arguments.short:
        pythons["deepmd-pytorch"] = arguments.torch_python
    sides = []
    for name, python in pythons.items():
        log = stack.enter_context((folder / f"{name}.log").open("w", encoding="utf-8"))
        sides.append(Side(name, python, log))
        stack.callback(sides[-1].close)
    return sides


def machine() -> str:
    """Processor and cores."""
    info = Path("/proc/cpuinfo")
    lines = info.read_text().splitlines() if info.exists() else []
    names = [line.partition(":")[2].strip() for line in lines if line.startswith("model name")]
    return f"{names[0] if names else platform.processor() or platform.machine()}, {cores()} cores"


def make_parser() -> argparse.ArgumentParser:
    """The command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    length = parser.add_mutually_exclusive_group()
    length.add_argument("--short", action="store_true", help="se_atten in float32 against JAX only")
    length.add_argument("--smoke", action="store_true", help="tiny sizes, once: does every worker work?")
    parser.add_argument("--torch-python", help="Python of an environment with torch and deepmd-kit")
    parser.add_argument("--repetitions", type=int, help="of each case (default: 9; with --short 5)")
    parser.add_argument("--json", type=Path, help="write all times to this file")
    return parser


def main() -> None:
    """Measure and print."""
    arguments = make_parser().parse_args()
    repetitions = arguments.repetitions or (1 if arguments.smoke else 5 if arguments.short else 9)
    measured = []
    with tempfile.TemporaryDirectory() as folder, ExitStack() as stack:
        sides = start_sides(arguments, Path(folder), stack)
        for case in cases(arguments, Path(folder)):
            measured.append(measure(case, sides, repetitions))
            print(
                f"measured: {case['task']} {case['descriptor']['type']} {case['precision']}", file=sys.stderr
            )
    print(f"{machine()}; {repetitions} repetition{'s' * (repetitions != 1)}\n")
    print(table(measured))
    print("\nResults beside those of dpax: " + "; ".join(agreements(measured)))
    if arguments.json:
        content = {"machine": machine(), "cases": [one.summary() for one in measured]}
        arguments.json.write_text(json.dumps(content, indent=1) + "\n", encoding="utf-8")


def agreements(measured: list[Measured]) -> list[str]:
    """How far the sides are from each other."""
    return [
        f"{NAMES[name]}, {one.case['descriptor']['type']} in {one.case['precision']}: {text}"
        for one in measured
        for name, text in one.disagreement.items()
        if name not in ("dpax", "gemm") and text != "not compared"
    ]


if __name__ == "__main__":
    main()
