"""Affine layers with DeePMD-kit's residual rule, layer normalisation, and networks made of them."""

from collections.abc import Sequence
from itertools import pairwise
from typing import Any, NamedTuple, Self

import jax.numpy as jnp
import numpy as np
from flax import nnx
from jaxtyping import Array, Float

from dpax.errors import InputError
from dpax.nn.activation import activation
from dpax.nn.initial import LAST_LAYER_SCALE, Seed, child_seed, draw
from dpax.nn.module import Module, parameter, to_numpy, value
from dpax.nn.precision import jax_dtype
from dpax.nn.primitives import layer_norm, matmul
from dpax.nn.serialized import (
    NotNegative,
    Width,
    as_numbers,
    check_settings,
    expect,
    expect_same,
    numbers,
    take,
)


class Affine(NamedTuple):
    """The arrays of one layer, free of its module: what compiled functions take."""

    w: Float[Array, "n_in n_out"]
    b: Float[Array, " n_out"] | None
    idt: Float[Array, " n_out"] | None


def dense(
    x: Float[Array, "*rows n_in"], weights: Affine, activation_function: str, resnet: bool
) -> Float[Array, "*rows n_out"]:
    """`activation(x w + b) · idt`, plus x where the widths match, or [x, x] where the width doubles."""
    y = matmul(x, weights.w)
    if weights.b is not None:
        y = y + weights.b
    y = activation(activation_function)(y)
    if weights.idt is not None:
        y = y * weights.idt
    n_in, n_out = weights.w.shape
    if resnet and n_out == n_in:
        y = y + x
    elif resnet and n_out == 2 * n_in:
        y = y + jnp.concatenate([x, x], axis=-1)
    return y


class Layer(Module):
    """One affine layer, DeePMD-kit's `Layer`.

    Args:
        num_in: width of the input.
        num_out: width of the output.
        bias: whether b exists.
        use_timestep: whether a trainable time step scales the branch; only where a residual exists.
        activation_function: DeePMD-kit's name; None for none.
        resnet: whether the input is added where the widths allow it.
        precision: of the arrays.
        seed: None for fresh entropy.
        trainable: False makes the arrays `Fixed`.
        scale: factor on the initial weights (dpax's rule).
    """

    def __init__(
        self,
        num_in: Width,
        num_out: Width,
        bias: bool = True,
        use_timestep: bool = False,
        activation_function: str | None = None,
        resnet: bool = False,
        precision: str = "float64",
        seed: Seed = None,
        trainable: bool = True,
        scale: float = 1.0,
    ):
        self.dtype = jax_dtype(precision)
        self.activation_function = activation_function or "none"
        activation(self.activation_function)
        self.resnet = resnet
        self.trainable = trainable
        self.scale = scale
        drawn = draw("dpax", num_in, num_out, seed, scale)
        has_step = use_timestep and num_out in (num_in, 2 * num_in)
        self.set_arrays(drawn.w, drawn.b if bias else None, drawn.idt if has_step else None)

    def set_arrays(self, w: np.ndarray, b: np.ndarray | None, idt: np.ndarray | None) -> None:
        """Replace all arrays, cast to the layer's precision."""
        self.w: Any = self._variable(w)
        self.b: Any = self._variable(b)
        self.idt: Any = self._variable(idt)

    def _variable(self, array: np.ndarray | None) -> nnx.Variable | None:
        return None if array is None else parameter(np.asarray(array).astype(self.dtype), self.trainable)

    def reinitialize(self, rule: str, seed: Seed) -> None:
        """Draw the arrays anew by a named rule (`dpax.nn.initial`)."""
        drawn = draw(rule, self.w.shape[0], self.w.shape[1], seed, self.scale)
        self.set_arrays(drawn.w, None if self.b is None else drawn.b, None if self.idt is None else drawn.idt)

    def weights(self) -> Affine:
        """The arrays, free of the module."""
        return Affine(value(self.w), value(self.b), value(self.idt))

    def __call__(self, x: Float[Array, "*rows n_in"]) -> Float[Array, "*rows n_out"]:
        """Apply the layer to rows."""
        return dense(x, self.weights(), self.activation_function, self.resnet)

    def serialize(self) -> dict:
        """DeePMD-kit's dictionary of a `Layer`."""
        return {
            "@class": "Layer",
            "@version": 2,
            "bias": self.b is not None,
            "use_timestep": self.idt is not None,
            "activation_function": self.activation_function,
            "resnet": self.resnet,
            "precision": self.dtype.name,
            "trainable": self.trainable,
            "@variables": {"w": to_numpy(self.w), "b": to_numpy(self.b), "idt": to_numpy(self.idt)},
        }

    @classmethod
    def deserialize(cls, data: dict) -> Self:
        """Read DeePMD-kit's dictionary of a `Layer`.

        Raises:
            InputError: settings or arrays that no layer has.
        """
        data = take(data, "Layer", 2)
        arrays = data.pop("@variables")
        w = as_numbers(arrays["w"], "w")
        if w.ndim != 2:
            raise InputError(f"a layer's w has shape {w.shape}; expected two axes, [n_in, n_out]")
        check_settings(cls, {**data, "num_in": w.shape[0], "num_out": w.shape[1]})
        flat = {
            k: None if arrays.get(k) is None else np.ravel(as_numbers(arrays[k], k)) for k in ("b", "idt")
        }
        for name, array in flat.items():
            if array is not None and len(array) != w.shape[1]:
                raise InputError(f"a layer's {name} has length {len(array)}; its w has shape {w.shape}")
        expect("a layer's bias", data.get("bias", True), flat["b"] is not None)
        layer = cls(w.shape[0], w.shape[1], **data)
        with np.errstate(over="ignore"):  # whoever reads a model sees whether its numbers are finite
            layer.set_arrays(w, flat["b"], flat["idt"])
        return layer


class LayerNorm(Module):
    """Layer normalisation with a scale w and a shift b, both of width num_in."""

    def __init__(
        self,
        num_in: Width,
        eps: NotNegative = 1e-5,
        trainable: bool = True,
        precision: str = "float64",
        seed: Seed = None,
    ):
        del seed  # nothing is random here; DeePMD-kit's signature has it
        self.eps = eps
        self.trainable = trainable
        self.dtype = jax_dtype(precision)
        self.w: Any = parameter(np.ones(num_in, self.dtype), trainable)
        self.b: Any = parameter(np.zeros(num_in, self.dtype), trainable)

    def __call__(self, x: Float[Array, "*rows width"]) -> Float[Array, "*rows width"]:
        """Normalise the last axis."""
        return layer_norm(x, value(self.w), value(self.b), self.eps)

    def serialize(self) -> dict:
        """DeePMD-kit's dictionary of a `LayerNorm`."""
        return {
            "@class": "LayerNorm",
            "@version": 1,
            "eps": self.eps,
            "trainable": self.trainable,
            "precision": self.dtype.name,
            "@variables": {"w": to_numpy(self.w), "b": to_numpy(self.b)},
        }

    @classmethod
    def deserialize(cls, data: dict) -> Self:
        """Read DeePMD-kit's dictionary of a `LayerNorm`."""
        data = take(data, "LayerNorm", 1)
        arrays = data.pop("@variables")
        w = numbers(arrays, "w", (None,))
        check_settings(cls, {**data, "num_in": len(w)})
        norm = cls(len(w), **data)
        norm.w, norm.b = w, numbers(arrays, "b", w.shape)
        return norm


class EmbeddingNet(Module):
    """Residual layers of the given widths.

    Args:
        in_dim: width of the input.
        neuron: widths of the layers.
        activation_function: of every layer.
        resnet_dt: a trainable time step on each residual layer.
        precision: of the arrays.
        seed: None for fresh entropy.
        bias: whether the layers have one.
        trainable: one flag, or one per layer.
    """

    def __init__(
        self,
        in_dim: Width,
        neuron: Sequence[Width],
        activation_function: str = "tanh",
        resnet_dt: bool = False,
        precision: str = "float64",
        seed: Seed = None,
        bias: bool = True,
        trainable: bool | Sequence[bool] = True,
    ):
        self.in_dim = in_dim
        self.neuron = tuple(neuron)
        self.activation_function = activation_function
        self.resnet_dt = resnet_dt
        self.dtype = jax_dtype(precision)
        self.bias = bias
        flags = per_layer(trainable, len(self.neuron))
        widths = (in_dim, *self.neuron)
        self.layers = nnx.List(
            Layer(
                n_in,
                n_out,
                bias=bias,
                use_timestep=resnet_dt,
                activation_function=activation_function,
                resnet=True,
                precision=precision,
                seed=child_seed(seed, index),
                trainable=flags[index],
            )
            for index, (n_in, n_out) in enumerate(pairwise(widths))
        )

    def __getitem__(self, index: int) -> Layer:
        return self.layers[index]

    def weights(self) -> tuple[Affine, ...]:
        """The arrays of all layers, free of the module."""
        return tuple(layer.weights() for layer in self.layers)

    def __call__(self, x: Float[Array, "*rows n_in"]) -> Float[Array, "*rows n_out"]:
        """Apply all layers to rows."""
        for layer in self.layers:
            x = layer(x)
        return x

    def serialize(self) -> dict:
        """DeePMD-kit's dictionary of an `EmbeddingNetwork`."""
        return {
            "@class": "EmbeddingNetwork",
            "@version": 2,
            "in_dim": self.in_dim,
            "neuron": list(self.neuron),
            "activation_function": self.activation_function,
            "resnet_dt": self.resnet_dt,
            "bias": self.bias,
            "precision": self.dtype.name,
            "layers": [layer.serialize() for layer in self.layers],
        }

    @classmethod
    def deserialize(cls, data: dict) -> Self:
        """Read DeePMD-kit's dictionary of an `EmbeddingNetwork`."""
        data = take(data, "EmbeddingNetwork", 2)
        layers = [Layer.deserialize(layer) for layer in data.pop("layers")]
        check_settings(cls, data)
        _check_widths(layers, [data["in_dim"], *data["neuron"]])
        net = cls(**data)
        _check_layers(layers, net.layers)
        net.layers = nnx.List(layers)
        return net


class FittingNet(Module):
    """Residual layers of the given widths, then a linear layer of width out_dim.

    Args are those of `EmbeddingNet`; `trainable` has one flag more, for the last layer, and `bias_out`
    says whether that layer has a bias.
    """

    def __init__(
        self,
        in_dim: Width,
        out_dim: Width,
        neuron: Sequence[Width],
        activation_function: str = "tanh",
        resnet_dt: bool = False,
        precision: str = "float64",
        bias_out: bool = True,
        seed: Seed = None,
        trainable: bool | Sequence[bool] = True,
    ):
        self.in_dim = in_dim
        self.out_dim = out_dim
        self.neuron = tuple(neuron)
        self.activation_function = activation_function
        self.resnet_dt = resnet_dt
        self.dtype = jax_dtype(precision)
        self.bias_out = bias_out
        flags = per_layer(trainable, len(self.neuron) + 1)
        hidden = EmbeddingNet(
            in_dim, neuron, activation_function, resnet_dt, precision, seed=seed, trainable=flags[:-1]
        )
        last = Layer(
            (in_dim, *self.neuron)[-1],
            out_dim,
            bias=bias_out,
            precision=precision,
            seed=child_seed(seed, len(self.neuron)),
            trainable=flags[-1],
            scale=LAST_LAYER_SCALE,
        )
        self.layers = nnx.List([*hidden.layers, last])

    def __getitem__(self, index: int) -> Layer:
        return self.layers[index]

    def weights(self) -> tuple[Affine, ...]:
        """The arrays of all layers, free of the module."""
        return tuple(layer.weights() for layer in self.layers)

    def __call__(self, x: Float[Array, "*rows n_in"]) -> Float[Array, "*rows n_out"]:
        """Apply all layers to rows."""
        for layer in self.layers:
            x = layer(x)
        return x

    def serialize(self) -> dict:
        """DeePMD-kit's dictionary of a `FittingNetwork`."""
        return {
            "@class": "FittingNetwork",
            "@version": 1,
            "in_dim": self.in_dim,
            "out_dim": self.out_dim,
            "neuron": list(self.neuron),
            "activation_function": self.activation_function,
            "resnet_dt": self.resnet_dt,
            "precision": self.dtype.name,
            "bias_out": self.bias_out,
            "layers": [layer.serialize() for layer in self.layers],
        }

    @classmethod
    def deserialize(cls, data: dict) -> Self:
        """Read DeePMD-kit's dictionary of a `FittingNetwork`."""
        data = take(data, "FittingNetwork", 1)
        layers = [Layer.deserialize(layer) for layer in data.pop("layers")]
        check_settings(cls, data)
        _check_widths(layers, [data["in_dim"], *data["neuron"], data["out_dim"]])
        net = cls(**data)
        _check_layers(layers, net.layers)
        net.layers = nnx.List(layers)
        net.layers[-1].scale = LAST_LAYER_SCALE
        return net


def apply_layers(
    x: Float[Array, "*rows n_in"], layers: Sequence[Affine], activation_function: str
) -> Float[Array, "*rows n_out"]:
    """Residual layers applied to rows, from their arrays alone."""
    for weights in layers:
        x = dense(x, weights, activation_function, resnet=True)
    return x


def per_layer(flags: bool | Sequence[bool], n_layers: int) -> list[bool]:
    """One flag per layer, from one for all or a list.

    Raises:
        InputError: a list of another length.
    """
    if isinstance(flags, bool):
        return [flags] * n_layers
    if len(flags) != n_layers:
        raise InputError(f"trainable has {len(flags)} flags; expected one for each of {n_layers} layers")
    return list(flags)


def _check_widths(layers: Sequence[Layer], widths: Sequence[int]) -> None:
    """See, before a net of these widths is made, that its layers have them."""
    expect("the shape of a net's layers", [layer.w.shape for layer in layers], list(pairwise(widths)))


def _check_layers(layers: Sequence[Layer], of_net: Sequence[Layer]) -> None:
    """See that layers compute what the settings of their net say: `apply_layers` relies on it."""
    for layer, own in zip(layers, of_net, strict=True):
        expect_same("a net's layer", layer, own, "activation_function", "resnet", "dtype")
