"""DeePMD-kit's dictionaries of attention layers: one without its normalisation, with it, and all layers."""

from collections.abc import Iterator, Mapping
from typing import Any, Literal, Self

import numpy as np
from pydantic import Field, model_validator

from dpax.deepmd import keys, places
from dpax.deepmd.dictionary import checked, compare, layer, layer_norm, take
from dpax.descriptor.attention import AttentionSpec, scaling
from dpax.descriptor.hyperparameters import Width
from dpax.descriptor.initial import plan_attention
from dpax.descriptor.spec import DescriptorSpec
from dpax.nn.arrays import Arrays, below, fitted, placed
from dpax.nn.precision import numpy_dtype
from dpax.settings import Settings


class AttentionSettings(Settings):
    """The options of attention layers."""

    nnei: int = Field(ge=0, description="Slots of each atom.")
    embed_dim: Width = Field(description="Width of the input and output.")
    hidden_dim: Width = Field(description="Width of queries, keys and values, all heads together.")
    num_heads: Width = Field(default=1, description="Heads; must divide hidden_dim.")
    dotr: bool = Field(
        default=False, description="Multiply by the cosine between both neighbours' directions."
    )
    scaling_factor: float = Field(default=1.0, gt=0, description="Logits: (head_dim · scaling_factor)^-1/2.")
    normalize: bool = Field(default=True, description="Queries, keys and values have length 1.")
    temperature: float | None = Field(default=None, gt=0, description="The factor of the logits itself.")
    bias: bool = Field(default=True, description="Whether the projections have one.")
    smooth: bool = Field(default=True, description="Gate by the switching function.")
    precision: str = Field(default="float64", description="Of the arrays.")
    trainable_ln: bool = Field(default=True, description="Whether training changes the normalisation.")
    ln_eps: float = Field(default=1e-5, gt=0, description="Added to its variance.")
    attn_norm: Literal["sum", "branch"] = Field(default="sum", description="What is normalised.")
    trainable: bool = Field(default=True, description="Whether training changes the layers.")

    @model_validator(mode="after")
    def _heads_divide_width(self) -> Self:
        if self.hidden_dim % self.num_heads:
            raise ValueError(f"hidden_dim {self.hidden_dim} cannot be split into {self.num_heads} heads")
        return self

    @property
    def spec(self) -> AttentionSpec:
        """The constants of each layer."""
        return AttentionSpec(
            num_heads=self.num_heads,
            scaling=scaling(self.hidden_dim // self.num_heads, self.scaling_factor, self.temperature),
            normalize=self.normalize,
            smooth=self.smooth,
            dotr=self.dotr,
            ln_eps=self.ln_eps,
            attn_norm=self.attn_norm,
        )

    def array_shapes(self) -> Iterator[tuple[str, tuple[int, ...]]]:
        """Names and shapes of the arrays of a layer."""
        for projection in plan_attention("", self.embed_dim, self.hidden_dim, bias=self.bias):
            yield from projection.shapes().items()
        yield "norm/w", (self.embed_dim,)
        yield "norm/b", (self.embed_dim,)


def attention_settings(spec: DescriptorSpec) -> AttentionSettings:
    """Those of a descriptor's attention layers."""
    return AttentionSettings(
        nnei=spec.nsel,
        embed_dim=spec.neuron[-1],
        hidden_dim=spec.attn,
        dotr=spec.attn_dotr,
        scaling_factor=spec.scaling_factor,
        normalize=spec.normalize,
        temperature=spec.temperature,
        smooth=spec.smooth_type_embedding,
        precision=spec.dtype.name,
        trainable_ln=spec.trainable_ln,
        ln_eps=spec.ln_eps,
        attn_norm=spec.attn_norm,
        trainable=spec.trainable,
    )


def gated_layer(settings: AttentionSettings, arrays: Arrays) -> dict[str, Any]:
    """The dictionary of a layer without its normalisation, from the arrays below `in_proj` and `out_proj`."""
    of_layers = ("none", False, numpy_dtype(settings.precision).name, settings.trainable)
    projections = {name: layer(below(arrays, name), *of_layers) for name in ("in_proj", "out_proj")}
    return keys.written(keys.HEADS, settings) | projections


def neighbor_layer(settings: AttentionSettings, arrays: Arrays) -> dict[str, Any]:
    """The dictionary of a layer with its normalisation."""
    precision, trained = numpy_dtype(settings.precision).name, settings.trainable and settings.trainable_ln
    return {
        **keys.written(keys.NORMALISED, settings),
        "attention_layer": gated_layer(settings, arrays),
        "attn_layer_norm": layer_norm(below(arrays, "norm"), settings.ln_eps, precision, trained),
    }


def neighbor_layers(settings: AttentionSettings, arrays: Arrays, count: int) -> dict[str, Any]:
    """The dictionary of so many layers, from their arrays below their numbers."""
    return {
        "@class": "NeighborGatedAttention",
        "@version": 1,
        "layer_num": count,
        **keys.written(keys.NORMALISED, settings),
        "attention_layers": [neighbor_layer(settings, below(arrays, number)) for number in range(count)],
    }


def read_gated_layer(data: Mapping[str, Any]) -> tuple[AttentionSettings, dict[str, np.ndarray]]:
    """What `gated_layer` has written.

    Raises:
        InputError: settings or arrays that no layer has.
    """
    settings = checked(AttentionSettings, keys.read(keys.HEADS, data, _WHAT), _WHAT)
    arrays = _arrays(data, places.LAYER, settings, normalised=False)
    compare(keys.others(keys.HEADS, data), gated_layer(settings, arrays))
    return settings, arrays


def read_neighbor_layer(data: Mapping[str, Any]) -> tuple[AttentionSettings, dict[str, np.ndarray]]:
    """What `neighbor_layer` has written.

    Raises:
        InputError: settings or arrays that no layer has, or that do not fit each other.
    """
    inner = keys.read(keys.HEADS, data["attention_layer"], _WHAT)
    settings = checked(AttentionSettings, inner | keys.read(keys.NORMALISED, data, _WHAT), _WHAT)
    arrays = _arrays(data, places.ATTENTION_LAYER, settings)
    compare(keys.others(keys.NORMALISED, data), neighbor_layer(settings, arrays))
    return settings, arrays


def read_neighbor_layers(data: Any) -> tuple[AttentionSettings, int, dict[str, np.ndarray]]:
    """What `neighbor_layers` has written: the settings, the number of layers, and their arrays.

    Raises:
        InputError: settings or arrays that no layers have, or that do not fit each other.
    """
    content = take(data, "NeighborGatedAttention", 1)
    layers = content["attention_layers"]
    of_heads = keys.read(keys.HEADS, layers[0]["attention_layer"], _WHAT) if layers else {}
    settings = checked(AttentionSettings, of_heads | keys.read(keys.NORMALISED, content, _WHAT), _WHAT)
    arrays = [_arrays(layer, places.ATTENTION_LAYER, settings) for layer in layers]
    named = {name: array for number, own in enumerate(arrays) for name, array in placed(own, number).items()}
    compare(keys.others(keys.NORMALISED, data), neighbor_layers(settings, named, len(layers)))
    return settings, len(layers), named


_WHAT = "attention layer"


def _arrays(
    data: Any, of: tuple[places.Place, ...], settings: AttentionSettings, *, normalised: bool = True
) -> dict[str, np.ndarray]:
    named = places.renamed(places.arrays_in(data), of, "dictionary")
    shapes = ((name, shape) for name, shape in settings.array_shapes() if normalised or "norm" not in name)
    return fitted(named, shapes, numpy_dtype(settings.precision))
