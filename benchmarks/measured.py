"""What came out of a comparison, and the numbers that follow from it."""

from collections.abc import Iterable
from dataclasses import dataclass, field
from itertools import chain
from statistics import median
from typing import Any

import numpy as np
from case import Case
from comparisons import GEMM, Comparison
from roofline import flops
from structures import ATOMS_OF_A_BATCH, FORMULAS


@dataclass
class Measured:
    """One comparison: seconds of each entry, by turn and call, and what its worker said at the start."""

    comparison: Comparison
    cases: dict[str, Case]
    turns: dict[str, list[list[float]]]
    ready: dict[str, dict[str, Any]]
    """The answers of the workers when they were made ready."""
    unavailable: dict[str, str] = field(default_factory=dict)

    def seconds(self, name: str) -> list[float]:
        """Of a call, turn by turn: the median of a turn, whose first call may have had to wake a GPU."""
        return [median(calls) for calls in self.turns[name]]

    def median(self, name: str) -> float:
        """Seconds of a call."""
        return median(self.seconds(name))

    def quartiles(self, name: str) -> tuple[float, float]:
        """Seconds that a quarter of all calls stayed below, and that a quarter went beyond."""
        low, high = np.quantile([call for calls in self.turns[name] for call in calls], (0.25, 0.75))
        return float(low), float(high)

    def ratio(self, own: str, peer: str) -> float:
        """How many times longer the peer takes: the median of the ratios turn by turn."""
        return median(b / a for a, b in zip(self.seconds(own), self.seconds(peer), strict=True))

    def atoms(self, name: str) -> int:
        """Of one repetition."""
        case = self.cases[name]
        if case["task"] == "molecules":
            return sum(sum(f) * -(-ATOMS_OF_A_BATCH // sum(f)) for f in FORMULAS)
        return 3 * case["molecules"] * case["repeats"] ** 3

    def frames(self, name: str) -> int:
        """Of one repetition."""
        if self.cases[name]["task"] == "molecules":
            return sum(-(-ATOMS_OF_A_BATCH // sum(formula)) for formula in FORMULAS)
        return 1

    def flops(self, name: str) -> float | None:
        """Operations of one repetition; None where tables or small molecules leave nothing to compare."""
        case, ready = self.cases[name], self.ready[name]
        if "flops" in ready:
            return ready["flops"]
        descriptor = case["descriptor"]
        slots = next((one["slots"] for one in self.ready.values() if "slots" in one), None)
        if descriptor["attn_layer"] == 0 or case["task"] == "molecules" or slots is None:
            return None
        sizes = {key: descriptor[key] for key in ("neuron", "axis_neuron", "attn", "attn_layer")}
        strip = descriptor["type"] == "se_atten_v2"
        return flops(case["task"], self.atoms(name), slots, **sizes, fitting=case["fitting"], strip=strip)

    def rate(self, name: str) -> float | None:
        """GFLOP/s, from the median time."""
        work = self.flops(name)
        return None if work is None else 1e-9 * work / self.median(name)

    def roof(self, name: str) -> str | None:
        """The entry of the matrix product in the same precision."""
        case = self.cases[name]
        matching = [
            entry.name
            for entry in self.comparison.entries
            if entry.side == GEMM
            and entry.name in self.turns
            and (entry.precision, entry.tf32) == (case["precision"], case["tf32"])
        ]
        return matching[0] if matching else None

    def fraction(self, name: str) -> float | None:
        """Of the rate of a matrix product: the median turn by turn."""
        roof, work = self.roof(name), self.flops(name)
        if roof is None or work is None:
            return None
        return self.ratio(name, roof) * work / self.flops(roof)

    def disagreements(self) -> Iterable[tuple[str, str]]:
        """How far the other sides are from dpax with the same model: largest force component, or loss."""
        for entry in self.comparison.entries:
            own = next(
                (
                    other.name
                    for other in self.comparison.entries
                    if other.side == "dpax" and self._comparable(other.name, entry.name)
                ),
                None,
            )
            result = self.ready.get(entry.name, {}).get("result")
            if result is not None and own is not None and entry.side != "dpax":
                yield entry.name, _difference(result, self.ready[own]["result"])

    def _comparable(self, one: str, other: str) -> bool:
        return one in self.ready and other in self.ready and self._file(one) == self._file(other)

    def _file(self, name: str) -> str:
        return self.cases[name]["file"]

    def record(self) -> dict[str, Any]:
        """Everything, JSON-able."""
        entries = {
            name: {
                "case": {key: value for key, value in self.cases[name].items() if key != "file"},
                "seconds": turns,
                "median_s": self.median(name),
                "quartiles_s": self.quartiles(name),
                "gflop_per_s": self.rate(name),
                "fraction_of_gemm": self.fraction(name),
                "preparation_s": self.ready[name]["seconds"],
            }
            for name, turns in self.turns.items()
        }
        return {
            "what": self.comparison.what,
            "entries": entries,
            "unavailable": self.unavailable,
            "disagreement": dict(self.disagreements()),
        }


def _difference(result: dict[str, Any], own: dict[str, Any]) -> str:
    if "loss" in own:
        return f"loss {abs(result['loss'] / own['loss'] - 1):.1e} (relative)"
    forces = (chain.from_iterable(found["forces"]) for found in (result, own))
    return f"forces {max(abs(a - b) for a, b in zip(*forces, strict=True)):.1e} eV/Å"
