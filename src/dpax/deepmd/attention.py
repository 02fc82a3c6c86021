"""The attention layers as classes, with DeePMD-kit's names, arguments and dictionaries.

Their mathematics is in `dpax.descriptor.attention`; the classes hold the arrays.
"""

import inspect
from collections.abc import Mapping
from typing import Any, Self

import jax.numpy as jnp
import numpy as np
from flax import nnx
from jaxtyping import Array, Float
from numpy.typing import ArrayLike

from dpax.deepmd import places
from dpax.deepmd.attention_dictionary import (
    AttentionSettings,
    gated_layer,
    neighbor_layer,
    neighbor_layers,
    read_gated_layer,
    read_neighbor_layer,
    read_neighbor_layers,
)
from dpax.deepmd.module import Layer, Module, named_arrays, variables
from dpax.descriptor.attention import Slots, attention_layer, gated_attention, prepare_layer
from dpax.descriptor.initial import plan_attention
from dpax.errors import InputError
from dpax.nn.arrays import Arrays, below, placed
from dpax.nn.initial import Draws, Seed, child_seed
from dpax.nn.precision import jax_dtype


class _AttentionModule(Module):
    """The base of the three classes: their settings, which are attributes too."""

    settings: AttentionSettings

    def __getattr__(self, name: str) -> Any:
        if name in AttentionSettings.model_fields:
            return getattr(self.settings, name)
        raise AttributeError(f"{type(self).__name__} has no attribute {name!r}")


class GatedAttentionLayer(_AttentionModule):
    """One layer of gated self-attention among the neighbours, without residual and normalisation.

    Args:
        nnei: slots of each atom.
        embed_dim: width of the input and output.
        hidden_dim: width of queries, keys and values, all heads together.
        num_heads: heads; must divide `hidden_dim`.
        dotr: multiply the weights by the cosine between the directions of both neighbours.
        do_mask: refused.
        scaling_factor: logits are divided by sqrt(head_dim · scaling_factor).
        normalize: scale queries, keys and values to length 1.
        temperature: factor on the logits instead of the one from `scaling_factor`.
        bias: whether the projections have one.
        smooth: gate by the switching function, so that nothing jumps at the cutoff.
        precision: of the arrays.
        seed: None for fresh entropy.
        trainable: False freezes the arrays.

    Raises:
        InputError: `do_mask`, or heads that do not divide `hidden_dim`.
    """

    def __init__(
        self,
        nnei: int,
        embed_dim: int,
        hidden_dim: int,
        num_heads: int = 1,
        dotr: bool = False,
        do_mask: bool = False,
        scaling_factor: float = 1.0,
        normalize: bool = True,
        temperature: float | None = None,
        bias: bool = True,
        smooth: bool = True,
        precision: str = "float64",
        seed: Seed = None,
        trainable: bool = True,
        *,
        arrays: Arrays | None = None,
    ):
        self.settings = _settings(locals())
        drawn = _drawn(self.settings, seed) if arrays is None else arrays
        own = variables(drawn, lambda _: trainable)
        self.in_proj: Any = Layer(below(own, "in_proj"))
        self.out_proj: Any = Layer(below(own, "out_proj"))

    def arrays(self) -> dict[str, Any]:
        """By name, below `in_proj` and `out_proj`."""
        return named_arrays(self, places.LAYER)

    def __call__(
        self,
        query: ArrayLike,
        nei_mask: ArrayLike,
        input_r: ArrayLike | None = None,
        sw: ArrayLike | None = None,
    ) -> Float[Array, "atoms nnei embed"]:
        """The attention output.

        Args:
            query: features of the neighbours, [atoms, nnei, embed].
            nei_mask: True where a slot holds a neighbour, [atoms, nnei].
            input_r: directions to the neighbours, [atoms, nnei, 3]; needed with `dotr`.
            sw: switching function, [atoms, nnei] or [atoms, nnei, 1]; needed with `smooth`.
        """
        spec, x = self.settings.spec, jnp.asarray(query)
        none = jnp.zeros(self.embed_dim, x.dtype)
        weights = prepare_layer(spec, {**self.arrays(), "norm/w": none, "norm/b": none})
        return gated_attention(x, weights, _slots(x, nei_mask, input_r, sw, self.settings), spec)

    call = __call__

    def serialize(self) -> dict:
        """DeePMD-kit's dictionary of this layer."""
        return gated_layer(self.settings, self.arrays())

    @classmethod
    def deserialize(cls, data: dict) -> Self:
        """Read DeePMD-kit's dictionary of this layer."""
        settings, arrays = read_gated_layer(data)
        return cls(**_arguments(cls, settings), arrays=arrays)


class NeighborGatedAttentionLayer(_AttentionModule):
    """One attention layer with its residual and layer normalisation.

    Args are those of `GatedAttentionLayer`, and:
        trainable_ln: whether scale and shift of the normalisation are trained.
        ln_eps: added to the variance.
        attn_norm: "sum" normalises the input plus the attention, as DeePMD-kit computes and all its trained
            models need; "branch" adds the normalised attention to the input, as the paper prints.
    """

    def __init__(
        self,
        nnei: int,
        embed_dim: int,
        hidden_dim: int,
        dotr: bool = False,
        do_mask: bool = False,
        scaling_factor: float = 1.0,
        normalize: bool = True,
        temperature: float | None = None,
        trainable_ln: bool = True,
        ln_eps: float = 1e-5,
        smooth: bool = True,
        precision: str = "float64",
        seed: Seed = None,
        trainable: bool = True,
        num_heads: int = 1,
        attn_norm: str = "sum",
        *,
        arrays: Arrays | None = None,
    ):
        self.settings = _settings(locals())
        drawn = _drawn(self.settings, seed) if arrays is None else arrays
        self.attention_layer: Any = GatedAttentionLayer(
            **_arguments(GatedAttentionLayer, self.settings), arrays=drawn
        )
        norm = variables(below(drawn, "norm"), lambda _: trainable and trainable_ln)
        self.attn_layer_norm: Any = Layer(norm)

    def arrays(self) -> dict[str, Any]:
        """By name, below `in_proj`, `out_proj` and `norm`."""
        return named_arrays(self, places.ATTENTION_LAYER)

    def __call__(
        self,
        x: ArrayLike,
        nei_mask: ArrayLike,
        input_r: ArrayLike | None = None,
        sw: ArrayLike | None = None,
    ) -> Float[Array, "atoms nnei embed"]:
        """The features after attention; arguments as in `GatedAttentionLayer`."""
        spec, features = self.settings.spec, jnp.asarray(x)
        slots = _slots(features, nei_mask, input_r, sw, self.settings)
        return attention_layer(features, prepare_layer(spec, self.arrays()), slots, spec)

    call = __call__

    def serialize(self) -> dict:
        """DeePMD-kit's dictionary of this layer."""
        return neighbor_layer(self.settings, self.arrays())

    @classmethod
    def deserialize(cls, data: dict) -> Self:
        """Read DeePMD-kit's dictionary of this layer."""
        settings, arrays = read_neighbor_layer(data)
        return cls(**_arguments(cls, settings), arrays=arrays)


class NeighborGatedAttention(_AttentionModule):
    """Several attention layers, one after the other.

    Args are those of `NeighborGatedAttentionLayer`, and:
        layer_num: number of layers; 0 leaves the features as they are.
    """

    def __init__(
        self,
        layer_num: int,
        nnei: int,
        embed_dim: int,
        hidden_dim: int,
        dotr: bool = False,
        do_mask: bool = False,
        scaling_factor: float = 1.0,
        normalize: bool = True,
        temperature: float | None = None,
        trainable_ln: bool = True,
        ln_eps: float = 1e-5,
        smooth: bool = True,
        precision: str = "float64",
        seed: Seed = None,
        trainable: bool = True,
        num_heads: int = 1,
        attn_norm: str = "sum",
        *,
        arrays: Arrays | None = None,
    ):
        self.settings = _settings(locals())
        self.layer_num = layer_num
        options = _arguments(NeighborGatedAttentionLayer, self.settings)
        drawn = arrays
        if drawn is None:
            drawn = {
                name: array
                for number in range(layer_num)
                for name, array in placed(_drawn(self.settings, child_seed(seed, number)), number).items()
            }
        self.attention_layers = nnx.List(
            NeighborGatedAttentionLayer(**options, arrays=below(drawn, number)) for number in range(layer_num)
        )

    def __getitem__(self, index: int) -> NeighborGatedAttentionLayer:
        return self.attention_layers[index]

    def arrays(self) -> dict[str, Any]:
        """By name, those of each layer below its number."""
        return named_arrays(self, places.ATTENTION)

    def __call__(
        self,
        input_G: ArrayLike,
        nei_mask: ArrayLike,
        input_r: ArrayLike | None = None,
        sw: ArrayLike | None = None,
    ) -> Float[Array, "atoms nnei embed"]:
        """The features after all layers; arguments as in `GatedAttentionLayer`."""
        features = jnp.asarray(input_G)
        for layer in self.attention_layers:
            features = layer(features, nei_mask, input_r=input_r, sw=sw)
        return features

    call = __call__

    def serialize(self) -> dict:
        """DeePMD-kit's dictionary of these layers."""
        return neighbor_layers(self.settings, self.arrays(), self.layer_num)

    @classmethod
    def deserialize(cls, data: dict) -> Self:
        """Read DeePMD-kit's dictionary of these layers."""
        settings, count, arrays = read_neighbor_layers(data)
        return cls(count, **_arguments(cls, settings), arrays=arrays)


def _arguments(cls: type, settings: AttentionSettings) -> dict[str, Any]:
    """Those of the settings that a constructor takes."""
    return {name: value for name, value in settings if name in inspect.signature(cls.__init__).parameters}


def _settings(arguments: Mapping[str, Any]) -> AttentionSettings:
    """The settings in the arguments of a constructor.

    Raises:
        InputError: `do_mask`, or values that no layer has.
    """
    if arguments["do_mask"]:
        raise InputError(
            "do_mask=True (masking the diagonal of the attention) is not supported; set it to false"
        )
    jax_dtype(arguments["precision"])
    known = AttentionSettings.model_fields
    return AttentionSettings(**{name: value for name, value in arguments.items() if name in known})


def _drawn(settings: AttentionSettings, seed: Seed) -> dict[str, np.ndarray]:
    """The arrays that a layer starts from."""
    draws, dtype = Draws(seed), jax_dtype(settings.precision)
    arrays = {"norm/w": np.ones(settings.embed_dim), "norm/b": np.zeros(settings.embed_dim)}
    for projection in plan_attention("", settings.embed_dim, settings.hidden_dim, bias=settings.bias):
        arrays |= projection.initial(draws, projection.name)
    return {name: array.astype(dtype) for name, array in arrays.items()}


def _slots(
    g: Array,
    nei_mask: ArrayLike,
    input_r: ArrayLike | None,
    sw: ArrayLike | None,
    settings: AttentionSettings,
) -> Slots:
    """The slots of dense arrays, all of which count."""
    if settings.dotr and input_r is None:
        raise InputError("attention with dotr needs input_r, the directions to the neighbours")
    if settings.smooth and sw is None:
        raise InputError("smooth attention needs sw, the switching function of the neighbours")
    shape = g.shape[:2]
    present = jnp.asarray(nei_mask).reshape(shape).astype(bool)
    switch = present.astype(g.dtype) if sw is None else jnp.asarray(sw, g.dtype).reshape(shape)
    unit = jnp.zeros((*shape, 3), g.dtype) if input_r is None else jnp.asarray(input_r, g.dtype)
    return Slots(present, jnp.where(present, switch, 0.0), unit, jnp.zeros(shape[0], g.dtype))
