"""The embedding of element types: one linear layer on one-hot vectors or electron configurations."""

from collections.abc import Sequence
from typing import Any, Self

import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float

from dpax.errors import InputError
from dpax.nn.electron_configuration import electron_configuration
from dpax.nn.initial import Seed
from dpax.nn.layers import EmbeddingNet
from dpax.nn.module import Module
from dpax.nn.precision import jax_dtype
from dpax.nn.serialized import Types, Width, check_settings, expect, expect_same, take


class TypeEmbedNet(Module):
    """A row of numbers for each element type, and a row of zeros for no atom at all.

    Args:
        ntypes: number of types.
        neuron: widths of the layers; DPA-1 has one, `[tebd_dim]`.
        resnet_dt: a trainable time step on residual layers.
        activation_function: of every layer; DPA-1 uses none.
        precision: of the arrays.
        trainable: False freezes the arrays.
        seed: None for fresh entropy.
        padding: append the row of zeros.
        use_econf_tebd: start from the element's electron configuration instead of a one-hot vector.
        use_tebd_bias: whether the layers have a bias.
        type_map: element symbols, needed with `use_econf_tebd`.
    """

    def __init__(
        self,
        *,
        ntypes: Types,
        neuron: Sequence[Width],
        resnet_dt: bool = False,
        activation_function: str = "tanh",
        precision: str = "float64",
        trainable: bool = True,
        seed: Seed = None,
        padding: bool = False,
        use_econf_tebd: bool = False,
        use_tebd_bias: bool = False,
        type_map: Sequence[str] | None = None,
    ):
        self.ntypes = ntypes
        self.neuron = tuple(neuron)
        self.resnet_dt = resnet_dt
        self.activation_function = activation_function
        self.dtype = jax_dtype(precision)
        self.trainable = trainable
        self.padding = padding
        self.use_econf_tebd = use_econf_tebd
        self.use_tebd_bias = use_tebd_bias
        self.type_map = None if type_map is None else tuple(type_map)
        self.embedding_net: Any = EmbeddingNet(
            self.inputs().shape[1],
            neuron,
            activation_function,
            resnet_dt,
            precision,
            seed=seed,
            bias=use_tebd_bias,
            trainable=trainable,
        )

    def inputs(self) -> np.ndarray:
        """What the layers see of each type, [ntypes, ntypes or 118].

        Raises:
            InputError: electron configurations are wanted but the elements' names are not known.
        """
        if not self.use_econf_tebd:
            return np.eye(self.ntypes, dtype=self.dtype)
        if self.type_map is None:
            raise InputError("use_econf_tebd needs type_map, the element symbols of the types")
        return np.stack([electron_configuration(name) for name in self.type_map]).astype(self.dtype)

    def __call__(self) -> Float[Array, "rows tebd_dim"]:
        """The table of embeddings, [ntypes (+ 1 with padding), tebd_dim]."""
        table = self.embedding_net(jnp.asarray(self.inputs()))
        return jnp.pad(table, ((0, 1), (0, 0))) if self.padding else table

    def change_type_map(
        self, type_map: Sequence[str], seed: Seed = None, new_types_from: "TypeEmbedNet | None" = None
    ) -> None:
        """Reorder the types.

        Args:
            type_map: element symbols of the types.
            seed: rows of new types are drawn at random, as a new layer's would be.
            new_types_from: an embedding of these types, whose rows new types get instead.

        Raises:
            InputError: the present types have no names.
        """
        if self.type_map is None:
            raise InputError(
                "the types have no names (type_map is None), so they cannot be matched to new ones"
            )
        old, self.type_map, self.ntypes = self.type_map, tuple(type_map), len(type_map)
        if self.use_econf_tebd:
            return
        layer = self.embedding_net[0]
        if new_types_from is None:
            fresh = EmbeddingNet(self.ntypes, self.neuron, precision=self.dtype.name, seed=seed)[0]
        else:
            fresh = new_types_from.embedding_net[0]
        # With a residual the table is w + I, and the identity belongs to the order of the types.
        w, new = np.asarray(layer.w[...]), np.array(fresh.w[...], layer.dtype)
        before, after = _residual(len(old), w.shape[1]), _residual(self.ntypes, w.shape[1])
        for row, name in enumerate(type_map):
            if name in old:
                new[row] = w[old.index(name)] + (before[old.index(name)] - after[row])
        layer.set_arrays(
            new,
            None if layer.b is None else layer.b[...],
            None if layer.idt is None else layer.idt[...],
        )
        self.embedding_net.in_dim = self.ntypes

    def serialize(self) -> dict:
        """DeePMD-kit's dictionary of a `TypeEmbedNet`."""
        return {
            "@class": "TypeEmbedNet",
            "@version": 2,
            "ntypes": self.ntypes,
            "neuron": list(self.neuron),
            "resnet_dt": self.resnet_dt,
            "precision": self.dtype.name,
            "activation_function": self.activation_function,
            "trainable": self.trainable,
            "padding": self.padding,
            "use_econf_tebd": self.use_econf_tebd,
            "use_tebd_bias": self.use_tebd_bias,
            "type_map": None if self.type_map is None else list(self.type_map),
            "embedding": self.embedding_net.serialize(),
        }

    @classmethod
    def deserialize(cls, data: dict) -> Self:
        """Read DeePMD-kit's dictionary of a `TypeEmbedNet`; version 1 always had a bias.

        Raises:
            InputError: settings or arrays that no type embedding has, or that do not fit each other.
        """
        data = take(data, "TypeEmbedNet", 2)
        embedding = EmbeddingNet.deserialize(data.pop("embedding"))
        data.setdefault("use_tebd_bias", True)
        check_settings(cls, data)
        expect("neuron of the type embedding", embedding.neuron, tuple(data["neuron"]))
        net = cls(**data)
        expect_same(
            "the type embedding", embedding, net.embedding_net, "in_dim", "activation_function", "dtype"
        )
        net.embedding_net = embedding
        return net


def _residual(n_in: int, n_out: int) -> np.ndarray:
    """What the residual rule adds to one-hot rows: I, [I, I] or nothing."""
    eye = np.eye(n_in)
    if n_out == n_in:
        return eye
    return np.hstack([eye, eye]) if n_out == 2 * n_in else np.zeros((n_in, n_out))
