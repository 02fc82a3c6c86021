"""What is compared: which sides do what, how often, and what the outcome should be."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Literal

from case import Case
from structures import MOLECULE_TYPES, WATER_TYPES

DESCRIPTORS: dict[str, dict[str, Any]] = {
    "se_atten": {"type": "se_atten", "tebd_input_mode": "concat", "smooth_type_embedding": True},
    "se_atten_v2": {"type": "se_atten_v2"},
    "strip": {"type": "se_atten", "tebd_input_mode": "strip", "smooth_type_embedding": True, "attn_layer": 0},
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

DPAX, JAX, PYTORCH, GEMM = "dpax", "deepmd-jax", "deepmd-pytorch", "gemm"


@dataclass(frozen=True)
class Entry:
    """One side doing one thing."""

    name: str
    side: str
    task: str
    descriptor: str = "se_atten"
    precision: str = "float32"
    repeats: int = 1
    compressed: bool = False
    warm_up: int = 2

    def case(self, sizes: dict[str, Any], folder: str) -> Case:
        """What its worker is told."""
        own = DESCRIPTORS[self.descriptor]
        model = f"{'molecules' if self.task == 'molecules' else 'water'}-{self.descriptor}-{self.precision}"
        return {
            **sizes,
            "task": self.task,
            "precision": self.precision,
            "repeats": min(self.repeats, 2) if sizes is TINY else self.repeats,
            "descriptor": {**sizes["descriptor"], **own},
            "type_map": list(MOLECULE_TYPES if self.task == "molecules" else WATER_TYPES),
            "compressed": self.compressed,
            "warm_up": self.warm_up,
            "file": f"{folder}/{model}{'-compressed' * self.compressed}.dpax",
        }


@dataclass(frozen=True)
class Comparison:
    """Entries that take turns."""

    name: str
    what: str
    entries: Sequence[Entry]
    repetitions: int


@dataclass(frozen=True)
class Aim:
    """A row of the table: one number that should be above, or below, a bar."""

    what: str
    comparison: str
    own: str
    peer: str
    bar: str
    goal: str
    kind: Literal["ratio", "per atom", "roofline"] = "ratio"
    """ratio: time of the peer ÷ own; per atom: own time of an atom ÷ the peer's; roofline: own rate ÷ its."""


def precisions(task: str, descriptor: str = "se_atten", jax: Sequence[str] = ()) -> list[Entry]:
    """dpax and DeePMD-kit on 192 atoms of water in both precisions, and one large matrix product in each."""
    found = [
        Entry(f"{side} {precision}", side, task, descriptor, precision)
        for precision in ("float32", "float64")
        for side in (DPAX, PYTORCH, GEMM)
    ]
    return found + [Entry(f"{JAX} {precision}", JAX, task, descriptor, precision) for precision in jax]


FULL = (
    Comparison("step", "training step, se_atten, 192 atoms", precisions("step", jax=["float32"]), 9),
    Comparison("step-v2", "training step, se_atten_v2, 192 atoms", precisions("step", "se_atten_v2"), 9),
    Comparison(
        "forces", "E + F + virial, se_atten, 192 atoms", precisions("forces", jax=["float32", "float64"]), 9
    ),
    Comparison("forces-v2", "E + F + virial, se_atten_v2, 192 atoms", precisions("forces", "se_atten_v2"), 5),
    Comparison(
        "forces-1536",
        "E + F + virial, se_atten, 1,536 atoms",
        [
            Entry("dpax", DPAX, "forces", repeats=2, warm_up=1),
            Entry("deepmd-pytorch", PYTORCH, "forces", repeats=2, warm_up=1),
            Entry("gemm", GEMM, "forces"),
        ],
        5,
    ),
    Comparison(
        "forces-12288",
        "E + F + virial, se_atten, 12,288 atoms",
        [
            Entry("dpax 12,288", DPAX, "forces", repeats=4, warm_up=1),
            Entry("dpax 192", DPAX, "forces"),
            Entry("gemm", GEMM, "forces"),
        ],
        5,
    ),
    Comparison(
        "molecules",
        "training steps, se_atten, four batches of small molecules",
        [
            Entry(f"{side} {precision}", side, "molecules", precision=precision)
            for precision in ("float32", "float64")
            for side in (DPAX, PYTORCH)
        ],
        9,
    ),
    Comparison(
        "compressed",
        "E + F + virial, strip without attention, 1,536 atoms",
        [
            Entry("dpax compressed", DPAX, "forces", "strip", repeats=2, compressed=True),
            Entry("dpax", DPAX, "forces", "strip", repeats=2),
            Entry("deepmd-pytorch", PYTORCH, "forces", "strip", repeats=2),
            Entry("deepmd-pytorch compressed", PYTORCH, "forces", "strip", repeats=2, compressed=True),
        ],
        7,
    ),
)
SHORT = tuple(
    Comparison(
        one.name,
        one.what,
        [entry for entry in one.entries if entry.precision == "float32" and entry.side != PYTORCH],
        5,
    )
    for one in FULL
    if one.name in ("step", "forces")
)

AIMS = (
    Aim(
        "training step, water, 192 atoms, float32, concat, 2 attention layers, against PyTorch",
        "step",
        "dpax float32",
        "deepmd-pytorch float32",
        "≥ 3",
        "≥ 4",
    ),
    Aim("the same against JAX", "step", "dpax float32", "deepmd-jax float32", "≥ 6", "≥ 8"),
    Aim(
        "training step, `se_atten_v2`, float32, against PyTorch",
        "step-v2",
        "dpax float32",
        "deepmd-pytorch float32",
        "≥ 2.5",
        "≥ 4",
    ),
    Aim(
        "energy + forces + virial, 192 atoms, against PyTorch (`.pth`)",
        "forces",
        "dpax float32",
        "deepmd-pytorch float32",
        "≥ 3.3",
        "≥ 4",
    ),
    Aim("the same, 1,536 atoms", "forces-1536", "dpax", "deepmd-pytorch", "≥ 8", "≥ 12"),
    Aim(
        "time per atom, 12,288 atoms ÷ 192 atoms",
        "forces-12288",
        "dpax 12,288",
        "dpax 192",
        "≤ 1.15",
        "≤ 1.0",
        "per atom",
    ),
    Aim(
        "fraction of one large matrix product's rate, energy + forces",
        "forces",
        "dpax float32",
        "gemm float32",
        "≥ 0.8",
        "≥ 0.9",
        "roofline",
    ),
    Aim("the same, training step", "step", "dpax float32", "gemm float32", "≥ 0.65", "≥ 0.8", "roofline"),
    Aim(
        "training step, float64, against PyTorch in float64",
        "step",
        "dpax float64",
        "deepmd-pytorch float64",
        "≥ 2.5",
        "≥ 4",
    ),
    Aim(
        "energy + forces + virial, float64, against PyTorch in float64",
        "forces",
        "dpax float64",
        "deepmd-pytorch float64",
        "≥ 3",
        "≥ 4",
    ),
    Aim(
        "training step, dpax in float32 against PyTorch in float64",
        "step",
        "dpax float32",
        "deepmd-pytorch float64",
        "≥ 5",
        "≥ 8",
    ),
    Aim(
        "training on small molecules (`nopbc`, four batches), float32, against PyTorch",
        "molecules",
        "dpax float32",
        "deepmd-pytorch float32",
        "≥ 5",
        "≥ 10",
    ),
    Aim(
        "attn_layer 0, strip, compressed, 1,536 atoms, against PyTorch uncompressed",
        "compressed",
        "dpax compressed",
        "deepmd-pytorch",
        "≥ 5",
        "≥ 10",
    ),
    Aim(
        "the same against PyTorch compressed",
        "compressed",
        "dpax compressed",
        "deepmd-pytorch compressed",
        "≥ 1.5",
        "≥ 3",
    ),
)
