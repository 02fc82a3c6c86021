"""How much arithmetic DPA-1 is, so that a time can be compared with that of one large matrix product.

Only matrix products are counted, two operations for each multiplication with its addition. Everything else
(exponentials, norms, gates, memory traffic) is not counted, and its time counts as lost.
"""

from collections.abc import Sequence
from itertools import pairwise

UNITS = {"forces": 3, "step": 9}
"""Forward passes' worth of arithmetic. A reverse pass costs twice its forward pass: energy and forces are
1 + 2, and the parameter gradient of a loss of forces is three times that."""


def forward_flops(
    slots: int,
    neuron: Sequence[int] = (25, 50, 100),
    axis_neuron: int = 16,
    tebd_dim: int = 8,
    attn: int = 128,
    attn_layer: int = 2,
    fitting: Sequence[int] = (240, 240, 240),
    strip: bool = False,
) -> dict[str, float]:
    """Operations of one forward pass for one atom, by part.

    With the defaults and 104 slots they add up to 35 million: 46 % are the projections to q, k and v, 32 %
    the products of q with k and of the weights with v, and 15 % the output projections.

    Args:
        slots: K, of which each may hold a neighbour.
        neuron: widths of the embedding net; the last is g.
        axis_neuron: m.
        tebd_dim: width of the type embedding; in strip mode a table holds what depends on types.
        attn: a, the width of queries, keys and values.
        attn_layer: L.
        fitting: widths of the fitting net.
        strip: whether the embedding net sees the distance alone.
    """
    g = neuron[-1]
    embedding = pairwise([1 if strip else 1 + 2 * tebd_dim, *neuron])
    energy = pairwise([g * axis_neuron + tebd_dim, *fitting, 1])
    return {
        "embedding net": 2 * slots * sum(a * b for a, b in embedding),
        "q, k, v": attn_layer * 2 * slots * g * 3 * attn,
        "q·k and weights·v": attn_layer * 2 * 2 * slots**2 * attn,
        "directions": attn_layer * 2 * slots**2 * 3,
        "output projection": attn_layer * 2 * slots * attn * g,
        "moments": 2 * slots * g * 4 + 2 * g * axis_neuron * 4,
        "fitting net": 2 * sum(a * b for a, b in energy),
    }


def flops(task: str, atoms: int, slots: int, **sizes) -> float:
    """Operations of one repetition of a task."""
    return UNITS[task] * atoms * sum(forward_flops(slots, **sizes).values())


if __name__ == "__main__":
    parts = forward_flops(104)
    total = sum(parts.values())
    for name, count in parts.items():
        print(f"{name:20s} {count / 1e6:7.2f} MFLOP {100 * count / total:5.1f} %")
    print(f"{'one forward pass':20s} {total / 1e6:7.2f} MFLOP per atom at 104 slots")
