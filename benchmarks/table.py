"""Medians, ratios and fractions of what was measured, as a table in Markdown."""

from collections.abc import Sequence
from dataclasses import dataclass, field
from statistics import median
from typing import Any

NAMES = {
    "dpax": "dpax",
    "deepmd-jax": "DeePMD-kit, JAX",
    "deepmd-pytorch": "DeePMD-kit, PyTorch",
    "gemm": "matrix product",
}
TASKS = {"step": "training step", "forces": "energy + forces + virial"}


@dataclass
class Measured:
    """One case: the times of all sides, in seconds, by repetition."""

    case: dict[str, Any]
    flops: float
    """Operations of one repetition of the task."""
    gemm_flops: float
    """Operations of one matrix product."""
    seconds: dict[str, list[float]]
    preparation: dict[str, float] = field(default_factory=dict)
    """Seconds to make ready, compile and warm up."""
    disagreement: dict[str, str] = field(default_factory=dict)
    """How far a side's result is from that of dpax."""

    def rate(self, side: str) -> float:
        """GFLOP/s, from the median time."""
        work = self.gemm_flops if side == "gemm" else self.flops
        return 1e-9 * work / median(self.seconds[side])

    def ratio(self, side: str) -> float:
        """How many times longer than dpax: the median of the ratios repetition by repetition."""
        pairs = zip(self.seconds[side], self.seconds["dpax"], strict=True)
        return median(other / own for other, own in pairs)

    def summary(self) -> dict[str, Any]:
        """Everything, JSON-able."""
        sides = {
            side: {
                "seconds": times,
                "median_s": median(times),
                "ratio_to_dpax": self.ratio(side),
                "gflop_per_s": self.rate(side),
                "fraction_of_gemm": self.rate(side) / self.rate("gemm"),
                "preparation_s": self.preparation.get(side),
                "disagreement": self.disagreement.get(side),
            }
            for side, times in self.seconds.items()
        }
        case = {key: value for key, value in self.case.items() if key != "file"}
        return {"case": case, "flop": self.flops, "sides": sides}


HEAD = """| what | precision | program | median / s | time ÷ dpax's | GFLOP/s | of the matrix product |
| --- | --- | --- | ---: | ---: | ---: | ---: |"""


def table(measured: Sequence[Measured]) -> str:
    """One row for each case and side."""
    return "\n".join([HEAD, *(row for one in measured for row in _rows(one))])


def _rows(one: Measured) -> list[str]:
    case = one.case
    what = f"{TASKS[case['task']]}, {case['descriptor']['type']}"
    return [
        f"| {what} | {case['precision']} | {NAMES[side]} | {median(times):.3f} | {one.ratio(side):.2f} "
        f"| {one.rate(side):.1f} | {one.rate(side) / one.rate('gemm'):.2f} |"
        for side, times in one.seconds.items()
        if side != "gemm"
    ]
