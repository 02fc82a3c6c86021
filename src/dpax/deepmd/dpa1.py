"""The DPA-1 descriptor as a class, with DeePMD-kit's name, arguments and dictionary.

The mathematics is not here: the class holds arrays and hands them to `dpax.descriptor.describe`.
"""

import inspect
import warnings
from collections.abc import Callable, Sequence
from typing import Any, ClassVar, Self

import jax.numpy as jnp
import numpy as np
from jaxtyping import Array
from numpy.typing import ArrayLike

from dpax.deepmd import keys
from dpax.deepmd.descriptor_dictionary import descriptor, read_descriptor
from dpax.deepmd.module import Module, value
from dpax.deepmd.se_atten import DescrptBlockSeAtten, block_arguments, spec_of_arguments
from dpax.deepmd.type_embedding import TypeEmbedNet
from dpax.descriptor.change_types import change_types
from dpax.descriptor.compression import TableError, compressed, compression_error
from dpax.descriptor.describe import DescriptorWeights, prepare
from dpax.descriptor.initial import initial_arrays
from dpax.descriptor.settings import automatic_sel
from dpax.descriptor.spec import DescriptorSpec
from dpax.descriptor.table import is_compressed
from dpax.errors import InputError
from dpax.nn.arrays import Arrays
from dpax.nn.initial import Seed


class DescrptDPA1(Module):
    """The DPA-1 descriptor: rotation-invariant numbers for the surroundings of an atom.

    Args are those of `DescrptBlockSeAtten`, and:
        smooth_type_embedding: `smooth` of the block.
        concat_output_tebd: append the type embedding of the atom itself.
        spin: refused.
        stripped_type_embedding: deprecated; True is `tebd_input_mode="strip"`, False "concat".
        use_econf_tebd: embed electron configurations instead of one-hot types.
        use_tebd_bias: whether the type embedding has a bias.
        type_map: element symbols of the types.
        arrays: by name (`dpax.descriptor.initial`), instead of those drawn from the seed.

    Raises:
        InputError: values that make no sense, or that are refused.
    """

    type: ClassVar[str] = "se_atten"
    """In an input file."""

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
        exclude_types: Sequence[Sequence[int]] = (),
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
        spin: object = None,
        stripped_type_embedding: bool | None = None,
        use_econf_tebd: bool = False,
        use_tebd_bias: bool = False,
        type_map: Sequence[str] | None = None,
        seed: Seed = None,
        lmax: int = 1,
        *,
        arrays: Arrays | None = None,
        **own: Any,
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
        spec = spec_of_arguments(locals(), self.type)
        self._hold(spec, initial_arrays(spec, seed) if arrays is None else arrays)

    def _hold(self, spec: DescriptorSpec, arrays: Arrays) -> None:
        """Take over a description and arrays."""
        self.se_atten: Any = DescrptBlockSeAtten(**block_arguments(spec), arrays=arrays)
        self.type_embedding: Any = TypeEmbedNet(spec, arrays)
        self.concat_output_tebd = spec.concat_output_tebd
        self.use_econf_tebd = spec.use_econf_tebd
        self.use_tebd_bias = spec.use_tebd_bias
        self.type_map = spec.type_map

    def __getattr__(self, name: str) -> Any:
        if name in DescriptorSpec.model_fields:
            return getattr(self.se_atten.description, name)
        raise AttributeError(f"{type(self).__name__} has no attribute {name!r}")

    @property
    def spec(self) -> DescriptorSpec:
        """All constants of the descriptor, for `dpax.descriptor.describe`."""
        return self.se_atten.spec.changed(
            type=self.type,
            concat_output_tebd=self.concat_output_tebd,
            use_econf_tebd=self.use_econf_tebd,
            use_tebd_bias=self.use_tebd_bias,
            type_map=self.type_map,
        )

    def arrays(self) -> dict[str, Any]:
        """By name (`dpax.descriptor.initial`); statistics for each slot, as arrays set by hand may have."""
        return {**self.se_atten.arrays(), **self.type_embedding.arrays()}

    def weights(self) -> DescriptorWeights:
        """The arrays, for `dpax.descriptor.describe`; the first slot's statistics stand for all."""
        arrays = self.arrays()
        return prepare(self.spec, {**arrays, **{name: arrays[name][:, :1] for name in ("mean", "stddev")}})

    @property
    def mean(self) -> Any:
        """Mean of the environment matrix, [ntypes, nnei, 4]."""
        return self.se_atten.mean

    @mean.setter
    def mean(self, array: ArrayLike) -> None:
        self.se_atten.mean = array

    @property
    def stddev(self) -> Any:
        """Deviation of the environment matrix, [ntypes, nnei, 4]."""
        return self.se_atten.stddev

    @stddev.setter
    def stddev(self, array: ArrayLike) -> None:
        self.se_atten.stddev = array

    def __call__(
        self,
        coord_ext: ArrayLike,
        atype_ext: ArrayLike,
        nlist: ArrayLike,
        mapping: ArrayLike | None = None,
        fparam: ArrayLike | None = None,
        comm_dict: dict | None = None,
        charge_spin: ArrayLike | None = None,
    ) -> tuple[Array, Array, None, None, Array]:
        """Describe the local atoms of extended systems.

        Args:
            coord_ext: [frames, nall·3] or [frames, nall, 3], Å: the local atoms first, then their images.
            atype_ext: types, [frames, nall]; negative ones are virtual.
            nlist: neighbours of each local atom, [frames, nloc, nnei], -1 in empty slots; `sum(sel)` slots.
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
        neighbors = jnp.asarray(nlist)
        nf, nloc, nnei = neighbors.shape
        if nnei != self.get_nsel():
            raise InputError(f"nlist has {nnei} slots per atom; sum(sel) is {self.get_nsel()}")
        out_dtype = jnp.asarray(coord_ext).dtype
        spec = self.spec
        weights = prepare(spec, self.arrays())
        out = self.se_atten.describe_dense(neighbors, coord_ext, atype_ext, spec, weights)
        return (
            out.descriptor.reshape(nf, nloc, -1).astype(out_dtype),
            out.rotation.reshape(nf, nloc, -1, 3).astype(out_dtype),
            None,
            None,
            out.environment.switch.reshape(nf, nloc, nnei, 1).astype(out_dtype),
        )

    call = __call__

    def get_rcut(self) -> float:
        """Cutoff radius, Å."""
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
        """Whether a table replaces the radial network."""
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
        """False: an atom's descriptor depends on atoms within one cutoff."""
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
        return is_compressed(self.se_atten.tables)

    @property
    def geo_compress(self) -> bool:
        """Whether a table replaces the radial network."""
        return "table/knots" in self.se_atten.tables

    def enable_compression(
        self,
        min_nbor_dist: float,
        table_extrapolate: float = 5,
        table_stride_1: float = 0.01,
        table_stride_2: float = 0.1,
        check_frequency: int = -1,
    ) -> None:
        """Compute with tables instead of networks from now on; meant for trained models.

        The arguments are those of `dpax.descriptor.compression.compressed`, which describes what is done.

        Raises:
            InputError: compressed already, another `tebd_input_mode` than "strip", `resnet_dt`, or knots
                that cannot be laid.
        """
        options = (min_nbor_dist, table_extrapolate, table_stride_1, table_stride_2, check_frequency)
        self.se_atten.hold_tables(compressed(self.spec, self.arrays(), *options))

    def compression_error(self) -> TableError:
        """The largest deviation of the radial table from its network, within the data's range and beyond.

        Raises:
            InputError: there is no such table.
        """
        return compression_error(self.spec, self.arrays())

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
        source = None if model_with_new_type_stat is None else model_with_new_type_stat.arrays()
        self._hold(*change_types(self.spec, self.arrays(), type_map, seed, source))

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
        return descriptor(self.spec, self.arrays())

    @classmethod
    def deserialize(cls, data: dict) -> Self:
        """Read DeePMD-kit's dictionary of this descriptor; a compressed one computes with its tables.

        Raises:
            InputError: another descriptor, or settings and networks that no descriptor has or that do not
                fit each other.
        """
        spec, arrays = read_descriptor(data, "dpa1" if cls.type == "se_atten" else cls.type)
        taken = {*inspect.signature(cls.__init__).parameters, *(key.name for key in keys.OWN)}
        return cls(**{name: value for name, value in spec if name in taken}, arrays=arrays)
