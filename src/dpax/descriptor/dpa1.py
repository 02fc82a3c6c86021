"""The public classes of the DPA-1 descriptor, with DeePMD-kit's names, arguments and dictionaries.

Source: D. Zhang et al., "DPA-1: Pretraining of attention-based deep potential model for molecular
simulation", npj Comput. Mater. 10, 94 (2024), arXiv:2208.08236. The mathematics is not here: these classes
hold arrays and hand them to `dpax.descriptor.block.describe`.
"""

import warnings
from collections.abc import Callable, Iterable, Sequence
from typing import Any, ClassVar, Self

import jax
import jax.numpy as jnp
import numpy as np
from flax import nnx
from jax.core import Tracer
from jaxtyping import Array, Float, Int

from dpax.descriptor.block import Described, Spec, Weights, describe, kept_pairs
from dpax.descriptor.compression import Compression, Knots, TableError, radial_range, table_error, tabulate
from dpax.descriptor.environment import UNSEEN_DEVIATION, EnvironmentStatistics
from dpax.errors import InputError
from dpax.geometry.neighbors import find_edges
from dpax.nn.attention import (
    AttentionSpec,
    AttentionWeights,
    Slots,
    attention_layer,
    gated_attention,
    split_projection,
)
from dpax.nn.initial import Seed, child_seed
from dpax.nn.layers import EmbeddingNet, Layer, LayerNorm, apply_layers, take
from dpax.nn.module import Fixed, Module, parameter, to_numpy, value
from dpax.nn.precision import jax_dtype
from dpax.nn.type_embedding import TypeEmbedNet

_GAIN_DEVIATION = 0.1
"""Deviation of the initial gains of the degrees above 1."""
ATTN_NORMS = ("sum", "branch")
EMPTY_SLOTS = ("dense", "ignore")


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
    ):
        _refuse_mask(do_mask, "do_mask")
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

    def weights(self, ln_w: Array, ln_b: Array) -> AttentionWeights:
        """The arrays of this layer and of the normalisation that follows it."""
        projections = split_projection(self.in_proj.weights())
        return AttentionWeights(*projections, self.out_proj.weights(), ln_w, ln_b)

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
        in_proj, out_proj = data.pop("in_proj"), data.pop("out_proj")
        layer = cls(**data)
        layer.in_proj = Layer.deserialize(in_proj)
        layer.out_proj = Layer.deserialize(out_proj)
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
    ):
        _check_choice("attn_norm", attn_norm, ATTN_NORMS)
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

    def weights(self) -> AttentionWeights:
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
            **_beyond_deepmd("attn_norm", self.attn_norm, "sum"),
        }

    @classmethod
    def deserialize(cls, data: dict) -> Self:
        """Read DeePMD-kit's dictionary of this layer."""
        data = dict(data)
        attention, norm = data.pop("attention_layer"), data.pop("attn_layer_norm")
        layer = cls(**data)
        layer.attention_layer = GatedAttentionLayer.deserialize(attention)
        layer.attn_layer_norm = LayerNorm.deserialize(norm)
        return layer


class NeighborGatedAttention(Module):
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
            **_beyond_deepmd("attn_norm", self.attn_norm, "sum"),
        }

    @classmethod
    def deserialize(cls, data: dict) -> Self:
        """Read DeePMD-kit's dictionary of these layers."""
        data = take(data, "NeighborGatedAttention", 1)
        layers = data.pop("attention_layers")
        attention = cls(**{**data, "layer_num": 0})
        attention.layer_num = len(layers)
        attention.attention_layers = nnx.List(
            NeighborGatedAttentionLayer.deserialize(layer) for layer in layers
        )
        return attention


class DescrptBlockSeAtten(Module):
    """The descriptor without its type embedding, which the caller supplies.

    Args:
        rcut: cut-off radius, Å.
        rcut_smth: where the switching function leaves 1, Å.
        sel: slots per atom, one number or several that are added up; a constant of the model, not a
            limit: more neighbours than that all count.
        ntypes: number of types.
        neuron: widths of the embedding net.
        axis_neuron: columns of the moments that they are multiplied with.
        tebd_dim: width of the type embedding.
        tebd_input_mode: "concat" or "strip".
        resnet_dt: a trainable time step on residual layers.
        type_one_side: embed the neighbour's type alone.
        attn: width of queries, keys and values.
        attn_layer: number of attention layers.
        attn_dotr: weigh attention by the cosine between directions.
        attn_mask: refused.
        exclude_types: pairs of types that do not see each other.
        env_protection: added to distances in denominators, Å.
        set_davg_zero: statistics leave the mean at zero.
        activation_function: of the embedding nets.
        precision: of the arrays.
        scaling_factor: see `GatedAttentionLayer`.
        normalize: see `GatedAttentionLayer`.
        temperature: see `GatedAttentionLayer`.
        trainable_ln: whether layer normalisation is trained.
        ln_eps: added to its variance; None is 1e-5.
        smooth: gate by the switching function, so that nothing jumps at the cut-off.
        seed: None for fresh entropy.
        trainable: False freezes all arrays.
        lmax: highest angular degree of the moments, 1 to 4.
        empty_slots: "dense" counts empty slots as DeePMD-kit does; "ignore" makes the descriptor
            independent of `sel` but for its scale.
        attn_norm: see `NeighborGatedAttentionLayer`.

    Raises:
        InputError: values that make no sense, or that are refused.
    """

    def __init__(
        self,
        rcut: float,
        rcut_smth: float,
        sel: int | Sequence[int],
        ntypes: int,
        neuron: Sequence[int] = (25, 50, 100),
        axis_neuron: int = 8,
        tebd_dim: int = 8,
        tebd_input_mode: str = "concat",
        resnet_dt: bool = False,
        type_one_side: bool = False,
        attn: int = 128,
        attn_layer: int = 2,
        attn_dotr: bool = True,
        attn_mask: bool = False,
        exclude_types: Iterable[Sequence[int]] = (),
        env_protection: float = 0.0,
        set_davg_zero: bool = False,
        activation_function: str = "tanh",
        precision: str = "float64",
        scaling_factor: float = 1.0,
        normalize: bool = True,
        temperature: float | None = None,
        trainable_ln: bool = True,
        ln_eps: float | None = 1e-5,
        smooth: bool = True,
        seed: Seed = None,
        trainable: bool = True,
        lmax: int = 1,
        empty_slots: str = "dense",
        attn_norm: str = "sum",
    ):
        _refuse_mask(attn_mask, "attn_mask")
        _check_choice("tebd_input_mode", tebd_input_mode, ("concat", "strip"))
        _check_choice("empty_slots", empty_slots, EMPTY_SLOTS)
        if not 0.0 <= rcut_smth < rcut:
            raise InputError(f"rcut_smth {rcut_smth} must lie between 0 and rcut {rcut}")
        if lmax not in (1, 2, 3, 4):
            raise InputError(f"lmax {lmax} is not one of 1, 2, 3, 4")
        if not 1 <= axis_neuron <= neuron[-1]:
            raise InputError(f"axis_neuron {axis_neuron} must lie between 1 and neuron[-1] = {neuron[-1]}")
        self.rcut = float(rcut)
        self.rcut_smth = float(rcut_smth)
        self.sel = (int(sel),) if isinstance(sel, (int, np.integer)) else tuple(int(s) for s in sel)
        self.nnei = sum(self.sel)
        self.ntypes = ntypes
        self.neuron = tuple(neuron)
        self.axis_neuron = axis_neuron
        self.tebd_dim = tebd_dim
        self.tebd_input_mode = tebd_input_mode
        self.resnet_dt = resnet_dt
        self.type_one_side = type_one_side
        self.attn = attn
        self.attn_layer = attn_layer
        self.attn_dotr = attn_dotr
        self.attn_mask = attn_mask
        self.env_protection = float(env_protection)
        self.set_davg_zero = set_davg_zero
        self.activation_function = activation_function
        self.precision = precision
        self.dtype = jax_dtype(precision)
        self.scaling_factor = scaling_factor
        self.normalize = normalize
        self.temperature = temperature
        self.trainable_ln = trainable_ln
        self.ln_eps = 1e-5 if ln_eps is None else ln_eps
        self.smooth = smooth
        self.trainable = trainable
        self.lmax = lmax
        self.empty_slots = empty_slots
        self.attn_norm = attn_norm
        self.reinit_exclude(exclude_types)

        types_width = tebd_dim if type_one_side else 2 * tebd_dim
        strip = tebd_input_mode == "strip"
        self.embeddings: Any = self._network(1 if strip else 1 + types_width, child_seed(seed, 0))
        self.embeddings_strip: Any = self._network(types_width, child_seed(seed, 1)) if strip else None
        self.dpa1_attention: Any = NeighborGatedAttention(
            attn_layer,
            self.nnei,
            self.neuron[-1],
            attn,
            dotr=attn_dotr,
            scaling_factor=scaling_factor,
            normalize=normalize,
            temperature=temperature,
            trainable_ln=trainable_ln,
            ln_eps=self.ln_eps,
            smooth=smooth,
            precision=precision,
            seed=child_seed(seed, 2),
            trainable=trainable,
            attn_norm=attn_norm,
        )
        gains = np.random.default_rng(child_seed(seed, 3)).normal(scale=_GAIN_DEVIATION, size=lmax - 1)
        self.adam_degree_gain_raw: Any = parameter(gains.astype(self.dtype), trainable) if lmax > 1 else None
        self.compression: Any = None
        self.isotropic = True
        self.mean: Any = Fixed(jnp.zeros((ntypes, self.nnei, 4), self.dtype))
        self.stddev: Any = Fixed(jnp.ones((ntypes, self.nnei, 4), self.dtype))

    def __setattr__(self, name: str, value: Any) -> None:
        super().__setattr__(name, value)
        if name in ("mean", "stddev"):
            self.isotropic = _is_isotropic(self.__dict__.get("mean"), self.__dict__.get("stddev"))

    def _network(self, in_dim: int, seed: Seed) -> EmbeddingNet:
        return EmbeddingNet(
            in_dim,
            self.neuron,
            self.activation_function,
            self.resnet_dt,
            self.precision,
            seed=seed,
            trainable=self.trainable,
        )

    def reinit_exclude(self, exclude_types: Iterable[Sequence[int]] = ()) -> None:
        """Set the pairs of types that do not see each other; order within a pair does not matter."""
        self.exclude_types = tuple((int(a), int(b)) for a, b in exclude_types)
        for pair in self.exclude_types:
            if not all(0 <= t < self.ntypes for t in pair):
                raise InputError(f"exclude_types has {pair}; the types are 0 to {self.ntypes - 1}")

    def spec(self, concat_output_tebd: bool = False) -> Spec:
        """What is constant about the descriptor."""
        return Spec(
            rcut=self.rcut,
            rcut_smth=self.rcut_smth,
            sel=self.nnei,
            axis_neuron=self.axis_neuron,
            lmax=self.lmax,
            strip=self.tebd_input_mode == "strip",
            type_one_side=self.type_one_side,
            smooth=self.smooth,
            activation_function=self.activation_function,
            env_protection=self.env_protection,
            excluded=self.exclude_types,
            isotropic=self.isotropic,
            empty_slots=self.empty_slots,
            concat_output_tebd=concat_output_tebd,
            attention=self.dpa1_attention[0].spec() if self.attn_layer else None,
        )

    def weights(self, tebd: Float[Array, "types tebd_dim"], per_slot: bool = False) -> Weights:
        """The arrays that blocks use.

        Args:
            tebd: the type embedding with its row for no atom, [ntypes + 1, tebd_dim].
            per_slot: give each slot its own statistics, as arrays set by hand may have; otherwise the
                first slot's stand for all.
        """
        slots = slice(None) if per_slot else slice(0, 1)
        pad = ((0, 1), (0, 0), (0, 0))
        return Weights(
            tebd=tebd,
            embedding=self.embeddings.weights(),
            pairs=None if self.embeddings_strip is None else self._type_pairs(tebd),
            mean=jnp.pad(value(self.mean)[:, slots], pad),
            stddev=jnp.pad(value(self.stddev)[:, slots], pad, constant_values=1.0),
            gains=value(self.adam_degree_gain_raw),
            attention=tuple(layer.weights() for layer in self.dpa1_attention.attention_layers),
            table=None if self.compression is None else self.compression.weights(),
        )

    def _type_pairs(self, tebd: Float[Array, "types tebd_dim"]) -> Float[Array, "types types neuron"]:
        """The strip network on every (centre, neighbour); its input is the neighbour's embedding first."""
        n = tebd.shape[0]
        if self.compression is not None:
            return self.compression.pairs(n)
        if self.type_one_side:
            return jnp.broadcast_to(self.embeddings_strip(tebd)[None], (n, n, self.neuron[-1]))
        neighbor = jnp.broadcast_to(tebd[None], (n, n, self.tebd_dim))
        center = jnp.broadcast_to(tebd[:, None], (n, n, self.tebd_dim))
        return self.embeddings_strip(jnp.concatenate([neighbor, center], axis=-1))

    def enable_compression(
        self,
        tebd: Float[Array, "types tebd_dim"],
        min_nbor_dist: float,
        table_extrapolate: float = 5,
        table_stride_1: float = 0.01,
        table_stride_2: float = 0.1,
        check_frequency: int = -1,
    ) -> None:
        """Keep tables in the place of networks; see `DescrptDPA1.enable_compression`.

        Args:
            tebd: the type embedding with its row for no atom, [ntypes + 1, tebd_dim].
            min_nbor_dist: smallest distance between two atoms in the data, Å.
            table_extrapolate: see there, as all that follow.
            table_stride_1: see there.
            table_stride_2: see there.
            check_frequency: see there.
        """
        if self.compression is not None:
            raise InputError("the descriptor is compressed already")
        if self.tebd_input_mode != "strip":
            raise InputError(
                "only descriptors with tebd_input_mode 'strip' can be compressed; this one has 'concat'"
            )
        if self.resnet_dt:
            raise InputError("a descriptor with resnet_dt cannot be compressed; DeePMD-kit would not read it")
        table = None
        if self.attn_layer == 0:
            mean, stddev = (np.asarray(a[...], np.float64)[..., 0] for a in (self.mean, self.stddev))
            lower, upper = radial_range(mean, stddev, min_nbor_dist, self.rcut, self.rcut_smth)
            top = table_extrapolate * upper
            knots = Knots(lower, upper, top, table_stride_1, table_stride_2, check_frequency)
            table = tabulate(self._radial_net(), knots, self.dtype)
        else:
            warnings.warn(
                "with attention layers only the type embedding is compressed, which changes neither numbers "
                "nor speed",
                UserWarning,
                stacklevel=3,
            )
        pairs = self._type_pairs(tebd)
        rows = (pairs[:1] if self.type_one_side else pairs).reshape(-1, self.neuron[-1])
        self.compression = nnx.data(Compression(rows, table))

    def _radial_net(self) -> Callable[[Array], Array]:
        """The radial embedding net on a list of numbers, in float64."""
        layers = jax.tree.map(lambda a: np.asarray(a, np.float64), self.embeddings.weights())
        return lambda x: apply_layers(x[:, None], layers, self.activation_function)

    def compression_error(self) -> TableError:
        """The largest deviation of the radial table from its network; see `DescrptDPA1`."""
        table = None if self.compression is None else self.compression.table
        if table is None:
            raise InputError(
                "the descriptor has no table of its radial network: compress it without attention layers"
            )
        return table_error(table, self._radial_net())

    def load_compression(self, data: dict) -> None:
        """Compute with the tables of a dictionary; see `Compression.deserialize`."""
        rows = (self.ntypes + 1) ** (1 if self.type_one_side else 2)
        self.compression = nnx.data(Compression.deserialize(data, (rows, self.neuron[-1]), self.dtype))

    def describe_dense(
        self,
        nlist: Int[Array, "frames nloc nnei"],
        coord_ext: Float[Array, "frames _"],
        atype_ext: Int[Array, "frames nall"],
        type_embedding: Float[Array, "types tebd_dim"],
        concat_output_tebd: bool,
    ) -> Described:
        """Describe the local atoms of extended systems; atoms of all frames stand on one axis."""
        nf, nloc, nnei = nlist.shape
        coord = jnp.reshape(jnp.asarray(coord_ext), (nf, -1, 3)).astype(self.dtype)
        atype = jnp.asarray(atype_ext)
        occupied = nlist >= 0
        index = jnp.where(occupied, nlist, 0).reshape(nf, -1)
        neighbors = jnp.take_along_axis(coord, index[..., None], axis=1).reshape(nf, nloc, nnei, 3)
        edges = jnp.where(occupied[..., None], neighbors - coord[:, :nloc, None], 0.0)
        neighbor_types = jnp.take_along_axis(atype, index, axis=1)
        return describe(
            self.spec(concat_output_tebd),
            self.weights(type_embedding, per_slot=True),
            edges.reshape(-1, nnei, 3),
            occupied.reshape(-1, nnei),
            atype[:, :nloc].reshape(-1),
            neighbor_types.reshape(-1, nnei),
        )

    def __call__(
        self,
        nlist: Int[Array, "frames nloc nnei"],
        coord_ext: Float[Array, "frames _"],
        atype_ext: Int[Array, "frames nall"],
        atype_embd_ext: Array | None = None,
        mapping: Array | None = None,
        type_embedding: Float[Array, "types tebd_dim"] | None = None,
    ) -> tuple[Array, Array, Array, Array, Array]:
        """The descriptor, pair features, environment directions, rotation matrix and switch.

        Args:
            nlist: neighbours of each local atom, -1 in empty slots.
            coord_ext: coordinates of all atoms with their periodic images, Å.
            atype_ext: types of the same.
            atype_embd_ext: not used: rows of `type_embedding`.
            mapping: not used by this descriptor.
            type_embedding: [ntypes + 1, tebd_dim].
        """
        del atype_embd_ext, mapping
        if type_embedding is None:
            raise InputError("DescrptBlockSeAtten needs type_embedding, the table of TypeEmbedNet")
        nf, nloc, nnei = nlist.shape
        out = self.describe_dense(nlist, coord_ext, atype_ext, type_embedding, False)
        mean, stddev = (
            jnp.pad(value(a), ((0, 1), (0, 0), (0, 0)), constant_values=c)
            for a, c in ((self.mean, 0.0), (self.stddev, 1.0))
        )
        types = jnp.asarray(atype_ext)[:, :nloc].reshape(-1)
        rows = (out.environment.rows - mean[types]) / stddev[types]
        ng = self.neuron[-1]
        return (
            out.descriptor.reshape(nf, nloc, -1),
            out.pair.reshape(nf, nloc, nnei, ng),
            rows[..., 1:].reshape(nf, nloc, nnei, 3),
            out.rotation.reshape(nf, nloc, ng, 3),
            out.environment.switch.reshape(nf, nloc, nnei, 1),
        )

    call = __call__

    def get_rcut(self) -> float:
        """Cut-off radius, Å."""
        return self.rcut

    def get_rcut_smth(self) -> float:
        """Where the switching function leaves 1, Å."""
        return self.rcut_smth

    def get_nsel(self) -> int:
        """Slots per atom."""
        return self.nnei

    def get_sel(self) -> list[int]:
        """Slots per atom, as given."""
        return list(self.sel)

    def get_ntypes(self) -> int:
        """Number of types."""
        return self.ntypes

    def get_dim_in(self) -> int:
        """Width of the type embedding that comes in."""
        return self.tebd_dim

    def get_dim_out(self) -> int:
        """Width of the descriptor."""
        return self.neuron[-1] * self.axis_neuron

    def get_dim_emb(self) -> int:
        """Width of the embedding net."""
        return self.neuron[-1]

    def get_env_protection(self) -> float:
        """Added to distances in denominators, Å."""
        return self.env_protection

    def mixed_types(self) -> bool:
        """True: the neighbour list does not distinguish types."""
        return True

    def has_message_passing(self) -> bool:
        """False: an atom's descriptor depends on atoms within one cut-off."""
        return False

    def need_sorted_nlist_for_lower(self) -> bool:
        """False: the order of neighbours does not matter."""
        return False

    @property
    def dim_in(self) -> int:
        """Width of the type embedding that comes in."""
        return self.get_dim_in()

    @property
    def dim_out(self) -> int:
        """Width of the descriptor."""
        return self.get_dim_out()

    @property
    def dim_emb(self) -> int:
        """Width of the embedding net."""
        return self.get_dim_emb()

    def __getitem__(self, key: str) -> Array:
        return value(getattr(self, _statistic(key)))

    def __setitem__(self, key: str, value: Any) -> None:
        setattr(self, _statistic(key), value)

    def statistics(self) -> EnvironmentStatistics:
        """An empty accumulator of this descriptor's statistics."""
        return EnvironmentStatistics(
            self.ntypes,
            self.rcut,
            self.rcut_smth,
            self.env_protection,
            ~kept_pairs(self.exclude_types, self.ntypes),
        )

    def set_statistics(self, mean: np.ndarray, stddev: np.ndarray) -> None:
        """Use these statistics, [ntypes, 4] each, for all slots; `set_davg_zero` leaves the mean alone."""
        shape = (self.ntypes, self.nnei, 4)
        if not self.set_davg_zero:
            self.mean = np.broadcast_to(mean[:, None], shape)
        self.stddev = np.broadcast_to(stddev[:, None], shape)

    def compute_input_stats(self, merged: Callable[[], list[dict]] | list[dict], path: Any = None) -> None:
        """Set mean and deviation from samples of data.

        Args:
            merged: dictionaries with `coord` [frames, atoms·3] (Å), `atype` [frames, atoms] and `box`
                [frames, 9] (Å) or None, or a function that returns them.
            path: not used; training caches statistics itself.
        """
        del path
        accumulator = self.statistics()
        for system in merged() if callable(merged) else merged:
            box = system.get("box")
            for number, types in enumerate(np.asarray(system["atype"])):
                positions = np.asarray(system["coord"], float).reshape(len(system["atype"]), -1, 3)[number]
                cell = None if box is None else np.asarray(box, float).reshape(-1, 3, 3)[number]
                real = types >= 0
                edges = find_edges(positions[real], cell, [cell is not None] * 3, self.rcut)
                accumulator.add(types[real], edges.i, edges.j, edges.vectors)
        self.set_statistics(*accumulator.mean_and_deviation(self.nnei))

    def change_types(
        self, old: Sequence[str], new: Sequence[str], stat_from: "DescrptBlockSeAtten | None"
    ) -> None:
        """Reorder the statistics and exclusions; new types take theirs from `stat_from` where given.

        Raises:
            InputError: the descriptor is compressed.
        """
        if self.compression is not None:
            raise InputError(
                "a compressed descriptor's types cannot change; take the model before compression"
            )
        mean, stddev = np.asarray(self.mean[...]), np.asarray(self.stddev[...])
        shape = (len(new), self.nnei, 4)
        new_mean, new_stddev = np.zeros(shape, mean.dtype), np.full(shape, UNSEEN_DEVIATION, mean.dtype)
        if stat_from is not None:
            new_mean[:] = np.asarray(stat_from.mean[:, :1])
            new_stddev[:] = np.asarray(stat_from.stddev[:, :1])
        for row, name in enumerate(new):
            if name in old:
                new_mean[row], new_stddev[row] = mean[old.index(name)], stddev[old.index(name)]
        self.ntypes = len(new)
        self.mean, self.stddev = new_mean, new_stddev
        kept = [pair for pair in self.exclude_types if all(old[t] in new for t in pair)]
        self.reinit_exclude([(new.index(old[a]), new.index(old[b])) for a, b in kept])

    def arguments(self) -> dict:
        """The settings that both serialised forms, the block's and the descriptor's, hold."""
        return {
            "rcut": self.rcut,
            "rcut_smth": self.rcut_smth,
            "sel": list(self.sel),
            "ntypes": self.ntypes,
            "neuron": list(self.neuron),
            "axis_neuron": self.axis_neuron,
            "tebd_dim": self.tebd_dim,
            "tebd_input_mode": self.tebd_input_mode,
            "set_davg_zero": self.set_davg_zero,
            "attn": self.attn,
            "attn_layer": self.attn_layer,
            "attn_dotr": self.attn_dotr,
            "attn_mask": False,
            "activation_function": self.activation_function,
            "resnet_dt": self.resnet_dt,
            "scaling_factor": self.scaling_factor,
            "normalize": self.normalize,
            "temperature": self.temperature,
            "trainable_ln": self.trainable_ln,
            "ln_eps": self.ln_eps,
            "type_one_side": self.type_one_side,
            "precision": self.dtype.name,
            "exclude_types": [list(pair) for pair in self.exclude_types],
            "env_protection": self.env_protection,
            "trainable": self.trainable,
            **({} if self.lmax == 1 else {"lmax": self.lmax}),
            **_beyond_deepmd("empty_slots", self.empty_slots, "dense"),
            **_beyond_deepmd("attn_norm", self.attn_norm, "sum"),
        }

    def networks(self) -> dict:
        """The serialised networks and arrays that both forms hold."""
        arrays = {"davg": to_numpy(self.mean), "dstd": to_numpy(self.stddev)}
        if self.lmax > 1:
            arrays["degree_gain_raw"] = to_numpy(self.adam_degree_gain_raw)
        data = {
            "embeddings": _collect(self.embeddings, self.ntypes),
            "attention_layers": self.dpa1_attention.serialize(),
            "env_mat": {
                "rcut": self.rcut,
                "rcut_smth": self.rcut_smth,
                "protection": self.env_protection,
                "use_exp_switch": False,
            },
            "@variables": arrays,
        }
        if self.embeddings_strip is not None:
            data["embeddings_strip"] = _collect(self.embeddings_strip, self.ntypes)
        return data

    def load_networks(self, data: dict) -> None:
        """Take over what `networks` has written."""
        arrays = data["@variables"]
        self.embeddings = _collected(data["embeddings"])
        if self.embeddings_strip is not None:
            self.embeddings_strip = _collected(data["embeddings_strip"])
        self.dpa1_attention = NeighborGatedAttention.deserialize(data["attention_layers"])
        self.mean, self.stddev = arrays["davg"], arrays["dstd"]
        if self.lmax > 1:
            self.adam_degree_gain_raw = arrays["degree_gain_raw"]

    def serialize(self) -> dict:
        """DeePMD-kit's dictionary of this block."""
        return {
            "@class": "DescriptorBlock",
            "type": "dpa1",
            "@version": 1 if self.lmax == 1 else 2,
            **self.arguments(),
            "smooth": self.smooth,
            **self.networks(),
        }

    @classmethod
    def deserialize(cls, data: dict) -> Self:
        """Read DeePMD-kit's dictionary of this block."""
        data = take(data, "DescriptorBlock", 2)
        data.pop("type", None)
        networks = {key: data.pop(key, None) for key in _NETWORK_KEYS}
        block = cls(**data)
        block.load_networks(networks)
        return block


class DescrptDPA1(Module):
    """The DPA-1 descriptor: what an atom's surroundings look like, in numbers that no rotation changes.

    Args are those of `DescrptBlockSeAtten`, and:
        smooth_type_embedding: `smooth` of the block.
        concat_output_tebd: append the type embedding of the atom itself.
        spin: refused.
        stripped_type_embedding: deprecated; True is `tebd_input_mode="strip"`, False "concat".
        use_econf_tebd: embed electron configurations instead of one-hot types.
        use_tebd_bias: whether the type embedding has a bias.
        type_map: element symbols of the types.

    Raises:
        InputError: values that make no sense, or that are refused.
    """

    serialized_type: ClassVar[str] = "dpa1"
    block_fixed: ClassVar[tuple[str, ...]] = ()
    """Settings that this kind of descriptor fixes, and therefore does not write."""

    def __init__(
        self,
        rcut: float,
        rcut_smth: float,
        sel: int | Sequence[int],
        ntypes: int,
        neuron: Sequence[int] = (25, 50, 100),
        axis_neuron: int = 8,
        tebd_dim: int = 8,
        tebd_input_mode: str = "concat",
        resnet_dt: bool = False,
        trainable: bool = True,
        type_one_side: bool = False,
        attn: int = 128,
        attn_layer: int = 2,
        attn_dotr: bool = True,
        attn_mask: bool = False,
        exclude_types: Iterable[Sequence[int]] = (),
        env_protection: float = 0.0,
        set_davg_zero: bool = False,
        activation_function: str = "tanh",
        precision: str = "float64",
        scaling_factor: float = 1.0,
        normalize: bool = True,
        temperature: float | None = None,
        trainable_ln: bool = True,
        ln_eps: float | None = 1e-5,
        smooth_type_embedding: bool = True,
        concat_output_tebd: bool = True,
        spin: None = None,
        stripped_type_embedding: bool | None = None,
        use_econf_tebd: bool = False,
        use_tebd_bias: bool = False,
        type_map: Sequence[str] | None = None,
        seed: Seed = None,
        lmax: int = 1,
        empty_slots: str = "dense",
        attn_norm: str = "sum",
    ):
        if spin is not None:
            raise InputError("spin is not supported by this descriptor; leave it out or set it to null")
        if stripped_type_embedding is not None:
            tebd_input_mode = "strip" if stripped_type_embedding else "concat"
            warnings.warn(
                f"stripped_type_embedding is deprecated: use tebd_input_mode={tebd_input_mode!r}",
                DeprecationWarning,
                stacklevel=2,
            )
        self.se_atten: Any = DescrptBlockSeAtten(
            rcut,
            rcut_smth,
            sel,
            ntypes,
            neuron=neuron,
            axis_neuron=axis_neuron,
            tebd_dim=tebd_dim,
            tebd_input_mode=tebd_input_mode,
            resnet_dt=resnet_dt,
            type_one_side=type_one_side,
            attn=attn,
            attn_layer=attn_layer,
            attn_dotr=attn_dotr,
            attn_mask=attn_mask,
            exclude_types=exclude_types,
            env_protection=env_protection,
            set_davg_zero=set_davg_zero,
            activation_function=activation_function,
            precision=precision,
            scaling_factor=scaling_factor,
            normalize=normalize,
            temperature=temperature,
            trainable_ln=trainable_ln,
            ln_eps=ln_eps,
            smooth=smooth_type_embedding,
            seed=child_seed(seed, 0),
            trainable=trainable,
            lmax=lmax,
            empty_slots=empty_slots,
            attn_norm=attn_norm,
        )
        self.type_embedding: Any = TypeEmbedNet(
            ntypes=ntypes,
            neuron=[tebd_dim],
            padding=True,
            activation_function="Linear",
            precision=precision,
            use_econf_tebd=use_econf_tebd,
            use_tebd_bias=use_tebd_bias,
            type_map=type_map,
            seed=child_seed(seed, 1),
            trainable=trainable,
        )
        self.tebd_dim = tebd_dim
        self.concat_output_tebd = concat_output_tebd
        self.use_econf_tebd = use_econf_tebd
        self.use_tebd_bias = use_tebd_bias
        self.type_map = None if type_map is None else tuple(type_map)
        self.trainable = trainable
        self.precision = precision

    def spec(self) -> Spec:
        """What is constant about the descriptor, for `dpax.descriptor.block.describe`."""
        return self.se_atten.spec(self.concat_output_tebd)

    def weights(self) -> Weights:
        """The arrays, for `dpax.descriptor.block.describe`."""
        return self.se_atten.weights(self.type_embedding())

    @property
    def mean(self) -> Any:
        """Mean of the environment matrix, [ntypes, nnei, 4]."""
        return self.se_atten.mean

    @mean.setter
    def mean(self, array: Array) -> None:
        self.se_atten.mean = array

    @property
    def stddev(self) -> Any:
        """Deviation of the environment matrix, [ntypes, nnei, 4]."""
        return self.se_atten.stddev

    @stddev.setter
    def stddev(self, array: Array) -> None:
        self.se_atten.stddev = array

    def __setattr__(self, name: str, value: Any) -> None:
        if name in ("mean", "stddev"):
            object.__setattr__(self, name, value)
        else:
            super().__setattr__(name, value)

    def __call__(
        self,
        coord_ext: Float[Array, "frames _"],
        atype_ext: Int[Array, "frames nall"],
        nlist: Int[Array, "frames nloc nnei"],
        mapping: Array | None = None,
        fparam: Array | None = None,
        comm_dict: dict | None = None,
        charge_spin: Array | None = None,
    ) -> tuple[Array, Array, None, None, Array]:
        """Describe the local atoms of extended systems.

        Args:
            coord_ext: [frames, nall·3] or [frames, nall, 3], Å: the local atoms first, then their images.
            atype_ext: types; negative ones are virtual.
            nlist: neighbours of each local atom, -1 in empty slots; `sum(sel)` slots.
            mapping: not used by this descriptor, nor are the arguments after it.
            fparam: not used.
            comm_dict: not used.
            charge_spin: not used.

        Returns:
            The descriptor [frames, nloc, ng·axis_neuron (+ tebd_dim)], the rotation matrix
            [frames, nloc, ng, 3], None, None and the switch [frames, nloc, nnei, 1], all in the
            precision of the coordinates.

        Raises:
            InputError: another number of slots than `sum(sel)`.
        """
        del mapping, fparam, comm_dict, charge_spin
        nlist = jnp.asarray(nlist)
        nf, nloc, nnei = nlist.shape
        if nnei != self.get_nsel():
            raise InputError(f"nlist has {nnei} slots per atom; sum(sel) is {self.get_nsel()}")
        out_dtype = jnp.asarray(coord_ext).dtype
        out = self.se_atten.describe_dense(
            nlist, coord_ext, atype_ext, self.type_embedding(), self.concat_output_tebd
        )
        return (
            out.descriptor.reshape(nf, nloc, -1).astype(out_dtype),
            out.rotation.reshape(nf, nloc, -1, 3).astype(out_dtype),
            None,
            None,
            out.environment.switch.reshape(nf, nloc, nnei, 1).astype(out_dtype),
        )

    call = __call__

    def get_rcut(self) -> float:
        """Cut-off radius, Å."""
        return self.se_atten.rcut

    def get_rcut_smth(self) -> float:
        """Where the switching function leaves 1, Å."""
        return self.se_atten.rcut_smth

    def get_nsel(self) -> int:
        """Slots per atom."""
        return self.se_atten.nnei

    def get_sel(self) -> list[int]:
        """Slots per atom, as given."""
        return self.se_atten.get_sel()

    def get_ntypes(self) -> int:
        """Number of types."""
        return self.se_atten.ntypes

    def get_type_map(self) -> list[str] | None:
        """Element symbols of the types."""
        return None if self.type_map is None else list(self.type_map)

    def get_dim_out(self) -> int:
        """Width of the descriptor."""
        return self.se_atten.get_dim_out() + (self.tebd_dim if self.concat_output_tebd else 0)

    def get_dim_emb(self) -> int:
        """Width of the embedding net."""
        return self.se_atten.get_dim_emb()

    def get_env_protection(self) -> float:
        """Added to distances in denominators, Å."""
        return self.se_atten.env_protection

    def get_numb_attn_layer(self) -> int:
        """Number of attention layers."""
        return self.se_atten.attn_layer

    def get_nnei(self) -> int:
        """Slots per atom."""
        return self.se_atten.nnei

    def get_dim_chg_spin(self) -> int:
        """0: the descriptor sees neither charge nor spin."""
        return 0

    def get_geo_compress(self) -> bool:
        """Whether a table stands in the place of the radial network."""
        return self.geo_compress

    def has_chg_spin_ebd(self) -> bool:
        """False: the descriptor sees neither charge nor spin."""
        return False

    def supports_native_spin(self) -> bool:
        """False: the descriptor does not see the atoms' spins."""
        return False

    def supports_charge_spin(self) -> bool:
        """False: the descriptor does not see a frame's charge and spin."""
        return False

    def uses_graph_lower(self) -> bool:
        """False: called with a dense neighbour list."""
        return False

    def compression_needs_min_nbor_dist(self) -> bool:
        """True: the table begins at the smallest distance in the data."""
        return True

    def mixed_types(self) -> bool:
        """True: the neighbour list does not distinguish types."""
        return True

    def has_message_passing(self) -> bool:
        """False: an atom's descriptor depends on atoms within one cut-off."""
        return False

    def has_message_passing_across_ranks(self) -> bool:
        """False: nothing is exchanged between processes."""
        return False

    def need_sorted_nlist_for_lower(self) -> bool:
        """False: the order of neighbours does not matter."""
        return False

    @property
    def dim_out(self) -> int:
        """Width of the descriptor."""
        return self.get_dim_out()

    @property
    def dim_emb(self) -> int:
        """Width of the embedding net."""
        return self.get_dim_emb()

    def compute_input_stats(self, merged: Callable[[], list[dict]] | list[dict], path: Any = None) -> None:
        """Set mean and deviation from samples of data; see `DescrptBlockSeAtten.compute_input_stats`."""
        self.se_atten.compute_input_stats(merged, path)

    @property
    def compress(self) -> bool:
        """Whether the descriptor is compressed."""
        return self.se_atten.compression is not None

    @property
    def geo_compress(self) -> bool:
        """Whether a table stands in the place of the radial network."""
        return self.compress and self.se_atten.compression.table is not None

    def enable_compression(
        self,
        min_nbor_dist: float,
        table_extrapolate: float = 5,
        table_stride_1: float = 0.01,
        table_stride_2: float = 0.1,
        check_frequency: int = -1,
    ) -> None:
        """Compute with tables instead of networks from now on; meant for trained models.

        The network of type pairs gives way to its values. Without attention layers the radial network
        gives way to polynomials (`dpax.descriptor.compression`). The networks stay in the descriptor and
        in its dictionary, but what happens to them no longer matters.

        Args:
            min_nbor_dist: smallest distance between two atoms in the data, Å. The table has its dense knots
                from the normalised radial entry of an empty slot to that at this distance.
            table_extrapolate: the sparse knots reach to this multiple of the dense ones' upper end.
            table_stride_1: distance of the dense knots.
            table_stride_2: distance of the sparse knots.
            check_frequency: not used; DeePMD-kit's files carry it.

        Raises:
            InputError: compressed already, another `tebd_input_mode` than "strip", `resnet_dt`, or knots
                that cannot be laid.
        """
        self.se_atten.enable_compression(
            self.type_embedding(),
            min_nbor_dist,
            table_extrapolate,
            table_stride_1,
            table_stride_2,
            check_frequency,
        )

    def compression_error(self) -> TableError:
        """The largest deviation of the radial table from its network, within the data's range and beyond.

        Raises:
            InputError: there is no such table.
        """
        return self.se_atten.compression_error()

    def share_params(self, base_class: "DescrptDPA1", shared_level: int, resume: bool = False) -> None:
        """Share arrays with another descriptor: what changes in one changes in the other.

        Args:
            base_class: the descriptor whose arrays stay.
            shared_level: 0 for everything, mean and deviation included; 1 for the type embedding.
            resume: not used: the statistics are those of `base_class`, whether they come from a checkpoint
                or are new.

        Raises:
            InputError: another level, or descriptors that do not fit each other.
        """
        del resume
        if shared_level not in (0, 1):
            raise InputError(f"shared_level {shared_level} is not 0 (everything) or 1 (the type embedding)")
        if type(base_class) is not type(self):
            raise InputError(
                f"a {type(self).__name__} cannot share arrays with a {type(base_class).__name__}"
            )
        for name in ("type_map", "tebd_dim", "use_econf_tebd", "use_tebd_bias"):
            ours, theirs = getattr(self, name), getattr(base_class, name)
            if ours != theirs:
                raise InputError(
                    f"descriptors that share arrays have the same {name}; got {ours} and {theirs}"
                )
        if self.get_ntypes() != base_class.get_ntypes():
            raise InputError("descriptors that share arrays have the same number of types")
        self.type_embedding = base_class.type_embedding
        if shared_level == 0:
            self.se_atten = base_class.se_atten

    def set_stat_mean_and_stddev(self, mean: Array, stddev: Array) -> None:
        """Set mean and deviation, [ntypes, nnei, 4] each."""
        self.se_atten.mean, self.se_atten.stddev = mean, stddev

    def get_stat_mean_and_stddev(self) -> tuple[Array, Array]:
        """Mean and deviation, [ntypes, nnei, 4] each."""
        return value(self.se_atten.mean), value(self.se_atten.stddev)

    def change_type_map(
        self, type_map: Sequence[str], model_with_new_type_stat: "DescrptDPA1 | None" = None
    ) -> None:
        """Match the types to a new `type_map` by name.

        Args:
            type_map: element symbols; may drop, add and reorder types.
            model_with_new_type_stat: a descriptor with the new types that gives the statistics of those
                this one does not know.

        Raises:
            InputError: the present types have no names.
        """
        if self.type_map is None:
            raise InputError(
                "the types have no names (type_map is None), so they cannot be matched to new ones"
            )
        source = None if model_with_new_type_stat is None else model_with_new_type_stat.se_atten
        self.se_atten.change_types(self.type_map, tuple(type_map), source)
        self.type_embedding.change_type_map(type_map)
        self.type_map = tuple(type_map)

    @classmethod
    def update_sel(
        cls, train_data: Any, type_map: Sequence[str] | None, local_jdata: dict
    ) -> tuple[dict, float]:
        """Fill in `sel: "auto"` from data.

        Args:
            train_data: data with `get_nbor_stat(rcut) -> (smallest distance in Å, largest neighbour count)`.
            type_map: not used: all types share the slots.
            local_jdata: the descriptor's settings.

        Returns:
            The settings with `sel` filled in, and the smallest distance.
        """
        del type_map
        smallest, largest = train_data.get_nbor_stat(local_jdata["rcut"])
        sel = local_jdata.get("sel", "auto")
        if isinstance(sel, str):
            sel = automatic_sel(int(np.max(largest)), sel)
        return {**local_jdata, "sel": sel}, float(smallest)

    def serialize(self) -> dict:
        """DeePMD-kit's dictionary of this descriptor."""
        block = self.se_atten
        arguments = {
            **block.arguments(),
            "smooth_type_embedding": block.smooth,
            "concat_output_tebd": self.concat_output_tebd,
            "use_econf_tebd": self.use_econf_tebd,
            "use_tebd_bias": self.use_tebd_bias,
            "type_map": self.get_type_map(),
            "trainable": self.trainable,
            "spin": None,
        }
        return {
            "@class": "Descriptor",
            "type": self.serialized_type,
            "@version": 4 if block.lmax > 1 else 3 if self.compress else 2,
            **{key: value for key, value in arguments.items() if key not in self.block_fixed},
            "type_embedding": self.type_embedding.serialize(),
            **block.networks(),
            **({"compress": block.compression.serialize()} if self.compress else {}),
        }

    @classmethod
    def deserialize(cls, data: dict) -> Self:
        """Read DeePMD-kit's dictionary of this descriptor; a compressed one computes with its tables."""
        data = take(data, "Descriptor", 4)
        kind = data.pop("type", cls.serialized_type)
        if kind not in (cls.serialized_type, "se_atten" if cls.serialized_type == "dpa1" else ""):
            raise InputError(
                f"the dictionary describes a descriptor {kind!r}; expected {cls.serialized_type!r}"
            )
        tables = data.pop("compress", None)
        networks = {key: data.pop(key, None) for key in _NETWORK_KEYS}
        embedding = data.pop("type_embedding")
        data.setdefault("use_tebd_bias", True)
        descriptor = cls(**data)
        descriptor.se_atten.load_networks(networks)
        descriptor.type_embedding = TypeEmbedNet.deserialize(embedding)
        if tables is not None:
            descriptor.se_atten.load_compression(tables)
        return descriptor


def automatic_sel(largest: int, rule: str) -> int:
    """DeePMD-kit's rule for `sel: "auto[:factor]"`: neighbours times the factor, up to a multiple of 4.

    Raises:
        InputError: the rule is not of this form.
    """
    name, _, factor = rule.partition(":")
    try:
        if name.strip() != "auto":
            raise ValueError(rule)
        count = int(largest * (float(factor) if factor else 1.1))
    except ValueError:
        raise InputError(f"sel {rule!r} is neither a number nor 'auto' nor 'auto:FACTOR'") from None
    return max(4, -(-count // 4) * 4)


_NETWORK_KEYS = ("@variables", "embeddings", "embeddings_strip", "attention_layers", "env_mat")


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


def _is_isotropic(mean: nnx.Variable | None, stddev: nnx.Variable | None) -> bool:
    """Whether no angular mean and one angular deviation are given; False where that is not known."""
    if mean is None or stddev is None:
        return True
    if isinstance(mean[...], Tracer) or isinstance(stddev[...], Tracer):
        return False
    angular = np.asarray(stddev[...])[..., 1:]
    return bool(np.all(np.asarray(mean[...])[..., 1:] == 0) and np.all(angular == angular[..., :1]))


def _statistic(key: str) -> str:
    names = {
        "davg": "mean",
        "avg": "mean",
        "data_avg": "mean",
        "dstd": "stddev",
        "std": "stddev",
        "data_std": "stddev",
    }
    if key not in names:
        raise KeyError(key)
    return names[key]


def _collect(network: EmbeddingNet, ntypes: int) -> dict:
    """DeePMD-kit's dictionary of a collection that holds one network for all types."""
    return {
        "@class": "NetworkCollection",
        "@version": 1,
        "ndim": 0,
        "ntypes": ntypes,
        "network_type": "embedding_network",
        "networks": [network.serialize()],
    }


def _collected(data: dict) -> EmbeddingNet:
    networks = take(data, "NetworkCollection", 1)["networks"]
    if len(networks) != 1:
        raise InputError(f"a collection of {len(networks)} networks; DPA-1 has one for all types")
    return EmbeddingNet.deserialize(networks[0])


def _beyond_deepmd(key: str, value: str, default: str) -> dict:
    """A setting that DeePMD-kit does not know: written only where it differs from what DeePMD-kit does."""
    return {} if value == default else {key: value}


def _refuse_mask(flag: bool, name: str) -> None:
    if flag:
        raise InputError(
            f"{name}=True (masking the diagonal of the attention) is not supported; set it to false"
        )


def _check_choice(name: str, given: str, choices: tuple[str, ...]) -> None:
    if given not in choices:
        raise InputError(f"{name} {given!r} is not one of {', '.join(choices)}")
