"""What is compared: which sides do what, how often, and what the outcome should be."""

from collections.abc import Sequence
from dataclasses import dataclass, replace
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

SIDES = DPAX, JAX, PYTORCH, GEMM = "dpax", "deepmd-jax", "deepmd-pytorch", "gemm"
WARM_UP = {DPAX: 2, JAX: 2, PYTORCH: 3, GEMM: 2}
"""Calls after the first. DeePMD-kit's JAX step compiles twice; TorchScript profiles twice, then compiles."""


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
    dynamics: bool = False
    """Whether atoms move by 0.01 Å from one evaluation to the next, and not so far that no list is of use."""
    tf32: bool = False
    """Whether products of float32 numbers are made in TF32, which GPUs alone have."""
    gpu: bool = False
    """Whether it would be too much for a CPU."""
    warm_up: int | None = None
    """Calls after the first and before those that are timed; None for as many as the side takes."""

    def on(self, kind: str) -> bool:
        """Whether it is measured on devices of this kind, "cpu" or "gpu"."""
        return kind == "gpu" or not (self.tf32 or self.gpu)

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
            "dynamics": self.dynamics,
            "tf32": self.tf32,
            "warm_up": WARM_UP[self.side] if self.warm_up is None else self.warm_up,
            "file": f"{folder}/{model}{'-compressed' * self.compressed}.dpax",
        }


@dataclass(frozen=True)
class Comparison:
    """Entries that take turns."""

    name: str
    what: str
    entries: Sequence[Entry]
    turns: int

    def on(self, kind: str) -> "Comparison":
        """What of it is measured on devices of this kind."""
        return replace(self, entries=[entry for entry in self.entries if entry.on(kind)])


@dataclass(frozen=True)
class Aim:
    """A row of the table: one number that should be above, or below, a bar."""

    what: str
    comparison: str
    own: str
    peer: str
    bar: str = "–"
    goal: str = "–"
    kind: Literal["ratio", "per atom", "roofline"] = "ratio"
    """ratio: time of the peer ÷ own; per atom: own time of an atom ÷ the peer's; roofline: own rate ÷ its."""


def precisions(task: str, descriptor: str = "se_atten", jax: Sequence[str] = ()) -> list[Entry]:
    """dpax and DeePMD-kit on 192 atoms of water in both precisions, and one large matrix product in each.

    TF32 is what DeePMD-kit's JAX comes with: it is shown so, and in full precision as all others.
    """
    entries = [
        Entry(f"{side} {precision}", side, task, descriptor, precision)
        for precision in ("float32", "float64")
        for side in (DPAX, PYTORCH, GEMM)
    ]
    entries += [Entry(f"{JAX} {precision}", JAX, task, descriptor, precision) for precision in jax]
    if jax:
        entries += [Entry(f"{side} TF32", side, task, descriptor, tf32=True) for side in (JAX, GEMM)]
    return entries


FULL = (
    Comparison("step", "training step, se_atten, 192 atoms", precisions("step", jax=["float32"]), 9),
    Comparison("step-v2", "training step, se_atten_v2, 192 atoms", precisions("step", "se_atten_v2"), 9),
    Comparison(
        "forces",
        "E + F + virial, se_atten, 192 atoms",
        [
            *precisions("forces", jax=["float32", "float64"]),
            Entry("dpax float32, dynamics", DPAX, "forces", dynamics=True),
        ],
        9,
    ),
    Comparison("forces-v2", "E + F + virial, se_atten_v2, 192 atoms", precisions("forces", "se_atten_v2"), 5),
    Comparison(
        "forces-1536",
        "E + F + virial, se_atten, 1,536 atoms",
        [
            Entry("dpax", DPAX, "forces", repeats=2),
            Entry("deepmd-pytorch", PYTORCH, "forces", repeats=2),
            Entry("dpax, dynamics", DPAX, "forces", repeats=2, dynamics=True),
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
            Entry("deepmd-pytorch 12,288", PYTORCH, "forces", repeats=4, gpu=True),
            Entry("dpax 12,288, dynamics", DPAX, "forces", repeats=4, dynamics=True, warm_up=1),
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
        [
            entry
            for entry in one.entries
            if entry.precision == "float32" and entry.side != PYTORCH and not entry.dynamics
        ],
        5,
    )
    for one in FULL
    if one.name in ("step", "forces")
)
MEMORY = tuple(
    Entry(
        f"{side}, {atoms} atoms",
        side,
        "forces",
        repeats=repeats,
        gpu=side == PYTORCH and repeats == 4,
        warm_up=0,
    )
    for side in (DPAX, PYTORCH)
    for repeats, atoms in ((4, "12,288"), (2, "1,536"))
)
"""Processes of their own, whose most memory is asked for."""

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
        "the same, 1,536 atoms that have moved by 0.01 Å, as in dynamics",
        "forces-1536",
        "dpax, dynamics",
        "deepmd-pytorch",
    ),
    Aim("the same, 12,288 atoms", "forces-12288", "dpax 12,288", "deepmd-pytorch 12,288"),
    Aim(
        "the same, 12,288 atoms that have moved by 0.01 Å, as in dynamics",
        "forces-12288",
        "dpax 12,288, dynamics",
        "deepmd-pytorch 12,288",
    ),
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
