"""The block of the DPA-1 descriptor that is given its type embedding.

The mathematics is not here: the class holds arrays and hands them to `dpax.descriptor.block.describe`.
"""

import warnings
from collections.abc import Callable, Iterable, Sequence
from typing import Any, NamedTuple, Self

import jax
import jax.numpy as jnp
import numpy as np
from flax import nnx
from jax.core import Tracer
from jaxtyping import Array, Float, Int

from dpax.descriptor.attention import NeighborGatedAttention, beyond_deepmd, check_choice, refuse_mask
from dpax.descriptor.block import Described, Spec, Weights, describe, kept_pairs
from dpax.descriptor.compression import Compression, Knots, TableError, radial_range, table_error, tabulate
from dpax.descriptor.environment import UNSEEN_DEVIATION, EnvironmentStatistics
from dpax.errors import InputError
from dpax.geometry.neighbors import find_edges
from dpax.nn.initial import Seed, child_seed
from dpax.nn.layers import EmbeddingNet, apply_layers
from dpax.nn.module import Fixed, Module, parameter, to_numpy, value
from dpax.nn.precision import jax_dtype
from dpax.nn.serialized import (
    Count,
    NotNegative,
    Positive,
    Types,
    Width,
    check_settings,
    expect,
    expect_same,
    numbers,
    take,
)

_GAIN_DEVIATION = 0.1
"""Deviation of the initial gains of the degrees above 1."""
EMPTY_SLOTS = ("dense", "ignore")
_NETWORK_KEYS = ("@variables", "embeddings", "embeddings_strip", "attention_layers", "env_mat")


class Networks(NamedTuple):
    """What a block's dictionary holds beside settings."""

    embeddings: EmbeddingNet
    embeddings_strip: EmbeddingNet | None
    attention: NeighborGatedAttention
    mean: np.ndarray
    stddev: np.ndarray
    gains: np.ndarray | None


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
        rcut: Positive,
        rcut_smth: NotNegative,
        sel: Width | Sequence[Count],
        ntypes: Types,
        neuron: Sequence[Width] = (25, 50, 100),
        axis_neuron: Width = 8,
        tebd_dim: Width = 8,
        tebd_input_mode: str = "concat",
        resnet_dt: bool = False,
        type_one_side: bool = False,
        attn: Width = 128,
        attn_layer: Count = 2,
        attn_dotr: bool = True,
        attn_mask: bool = False,
        exclude_types: Sequence[Sequence[int]] = (),
        env_protection: NotNegative = 0.0,
        set_davg_zero: bool = False,
        activation_function: str = "tanh",
        precision: str = "float64",
        scaling_factor: Positive = 1.0,
        normalize: bool = True,
        temperature: Positive | None = None,
        trainable_ln: bool = True,
        ln_eps: NotNegative | None = 1e-5,
        smooth: bool = True,
        seed: Seed = None,
        trainable: bool = True,
        lmax: int = 1,
        empty_slots: str = "dense",
        attn_norm: str = "sum",
    ):
        refuse_mask(attn_mask, "attn_mask")
        check_choice("tebd_input_mode", tebd_input_mode, ("concat", "strip"))
        check_choice("empty_slots", empty_slots, EMPTY_SLOTS)
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
        if not self.nnei:
            raise InputError("sel is 0; an atom needs at least one slot")
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
        if self.embeddings_strip is None:
            raise InputError("the descriptor is compressed, but has tebd_input_mode 'concat'")
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
            **beyond_deepmd("empty_slots", self.empty_slots, "dense"),
            **beyond_deepmd("attn_norm", self.attn_norm, "sum"),
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

    def load_networks(self, networks: Networks) -> None:
        """Take over what a dictionary holds.

        Raises:
            InputError: the networks compute something else than this block's settings say.
        """
        own, constants = self.dpa1_attention, ("in_dim", "neuron", "activation_function", "dtype")
        expect_same("the embedding net", networks.embeddings, self.embeddings, *constants)
        self.embeddings = networks.embeddings
        if self.embeddings_strip is not None:
            if networks.embeddings_strip is None:
                raise InputError("the net of type pairs (embeddings_strip) is missing")
            expect_same("embeddings_strip", networks.embeddings_strip, self.embeddings_strip, *constants)
            self.embeddings_strip = networks.embeddings_strip
        for layer, of_settings in zip(networks.attention.attention_layers, own.attention_layers, strict=True):
            expect("what an attention layer computes", layer.spec(), of_settings.spec())
            expect("precision of an attention layer", layer.attn_layer_norm.dtype, self.dtype)
            expect("precision of an attention layer", layer.attention_layer.in_proj.dtype, self.dtype)
        self.dpa1_attention = networks.attention
        self.mean, self.stddev = networks.mean, networks.stddev
        if self.lmax > 1:
            self.adam_degree_gain_raw = networks.gains

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
        """Read DeePMD-kit's dictionary of this block.

        Raises:
            InputError: settings or networks that no block has, or that do not fit each other.
        """
        data = take(data, "DescriptorBlock", 2)
        data.pop("type", None)
        networks = take_networks(cls, data)
        block = cls(**data)
        block.load_networks(networks)
        return block


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


def take_networks(cls: type, data: dict) -> Networks:
    """Take the networks out of a dictionary, which then holds settings alone.

    The networks have the sizes that the settings ask for, so that a block of these settings may be made.

    Args:
        cls: the class whose settings they are.
        data: the dictionary of a descriptor or of its block.

    Raises:
        InputError: settings that are none, or networks of other sizes.
    """
    given = {key: data.pop(key, None) for key in _NETWORK_KEYS}
    settings = check_settings(cls, data)
    embeddings, strip = _collected(given["embeddings"]), given["embeddings_strip"]
    attention = NeighborGatedAttention.deserialize(given["attention_layers"])
    expect("neuron of the embedding net", embeddings.neuron, tuple(settings["neuron"]))
    expect("the number of attention layers", attention.layer_num, settings["attn_layer"])
    if attention.layer_num:
        expect("the width of attention", attention.hidden_dim, settings["attn"])
        expect("the width of what attention sees", attention.embed_dim, embeddings.neuron[-1])
    _check_environment(given["env_mat"] or {}, settings)
    sel, lmax = settings["sel"], settings["lmax"]
    slots = sel if isinstance(sel, int) else sum(sel)
    arrays = given["@variables"]
    mean, stddev = (numbers(arrays, name, (settings["ntypes"], slots, 4)) for name in ("davg", "dstd"))
    gains = numbers(arrays, "degree_gain_raw", (lmax - 1,)) if lmax > 1 else None
    return Networks(embeddings, None if strip is None else _collected(strip), attention, mean, stddev, gains)


def _check_environment(env_mat: dict, settings: dict) -> None:
    """The environment matrix of a dictionary is that of its settings, with the usual switching function."""
    names = {"rcut": "rcut", "rcut_smth": "rcut_smth", "protection": "env_protection"}
    for name, setting in names.items():
        expect(f"{name} of the environment matrix", env_mat.get(name, settings[setting]), settings[setting])
    if env_mat.get("use_exp_switch"):
        raise InputError(
            "the model has use_exp_switch, an exponential switching function, which DPA-1 does not have"
        )


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
