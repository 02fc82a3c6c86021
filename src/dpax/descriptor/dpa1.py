"""The public classes of the DPA-1 descriptor, with DeePMD-kit's names, arguments and dictionaries.

Source: D. Zhang et al., "DPA-1: Pretraining of attention-based deep potential model for molecular
simulation", npj Comput. Mater. 10, 94 (2024), arXiv:2208.08236. The mathematics is not here: these classes
hold arrays and hand them to `dpax.descriptor.block.describe`.
"""

import warnings
from collections.abc import Callable, Sequence
from typing import Any, ClassVar, Self

import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float, Int

from dpax.descriptor.attention import GatedAttentionLayer as GatedAttentionLayer
from dpax.descriptor.attention import NeighborGatedAttention as NeighborGatedAttention
from dpax.descriptor.attention import NeighborGatedAttentionLayer as NeighborGatedAttentionLayer
from dpax.descriptor.block import Spec, Weights
from dpax.descriptor.compression import TableError
from dpax.descriptor.se_atten import DescrptBlockSeAtten as DescrptBlockSeAtten
from dpax.descriptor.se_atten import take_networks
from dpax.errors import InputError
from dpax.nn.initial import Seed, child_seed
from dpax.nn.module import Module, value
from dpax.nn.serialized import Count, NotNegative, Positive, Types, Width, expect, expect_same, take
from dpax.nn.type_embedding import TypeEmbedNet


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
        rcut: Positive,
        rcut_smth: NotNegative,
        sel: Width | Sequence[Count],
        ntypes: Types,
        neuron: Sequence[Width] = (25, 50, 100),
        axis_neuron: Width = 8,
        tebd_dim: Width = 8,
        tebd_input_mode: str = "concat",
        resnet_dt: bool = False,
        trainable: bool = True,
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
        self,
        type_map: Sequence[str],
        model_with_new_type_stat: "DescrptDPA1 | None" = None,
        seed: Seed = None,
    ) -> None:
        """Match the types to a new `type_map` by name.

        Args:
            type_map: element symbols; may drop, add and reorder types.
            model_with_new_type_stat: a descriptor with the new types that gives the statistics, and the
                embedding, of those this one does not know.
            seed: of their embedding, where no descriptor gives it; None for fresh entropy.

        Raises:
            InputError: the present types have no names.
        """
        if self.type_map is None:
            raise InputError(
                "the types have no names (type_map is None), so they cannot be matched to new ones"
            )
        source = model_with_new_type_stat
        self.se_atten.change_types(
            self.type_map, tuple(type_map), None if source is None else source.se_atten
        )
        self.type_embedding.change_type_map(type_map, seed, None if source is None else source.type_embedding)
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
        """Read DeePMD-kit's dictionary of this descriptor; a compressed one computes with its tables.

        Raises:
            InputError: another descriptor, or settings and networks that no descriptor has or that do not
                fit each other.
        """
        data = take(data, "Descriptor", 4)
        kind = data.pop("type", cls.serialized_type)
        if kind not in (cls.serialized_type, "se_atten" if cls.serialized_type == "dpa1" else ""):
            raise InputError(
                f"the dictionary describes a descriptor {kind!r}; expected {cls.serialized_type!r}"
            )
        tables = data.pop("compress", None)
        embedding = TypeEmbedNet.deserialize(data.pop("type_embedding"))
        data.setdefault("use_tebd_bias", True)
        networks = take_networks(cls, data)
        expect("the number of types", embedding.ntypes, data["ntypes"])
        expect("the width of the type embedding", embedding.neuron, (data.get("tebd_dim", 8),))
        descriptor = cls(**data)
        descriptor.se_atten.load_networks(networks)
        constants = ("resnet_dt", "activation_function", "padding", "use_econf_tebd", "dtype")
        expect_same("the type embedding", embedding, descriptor.type_embedding, *constants)
        descriptor.type_embedding = embedding
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
