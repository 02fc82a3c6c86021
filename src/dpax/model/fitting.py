"""The fitting net: from the descriptor of an atom to its energy, without the energy bias of its type.

The arrays of a fitting net by name: `N/w`, `N/b` and `N/idt` of layer N, the last one linear; `fparam_avg`,
`fparam_inv_std`, `aparam_avg` and `aparam_inv_std` where it takes parameters; `case_embd` in a head of a
multi-task model.
"""

from collections.abc import Iterable, Iterator, Sequence
from typing import NamedTuple

import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float

from dpax.errors import InputError
from dpax.model.fitting_spec import FittingSpec
from dpax.nn.arrays import Arrays
from dpax.nn.initial import LAST_LAYER_SCALE, Draws, Seed
from dpax.nn.layers import Affine, LayerPlan, apply_layers, network, plan_network
from dpax.nn.primitives import in_the_wider, matmul, per_row


class FittingWeights(NamedTuple):
    """The arrays of a fitting net in the form that blocks use."""

    layers: tuple[Affine, ...]
    """The last one is linear."""
    parameters: tuple[Float[Array, " inputs"], Float[Array, " inputs"]] | None
    """Mean of the frame and atomic parameters, and one over their deviation; None without parameters."""
    case: Float[Array, " cases"] | None
    """One-hot vector of the head of a multi-task model; None for other models."""


def fit(
    weights: FittingWeights,
    activation_function: str,
    descriptor: Float[Array, "block width"],
    parameters: Float[Array, "block inputs"],
) -> Float[Array, " block"]:
    """Energies from descriptors and parameters."""
    *hidden, last = weights.layers
    x = descriptor.astype(last.w.dtype)
    if weights.parameters is not None:
        mean, inverse = weights.parameters
        parameters, mean, inverse = in_the_wider((parameters, mean, inverse))
        normalized = (parameters - per_row(mean, parameters)) * per_row(inverse, parameters)
        x = jnp.concatenate([x, normalized.astype(x.dtype)], axis=-1)
    if weights.case is not None:
        case = jnp.broadcast_to(weights.case, (x.shape[0], weights.case.shape[0]))
        x = jnp.concatenate([x, case], axis=-1)
    x = apply_layers(x, hidden, activation_function)
    energies = matmul(x, last.w)[:, 0]
    return energies if last.b is None else energies + last.b[0]


def prepare_fitting(spec: FittingSpec, arrays: Arrays) -> FittingWeights:
    """What blocks use, from the named arrays of a fitting net."""
    case = arrays.get("case_embd")
    return FittingWeights(
        network(arrays), _parameters(spec, arrays), None if case is None else jnp.asarray(case)
    )


def _parameters(spec: FittingSpec, arrays: Arrays) -> tuple[Array, Array] | None:
    names = [name for name, n in zip(("fparam", "aparam"), spec.parameters, strict=True) if n]
    if not names:
        return None
    mean, inverse = (
        jnp.concatenate([jnp.asarray(arrays[f"{name}_{kind}"]) for name in names])
        for kind in ("avg", "inv_std")
    )
    return mean, inverse


def plan_layers(spec: FittingSpec) -> Iterator[LayerPlan]:
    """The layers of a fitting net."""
    *hidden, last = plan_network("", (spec.inputs, *spec.neuron, 1), timestep=spec.resnet_dt)
    yield from hidden
    yield last._replace(timestep=False, scale=LAST_LAYER_SCALE)


def array_shapes(spec: FittingSpec) -> Iterator[tuple[str, tuple[int, ...]]]:
    """Names and shapes of the arrays of a fitting net."""
    for layer in plan_layers(spec):
        yield from layer.shapes().items()
    for kind, count in (("fparam", spec.numb_fparam), ("aparam", spec.numb_aparam)):
        if count:
            yield f"{kind}_avg", (count,)
            yield f"{kind}_inv_std", (count,)
    if spec.dim_case_embd:
        yield "case_embd", (spec.dim_case_embd,)


def initial_arrays(spec: FittingSpec, seed: Seed = None, rule: str = "dpax") -> dict[str, np.ndarray]:
    """The arrays of a fitting net with random weights, in its precision.

    Args:
        spec: of the net.
        seed: None for fresh entropy.
        rule: by which weights are drawn, see `dpax.nn.initial`.
    """
    # Weights are drawn by the layer names of the first version; other names would give other weights.
    draws, drawn = Draws(seed, rule), {}
    for layer in plan_layers(spec):
        drawn |= layer.initial(draws, f"net/layers/{layer.name}")
    return {
        name: drawn.get(name, np.full(shape, float(name.endswith("inv_std")))).astype(spec.dtype)
        for name, shape in array_shapes(spec)
    }


def trained(spec: FittingSpec, names: Iterable[str]) -> frozenset[str]:
    """Those of a fitting net's arrays that training changes."""
    layers = {str(number) for number, is_trained in enumerate(spec.trained_layers) if is_trained}
    return frozenset(name for name in names if name.partition("/")[0] in layers)


def with_statistics(
    spec: FittingSpec, arrays: Arrays, mean: np.ndarray, deviation: np.ndarray
) -> dict[str, Array | np.ndarray]:
    """The arrays with mean and deviation of the data's parameters, [fparam + aparam] each."""
    n, changed = spec.numb_fparam, dict(arrays)
    for kind, part in (("fparam", slice(0, n)), ("aparam", slice(n, None))):
        if f"{kind}_avg" in arrays and len(mean[part]):
            changed[f"{kind}_avg"] = mean[part].astype(spec.dtype)
            changed[f"{kind}_inv_std"] = (1.0 / deviation[part]).astype(spec.dtype)
    return changed


def without_case(spec: FittingSpec, arrays: Arrays) -> tuple[FittingSpec, dict[str, Array | np.ndarray]]:
    """The net without its one-hot input of the head of a multi-task model.

    That input is constant, so that it can be a part of the first layer's bias.

    Raises:
        InputError: the first layer adds its input to its output, and would do otherwise without.
    """
    if not spec.dim_case_embd:
        return spec, dict(arrays)
    w, b, case = (np.asarray(arrays[name]) for name in ("0/w", "0/b", "case_embd"))
    width = w.shape[0] - spec.dim_case_embd
    if w.shape[1] in (w.shape[0], 2 * w.shape[0], width, 2 * width):
        raise InputError(
            "the fitting net's first layer has a skip connection, part of which is of the inputs for the "
            "heads of a multi-task model, which a model of one task cannot have"
        )
    others = {name: array for name, array in arrays.items() if name != "case_embd"}
    return spec.changed(dim_case_embd=0), {**others, "0/w": w[:width], "0/b": b + case @ w[width:]}


def change_types(spec: FittingSpec, old: Sequence[str], new: Sequence[str]) -> FittingSpec:
    """The type-dependent settings, matched to a new type_map."""
    remaining = None
    if spec.zero_energies:
        named = dict(zip(old, spec.zero_energies, strict=True))
        remaining = tuple(named.get(name) for name in new)
        if spec.subtracts_zero_descriptor and all(energy is None for energy in remaining):
            remaining = (0.0,) * len(new)  # one entry keeps the subtraction, which concerns every type
    excluded = tuple(new.index(old[t]) for t in spec.exclude_types if old[t] in new)
    return spec.changed(ntypes=len(new), exclude_types=excluded, zero_energies=remaining)
