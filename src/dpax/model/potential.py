"""The energy model: atomic energies of a block of atoms from its edge vectors, and nothing else."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple, Self

import jax.numpy as jnp
import numpy as np
from flax import nnx
from jaxtyping import Array, Bool, Float, Int

from dpax.descriptor import block as descriptor_block
from dpax.descriptor.dpa1 import DescrptDPA1
from dpax.descriptor.se_atten_v2 import DescrptSeAttenV2
from dpax.errors import InputError
from dpax.model.fitting import EnergyFitting
from dpax.model.settings import ModelSettings
from dpax.nn.initial import child_seed
from dpax.nn.layers import Affine, Layer, apply_layers, take
from dpax.nn.module import Module


class Block(NamedTuple):
    """A block of atoms with its padded neighbour slots: the unit of work."""

    edges: Float[Array, "block slots 3"]
    """r_j - r_i, Å; zero in empty slots."""
    occupied: Bool[Array, "block slots"]
    types: Int[Array, " block"]
    """Negative for atoms that only pad the array."""
    neighbor_types: Int[Array, "block slots"]
    """In empty slots the type of the first atom of the frame."""


@dataclass(frozen=True)
class ModelSpec:
    """What is constant about a model."""

    descriptor: descriptor_block.Spec
    fitting_activation: str


class ModelWeights(NamedTuple):
    """The arrays of a model in the form that blocks use."""

    descriptor: descriptor_block.Weights
    fitting: tuple[Affine, ...]


def atomic_energies(spec: ModelSpec, weights: ModelWeights, block: Block) -> Float[Array, " block"]:
    """Energies of the atoms of a block without the energy bias of their types, eV; zero for padding."""
    described = descriptor_block.describe(
        spec.descriptor, weights.descriptor, block.edges, block.occupied, block.types, block.neighbor_types
    )
    *hidden, last = weights.fitting
    x = described.descriptor.astype(last.w.dtype)
    x = apply_layers(x, hidden, spec.fitting_activation)
    energies = (x @ last.w)[:, 0]
    if last.b is not None:
        energies = energies + last.b[0]
    return jnp.where(block.types >= 0, energies, 0.0)


class EnergyModel(Module):
    """A DPA-1 energy model: descriptor, fitting net, and an energy bias for each type.

    The bias is kept apart, in float64 on the host: it is thousands of eV where the network's part
    is a few, and float32 sums would lose it.

    Args:
        descriptor: of the atoms' surroundings.
        fitting: from the descriptor to the energy.
        type_map: element symbols of the types.
        bias: [ntypes], eV.
    """

    def __init__(
        self,
        descriptor: DescrptDPA1,
        fitting: EnergyFitting,
        type_map: Sequence[str],
        bias: np.ndarray | None = None,
    ):
        if fitting.dim_descrpt != descriptor.get_dim_out():
            raise InputError(
                f"the fitting net expects a descriptor of width {fitting.dim_descrpt}; "
                f"this one has {descriptor.get_dim_out()}"
            )
        self.descriptor: Any = descriptor
        self.fitting: Any = fitting
        self.type_map = tuple(type_map)
        self.bias = tuple(np.zeros(len(self.type_map)) if bias is None else np.asarray(bias, np.float64))

    @classmethod
    def from_settings(cls, settings: ModelSettings, sel: int | None = None, seed: int | None = None) -> Self:
        """A model with fresh weights.

        Args:
            settings: of the model.
            sel: the number that `sel: "auto"` was resolved to.
            seed: for the weights, where the descriptor's or fitting's settings give none.
        """
        arguments = settings.descriptor.arguments(settings.type_map, sel)
        if arguments.get("seed") is None:
            arguments["seed"] = child_seed(seed, 0)
        v2 = settings.descriptor.type == "se_atten_v2"
        descriptor = (DescrptSeAttenV2 if v2 else DescrptDPA1)(**arguments)
        net = settings.fitting_net
        fitting = EnergyFitting(
            len(settings.type_map),
            descriptor.get_dim_out(),
            neuron=net.neuron,
            resnet_dt=net.resnet_dt,
            activation_function=net.activation_function,
            precision=net.precision,
            trainable=net.trainable,
            rcond=net.rcond,
            type_map=settings.type_map,
            seed=child_seed(seed, 1) if net.seed is None else net.seed,
        )
        return cls(descriptor, fitting, settings.type_map)

    @property
    def rcut(self) -> float:
        """Cut-off radius, Å."""
        return self.descriptor.get_rcut()

    @property
    def dtype(self) -> np.dtype:
        """The precision that the edge vectors are given in: the descriptor's."""
        return self.descriptor.se_atten.dtype

    def spec(self) -> ModelSpec:
        """What is constant about the model."""
        return ModelSpec(self.descriptor.spec(), self.fitting.activation_function)

    def weights(self) -> ModelWeights:
        """The arrays, for `atomic_energies`."""
        return ModelWeights(self.descriptor.weights(), self.fitting.weights())

    def serialize(self) -> dict:
        """DeePMD-kit's dictionary of a model (`Model.serialize()`)."""
        return {
            "@class": "Model",
            "type": "standard",
            "@version": 2,
            "type_map": list(self.type_map),
            "atom_exclude_types": [],
            "pair_exclude_types": [],
            "rcond": self.fitting.rcond,
            "preset_out_bias": None,
            "@variables": {
                "out_bias": np.array(self.bias).reshape(1, -1, 1),
                "out_std": np.ones((1, len(self.type_map), 1)),
            },
            "descriptor": self.descriptor.serialize(),
            "fitting": self.fitting.serialize(),
        }

    @classmethod
    def deserialize(cls, data: dict) -> Self:
        """Read DeePMD-kit's dictionary of a model.

        Raises:
            InputError: not an energy model with a DPA-1 descriptor, or with features not read yet.
        """
        data = take(data, "Model", 2)
        if data.get("type", "standard") != "standard":
            raise InputError(f"the model is of type {data['type']!r}; dpax reads 'standard' energy models")
        for key in ("atom_exclude_types", "pair_exclude_types"):
            if data.get(key):
                raise InputError(f"the model has {key} = {data[key]}, which dpax does not read yet")
        kind = data["descriptor"].get("type")
        classes = {"dpa1": DescrptDPA1, "se_atten": DescrptDPA1, "se_atten_v2": DescrptSeAttenV2}
        if kind not in classes:
            raise InputError(
                f"the model's descriptor is {kind!r}; dpax reads DPA-1 models ({', '.join(classes)})"
            )
        descriptor = classes[kind].deserialize(data["descriptor"])
        fitting, extra = EnergyFitting.deserialize(data["fitting"])
        bias = np.asarray(data["@variables"]["out_bias"], np.float64)[0, :, 0]
        _check_uniform(descriptor)
        return cls(descriptor, fitting, data["type_map"], bias + extra)


def reinitialize(module: Module, rule: str, seed: int | None) -> None:
    """Draw the weights of all layers of a module by a named rule, each from a seed of its own name."""
    for path, layer in nnx.iter_modules(module):
        if isinstance(layer, Layer):
            name = "/".join(map(str, path)).encode()
            layer.reinitialize(rule, None if seed is None else [seed, *name])


def _check_uniform(descriptor: DescrptDPA1) -> None:
    """Statistics of data are the same in every slot; the model relies on it."""
    for name in ("mean", "stddev"):
        array = np.asarray(getattr(descriptor.se_atten, name)[...])
        if np.any(array != array[:, :1]):
            raise InputError(
                f"the model's {name} differs between neighbour slots, as no statistics of data do"
            )
