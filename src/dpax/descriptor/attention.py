"""The attention layers as classes, with DeePMD-kit's names, arguments and dictionaries.

Their mathematics is in `dpax.nn.attention`; the classes hold the arrays.
"""

from typing import Any, Self

import jax.numpy as jnp
from flax import nnx
from jaxtyping import Array, Float

from dpax.errors import InputError
from dpax.nn.attention import (
    AttentionSpec,
    AttentionWeights,
    FoldedWeights,
    Slots,
    attention_layer,
    folded,
    gated_attention,
    split_projection,
)
from dpax.nn.initial import Seed, child_seed
from dpax.nn.layers import Layer, LayerNorm
from dpax.nn.module import Module, value
from dpax.nn.serialized import Count, NotNegative, Positive, Width, check_settings, expect, take

ATTN_NORMS = ("sum", "branch")


class GatedAttentionLayer(Module):
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
        smooth: gate by the switching function, so that nothing jumps at the cut-off.
        precision: of the arrays.
        seed: None for fresh entropy.
        trainable: False freezes the arrays.

    Raises:
        InputError: `do_mask`, or heads that do not divide `hidden_dim`.
    """

    def __init__(
        self,
        nnei: Count,
        embed_dim: Width,
        hidden_dim: Width,
        num_heads: Width = 1,
        dotr: bool = False,
        do_mask: bool = False,
        scaling_factor: Positive = 1.0,
        normalize: bool = True,
        temperature: Positive | None = None,
        bias: bool = True,
        smooth: bool = True,
        precision: str = "float64",
        seed: Seed = None,
        trainable: bool = True,
    ):
        refuse_mask(do_mask, "do_mask")
        if num_heads < 1 or hidden_dim % num_heads:
            raise InputError(f"hidden_dim {hidden_dim} cannot be split into {num_heads} heads")
        self.nnei = nnei
        self.embed_dim = embed_dim
        self.hidden_dim = hidden_dim
        self.num_heads = num_heads
        self.head_dim = hidden_dim // num_heads
        self.dotr = dotr
        self.do_mask = do_mask
        self.scaling_factor = scaling_factor
        self.normalize = normalize
        self.temperature = temperature
        self.bias = bias
        self.smooth = smooth
        self.precision = precision
        self.in_proj: Any = Layer(
            embed_dim,
            3 * hidden_dim,
            bias=bias,
            precision=precision,
            seed=child_seed(seed, 0),
            trainable=trainable,
        )
        self.out_proj: Any = Layer(
            hidden_dim,
            embed_dim,
            bias=bias,
            precision=precision,
            seed=child_seed(seed, 1),
            trainable=trainable,
        )

    @property
    def scaling(self) -> float:
        """Factor on the logits."""
        if self.temperature is not None:
            return self.temperature
        return (self.head_dim * self.scaling_factor) ** -0.5

    def spec(self, ln_eps: float = 1e-5, attn_norm: str = "sum") -> AttentionSpec:
        """What is constant about this layer."""
        return AttentionSpec(
            self.num_heads, self.scaling, self.normalize, self.smooth, self.dotr, ln_eps, attn_norm
        )

    def weights(self, ln_w: Array, ln_b: Array) -> AttentionWeights | FoldedWeights:
        """The arrays of this layer and of the normalisation that follows it."""
        projections = split_projection(self.in_proj.weights())
        weights = AttentionWeights(*projections, self.out_proj.weights(), ln_w, ln_b)
        return folded(weights, self.spec())

    def __call__(
        self,
        query: Float[Array, "atoms nnei embed"],
        nei_mask: Array,
        input_r: Float[Array, "atoms nnei 3"] | None = None,
        sw: Array | None = None,
    ) -> Float[Array, "atoms nnei embed"]:
        """The attention output.

        Args:
            query: features of the neighbours.
            nei_mask: True where a slot holds a neighbour.
            input_r: directions to the neighbours; needed with `dotr`.
            sw: switching function, [atoms, nnei] or [atoms, nnei, 1]; needed with `smooth`.
        """
        none = jnp.zeros(self.embed_dim, query.dtype)
        slots = _slots(query, nei_mask, input_r, sw, self.dotr, self.smooth)
        return gated_attention(query, self.weights(none, none), slots, self.spec())

    call = __call__

    def serialize(self) -> dict:
        """DeePMD-kit's dictionary of this layer."""
        return {
            "nnei": self.nnei,
            "embed_dim": self.embed_dim,
            "hidden_dim": self.hidden_dim,
            "num_heads": self.num_heads,
            "dotr": self.dotr,
            "do_mask": self.do_mask,
            "scaling_factor": self.scaling_factor,
            "normalize": self.normalize,
            "temperature": self.temperature,
            "bias": self.bias,
            "smooth": self.smooth,
            "precision": self.precision,
            "in_proj": self.in_proj.serialize(),
            "out_proj": self.out_proj.serialize(),
        }

    @classmethod
    def deserialize(cls, data: dict) -> Self:
        """Read DeePMD-kit's dictionary of this layer."""
        data = dict(data)
        in_proj, out_proj = (Layer.deserialize(data.pop(name)) for name in ("in_proj", "out_proj"))
        check_settings(cls, data)
        embed, hidden = data["embed_dim"], data["hidden_dim"]
        expect("the shape of the attention's in_proj", in_proj.w.shape, (embed, 3 * hidden))
        expect("the shape of the attention's out_proj", out_proj.w.shape, (hidden, embed))
        layer = cls(**data)
        for projection in (in_proj, out_proj):
            expect("precision of the attention", projection.dtype, layer.in_proj.dtype)
            expect("activation of the attention", projection.activation_function, "none")
        layer.in_proj, layer.out_proj = in_proj, out_proj
        return layer


class NeighborGatedAttentionLayer(Module):
    """One attention layer with its residual and layer normalisation.

    Args are those of `GatedAttentionLayer`, and:
        trainable_ln: whether scale and shift of the normalisation are trained.
        ln_eps: added to the variance.
        attn_norm: "sum" normalises the input plus the attention, as DeePMD-kit computes and all its trained
            models need; "branch" adds the normalised attention to the input, as the paper prints.
    """

    def __init__(
        self,
        nnei: Count,
        embed_dim: Width,
        hidden_dim: Width,
        dotr: bool = False,
        do_mask: bool = False,
        scaling_factor: Positive = 1.0,
        normalize: bool = True,
        temperature: Positive | None = None,
        trainable_ln: bool = True,
        ln_eps: NotNegative = 1e-5,
        smooth: bool = True,
        precision: str = "float64",
        seed: Seed = None,
        trainable: bool = True,
        num_heads: Width = 1,
        attn_norm: str = "sum",
    ):
        check_choice("attn_norm", attn_norm, ATTN_NORMS)
        self.nnei = nnei
        self.embed_dim = embed_dim
        self.hidden_dim = hidden_dim
        self.dotr = dotr
        self.do_mask = do_mask
        self.scaling_factor = scaling_factor
        self.normalize = normalize
        self.temperature = temperature
        self.trainable_ln = trainable_ln
        self.ln_eps = ln_eps
        self.precision = precision
        self.attn_norm = attn_norm
        self.attention_layer: Any = GatedAttentionLayer(
            nnei,
            embed_dim,
            hidden_dim,
            num_heads=num_heads,
            dotr=dotr,
            do_mask=do_mask,
            scaling_factor=scaling_factor,
            normalize=normalize,
            temperature=temperature,
            smooth=smooth,
            precision=precision,
            seed=child_seed(seed, 0),
            trainable=trainable,
        )
        self.attn_layer_norm: Any = LayerNorm(
            embed_dim, eps=ln_eps, trainable=trainable and trainable_ln, precision=precision
        )

    def spec(self) -> AttentionSpec:
        """What is constant about this layer."""
        return self.attention_layer.spec(self.attn_layer_norm.eps, self.attn_norm)

    def weights(self) -> AttentionWeights | FoldedWeights:
        """The arrays of this layer."""
        return self.attention_layer.weights(value(self.attn_layer_norm.w), value(self.attn_layer_norm.b))

    def __call__(
        self,
        x: Float[Array, "atoms nnei embed"],
        nei_mask: Array,
        input_r: Float[Array, "atoms nnei 3"] | None = None,
        sw: Array | None = None,
    ) -> Float[Array, "atoms nnei embed"]:
        """The features after attention; arguments as in `GatedAttentionLayer`."""
        slots = _slots(x, nei_mask, input_r, sw, self.dotr, self.attention_layer.smooth)
        return attention_layer(x, self.weights(), slots, self.spec())

    call = __call__

    def serialize(self) -> dict:
        """DeePMD-kit's dictionary of this layer."""
        return {
            "nnei": self.nnei,
            "embed_dim": self.embed_dim,
            "hidden_dim": self.hidden_dim,
            "dotr": self.dotr,
            "do_mask": self.do_mask,
            "scaling_factor": self.scaling_factor,
            "normalize": self.normalize,
            "temperature": self.temperature,
            "trainable_ln": self.trainable_ln,
            "ln_eps": self.ln_eps,
            "precision": self.precision,
            "attention_layer": self.attention_layer.serialize(),
            "attn_layer_norm": self.attn_layer_norm.serialize(),
            **beyond_deepmd("attn_norm", self.attn_norm, "sum"),
        }

    @classmethod
    def deserialize(cls, data: dict) -> Self:
        """Read DeePMD-kit's dictionary of this layer."""
        data = dict(data)
        attention = GatedAttentionLayer.deserialize(data.pop("attention_layer"))
        norm = LayerNorm.deserialize(data.pop("attn_layer_norm"))
        check_settings(cls, data)
        for name in ("embed_dim", "hidden_dim"):
            expect(f"{name} of an attention layer", getattr(attention, name), data[name])
        expect("the width of a LayerNorm", norm.w.shape, (data["embed_dim"],))
        layer = cls(**data)
        layer.attention_layer, layer.attn_layer_norm = attention, norm
        return layer


class NeighborGatedAttention(Module):
    """Several attention layers, one after the other.

    Args are those of `NeighborGatedAttentionLayer`, and:
        layer_num: number of layers; 0 leaves the features as they are.
    """

    def __init__(
        self,
        layer_num: Count,
        nnei: Count,
        embed_dim: Width,
        hidden_dim: Width,
        dotr: bool = False,
        do_mask: bool = False,
        scaling_factor: Positive = 1.0,
        normalize: bool = True,
        temperature: Positive | None = None,
        trainable_ln: bool = True,
        ln_eps: NotNegative = 1e-5,
        smooth: bool = True,
        precision: str = "float64",
        seed: Seed = None,
        trainable: bool = True,
        num_heads: Width = 1,
        attn_norm: str = "sum",
    ):
        self.layer_num = layer_num
        self.nnei = nnei
        self.embed_dim = embed_dim
        self.hidden_dim = hidden_dim
        self.dotr = dotr
        self.do_mask = do_mask
        self.scaling_factor = scaling_factor
        self.normalize = normalize
        self.temperature = temperature
        self.trainable_ln = trainable_ln
        self.ln_eps = ln_eps
        self.precision = precision
        self.attn_norm = attn_norm
        self.attention_layers = nnx.List(
            NeighborGatedAttentionLayer(
                nnei,
                embed_dim,
                hidden_dim,
                dotr=dotr,
                do_mask=do_mask,
                scaling_factor=scaling_factor,
                normalize=normalize,
                temperature=temperature,
                trainable_ln=trainable_ln,
                ln_eps=ln_eps,
                smooth=smooth,
                precision=precision,
                seed=child_seed(seed, index),
                trainable=trainable,
                num_heads=num_heads,
                attn_norm=attn_norm,
            )
            for index in range(layer_num)
        )

    def __getitem__(self, index: int) -> NeighborGatedAttentionLayer:
        return self.attention_layers[index]

    def __call__(
        self,
        input_G: Float[Array, "atoms nnei embed"],
        nei_mask: Array,
        input_r: Float[Array, "atoms nnei 3"] | None = None,
        sw: Array | None = None,
    ) -> Float[Array, "atoms nnei embed"]:
        """The features after all layers; arguments as in `GatedAttentionLayer`."""
        for layer in self.attention_layers:
            input_G = layer(input_G, nei_mask, input_r=input_r, sw=sw)
        return input_G

    call = __call__

    def serialize(self) -> dict:
        """DeePMD-kit's dictionary of these layers."""
        return {
            "@class": "NeighborGatedAttention",
            "@version": 1,
            "layer_num": self.layer_num,
            "nnei": self.nnei,
            "embed_dim": self.embed_dim,
            "hidden_dim": self.hidden_dim,
            "dotr": self.dotr,
            "do_mask": self.do_mask,
            "scaling_factor": self.scaling_factor,
            "normalize": self.normalize,
            "temperature": self.temperature,
            "trainable_ln": self.trainable_ln,
            "ln_eps": self.ln_eps,
            "precision": self.precision,
            "attention_layers": [layer.serialize() for layer in self.attention_layers],
            **beyond_deepmd("attn_norm", self.attn_norm, "sum"),
        }

    @classmethod
    def deserialize(cls, data: dict) -> Self:
        """Read DeePMD-kit's dictionary of these layers."""
        data = take(data, "NeighborGatedAttention", 1)
        layers = [NeighborGatedAttentionLayer.deserialize(layer) for layer in data.pop("attention_layers")]
        check_settings(cls, data)
        expect("the number of attention layers", len(layers), data["layer_num"])
        for name in ("embed_dim", "hidden_dim"):
            for layer in layers:
                expect(f"{name} of an attention layer", getattr(layer, name), data[name])
        attention = cls(**{**data, "layer_num": 0})
        attention.layer_num, attention.attention_layers = len(layers), nnx.List(layers)
        return attention


def _slots(
    g: Array, nei_mask: Array, input_r: Array | None, sw: Array | None, dotr: bool, smooth: bool
) -> Slots:
    """The slots of dense arrays, all of which count."""
    if dotr and input_r is None:
        raise InputError("attention with dotr needs input_r, the directions to the neighbours")
    if smooth and sw is None:
        raise InputError("smooth attention needs sw, the switching function of the neighbours")
    shape = g.shape[:2]
    present = jnp.asarray(nei_mask).reshape(shape).astype(bool)
    switch = present.astype(g.dtype) if sw is None else jnp.asarray(sw, g.dtype).reshape(shape)
    unit = jnp.zeros((*shape, 3), g.dtype) if input_r is None else jnp.asarray(input_r, g.dtype)
    return Slots(present, jnp.where(present, switch, 0.0), unit, jnp.zeros(shape[0], g.dtype))


def beyond_deepmd(key: str, value: str, default: str) -> dict:
    """A setting that DeePMD-kit does not know: written only where it differs from what DeePMD-kit does."""
    return {} if value == default else {key: value}


def refuse_mask(flag: bool, name: str) -> None:
    """Raise `InputError` where a mask of the diagonal is asked for."""
    if flag:
        raise InputError(
            f"{name}=True (masking the diagonal of the attention) is not supported; set it to false"
        )


def check_choice(name: str, given: str, choices: tuple[str, ...]) -> None:
    """Raise `InputError` for a value that is none of the choices."""
    if given not in choices:
        raise InputError(f"{name} {given!r} is not one of {', '.join(choices)}")
