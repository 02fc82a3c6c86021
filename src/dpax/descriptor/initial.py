"""The arrays of a descriptor by name: their initial values, and which of them are trained.

| name | what it is |
| --- | --- |
| `type_embedding/0` | the layer of the type embedding |
| `embedding/N` | layer N of the radial net |
| `pair_embedding/N` | strip: layer N of the net of type pairs |
| `attention/N/in_proj`, `out_proj`, `norm` | attention layer N: projections, and the normalisation after it |
| `degree_gains` | lmax > 1: the gain of each degree from 2 on |
| `mean`, `stddev` | statistics of the environment, [ntypes, 1, 4] |
| `type_pairs`, `table` | compressed: what replaces networks |

A layer has the arrays `w`, `b` and `idt`, as far as it has them.
"""

from collections.abc import Iterable, Iterator

import numpy as np
from jaxtyping import Array

from dpax.descriptor.spec import DescriptorSpec
from dpax.nn.arrays import Arrays
from dpax.nn.initial import Draws, Seed, child_seed
from dpax.nn.layers import LayerPlan, plan_network

_GAIN_DEVIATION = 0.1
"""Deviation of the initial gains of the degrees above 1."""
_NEVER_TRAINED = ("mean", "stddev", "type_pairs", "table")
_SEED_NAMES = {
    "type_embedding": "type_embedding/embedding_net/layers",
    "embedding": "se_atten/embeddings/layers",
    "pair_embedding": "se_atten/embeddings_strip/layers",
    "attention": "se_atten/dpa1_attention/attention_layers",
}
"""The layer names of the first version, by which weights are drawn; other names would give other weights."""


def plan_layers(spec: DescriptorSpec) -> Iterator[LayerPlan]:
    """The affine layers of a descriptor."""
    types = spec.tebd_dim if spec.type_one_side else 2 * spec.tebd_dim
    inputs = 1 if spec.strip else 1 + types
    yield LayerPlan("type_embedding/0", spec.type_inputs, spec.tebd_dim, bias=spec.use_tebd_bias)
    yield from plan_network("embedding/", (inputs, *spec.neuron), timestep=spec.resnet_dt)
    if spec.strip:
        yield from plan_network("pair_embedding/", (types, *spec.neuron), timestep=spec.resnet_dt)
    for number in range(spec.attn_layer):
        yield from plan_attention(f"attention/{number}/", spec.neuron[-1], spec.attn)


def plan_attention(prefix: str, width: int, hidden: int, *, bias: bool = True) -> Iterator[LayerPlan]:
    """The projections of an attention layer."""
    yield LayerPlan(f"{prefix}in_proj", width, 3 * hidden, bias)
    yield LayerPlan(f"{prefix}out_proj", hidden, width, bias)


def array_shapes(spec: DescriptorSpec) -> Iterator[tuple[str, tuple[int, ...]]]:
    """Names and shapes of the arrays of a descriptor that is not compressed."""
    for layer in plan_layers(spec):
        yield from layer.shapes().items()
    for number in range(spec.attn_layer):
        for name in ("w", "b"):
            yield f"attention/{number}/norm/{name}", (spec.neuron[-1],)
    if spec.lmax > 1:
        yield "degree_gains", (spec.lmax - 1,)
    yield "mean", (spec.ntypes, 1, 4)
    yield "stddev", (spec.ntypes, 1, 4)


def initial_arrays(
    spec: DescriptorSpec, seed: Seed = None, rule: str = "dpax", gain_seed: Seed = None
) -> dict[str, np.ndarray]:
    """The arrays of a descriptor with random weights, in its precision.

    Args:
        spec: of the descriptor.
        seed: None for fresh entropy.
        rule: by which weights are drawn, see `dpax.nn.initial`.
        gain_seed: of the gains; None takes `seed`.
    """
    draws, drawn = Draws(seed, rule), {}
    for layer in plan_layers(spec):
        drawn |= layer.initial(draws, _seed_name(layer.name))
    if spec.lmax > 1:
        rng = np.random.default_rng(child_seed(child_seed(seed if gain_seed is None else gain_seed, 0), 3))
        drawn["degree_gains"] = rng.normal(scale=_GAIN_DEVIATION, size=spec.lmax - 1)
    ones = ("stddev", "norm/w")
    return {
        name: drawn.get(name, np.full(shape, float(name.endswith(ones)))).astype(spec.dtype)
        for name, shape in array_shapes(spec)
    }


def _seed_name(name: str) -> str:
    net, number, *projection = name.split("/")
    inner = [*(["attention_layer"] if projection else []), *projection]
    return "/".join([_SEED_NAMES[net], number, *inner])


def trained(spec: DescriptorSpec, names: Iterable[str]) -> frozenset[str]:
    """Those of a descriptor's arrays that training changes."""

    def is_trained(name: str) -> bool:
        part, *inner = name.split("/")
        return part not in _NEVER_TRAINED and (spec.trainable_ln or "norm" not in inner)

    return frozenset(filter(is_trained, names)) if spec.trainable else frozenset()


def with_statistics(
    spec: DescriptorSpec, arrays: Arrays, mean: np.ndarray, stddev: np.ndarray
) -> dict[str, Array | np.ndarray]:
    """The arrays with statistics of data, [ntypes, 4] each; `set_davg_zero` leaves the mean alone."""
    statistics = {"stddev": stddev} if spec.set_davg_zero else {"mean": mean, "stddev": stddev}
    return {**arrays, **{name: array[:, None].astype(spec.dtype) for name, array in statistics.items()}}
