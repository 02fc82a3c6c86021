"""The block of the DPA-1 descriptor that is given its type embedding, as DeePMD-kit's class.

The mathematics is not here: the class holds arrays and hands them to `dpax.descriptor.describe`.
"""

from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any, Self

import jax.numpy as jnp
import numpy as np
from flax import nnx
from jax.core import Tracer
from jaxtyping import Array, Int
from numpy.typing import ArrayLike

from dpax.deepmd import keys, places
from dpax.deepmd.attention import NeighborGatedAttention
from dpax.deepmd.descriptor_dictionary import block, read_block
from dpax.deepmd.module import Module, named_arrays, network, value, variables
from dpax.descriptor.describe import Described, DescriptorWeights, describe, kept_pairs, prepare
from dpax.descriptor.initial import initial_arrays, trained
from dpax.descriptor.spec import DescriptorSpec
from dpax.descriptor.statistics import EnvironmentStatistics, is_isotropic
from dpax.descriptor.table import TABLES
from dpax.errors import InputError
from dpax.geometry.neighbors import find_edges
from dpax.nn.arrays import Arrays, below
from dpax.nn.initial import Seed
from dpax.nn.precision import jax_dtype


class DescrptBlockSeAtten(Module):
    """The descriptor without its type embedding, which the caller supplies.

    Args:
        rcut: cutoff radius, Å.
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
        smooth: gate by the switching function, so that nothing jumps at the cutoff.
        seed: None for fresh entropy.
        trainable: False freezes all arrays.
        lmax: highest angular degree of the moments, 1 to 4.
        arrays: by name (`dpax.descriptor.initial`), instead of those drawn from the seed.
        own: the options that DeePMD-kit does not have, such as `attn_norm`; see docs/settings.md.

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
        smooth: bool = True,
        seed: Seed = None,
        trainable: bool = True,
        lmax: int = 1,
        *,
        arrays: Arrays | None = None,
        **own: Any,
    ):
        spec = spec_of_arguments(locals() | {"smooth_type_embedding": smooth})
        self._hold(spec, initial_arrays(spec, seed) if arrays is None else arrays)

    def _hold(self, spec: DescriptorSpec, arrays: Arrays) -> None:
        """Take over a description and arrays."""
        self.description = spec
        names = trained(spec, arrays)
        own = variables(arrays, names.__contains__)
        options = {name: getattr(spec, name) for name in ("normalize", "temperature", "scaling_factor")}
        self.embeddings: Any = network(below(own, "embedding"))
        self.embeddings_strip: Any = network(below(own, "pair_embedding")) if spec.strip else None
        self.dpa1_attention: Any = NeighborGatedAttention(
            spec.attn_layer,
            spec.nsel,
            spec.neuron[-1],
            spec.attn,
            dotr=spec.attn_dotr,
            trainable_ln=spec.trainable_ln,
            ln_eps=spec.ln_eps,
            smooth=spec.smooth_type_embedding,
            precision=spec.precision,
            trainable=spec.trainable,
            attn_norm=spec.attn_norm,
            arrays=below(arrays, "attention"),
            **options,
        )
        self.adam_degree_gain_raw: Any = own.get("degree_gains")
        shape = (spec.ntypes, spec.nsel, 4)
        whole = {name: np.broadcast_to(np.asarray(arrays[name]), shape) for name in ("mean", "stddev")}
        statistics = variables(whole, names.__contains__)
        self.mean: Any = statistics["mean"]
        self.stddev: Any = statistics["stddev"]
        self.hold_tables(arrays)

    def hold_tables(self, arrays: Arrays) -> None:
        """Take the tables among the arrays of a compressed descriptor for its own."""
        tables = {name: arrays[name] for name in TABLES if name in arrays}
        self.tables: Any = nnx.data(variables(tables, lambda _: False))

    def __getattr__(self, name: str) -> Any:
        setting = _ATTRIBUTES.get(name, name)
        if setting in DescriptorSpec.model_fields or setting in ("nsel", "dtype"):
            return getattr(self.description, setting)
        raise AttributeError(f"{type(self).__name__} has no attribute {name!r}")

    @property
    def spec(self) -> DescriptorSpec:
        """All constants of the descriptor, for `dpax.descriptor.describe`."""
        statistics = (self.mean[...], self.stddev[...])
        known = not any(isinstance(array, Tracer) for array in statistics)
        return self.description.changed(isotropic=known and is_isotropic(*statistics))

    def arrays(self) -> dict[str, Any]:
        """By name; statistics for each slot, as arrays set by hand may have."""
        return named_arrays(self, places.BLOCK) | {name: table[...] for name, table in self.tables.items()}

    def reinit_exclude(self, exclude_types: Iterable[Sequence[int]] = ()) -> None:
        """Set the pairs of types that do not see each other; order within a pair does not matter."""
        pairs = tuple((int(a), int(b)) for a, b in exclude_types)
        self.description = self.description.changed(exclude_types=pairs)

    def describe_dense(
        self,
        nlist: Int[Array, "frames nloc nnei"],
        coord_ext: ArrayLike,
        atype_ext: ArrayLike,
        spec: DescriptorSpec,
        weights: DescriptorWeights,
    ) -> Described:
        """Describe the local atoms of extended systems; atoms of all frames stand on one axis."""
        nf, nloc, nnei = nlist.shape
        coord = jnp.reshape(jnp.asarray(coord_ext), (nf, -1, 3)).astype(spec.dtype)
        atype = jnp.asarray(atype_ext)
        occupied = nlist >= 0
        index = jnp.where(occupied, nlist, 0).reshape(nf, -1)
        neighbors = jnp.take_along_axis(coord, index[..., None], axis=1).reshape(nf, nloc, nnei, 3)
        edges = jnp.where(occupied[..., None], neighbors - coord[:, :nloc, None], 0.0)
        neighbor_types = jnp.take_along_axis(atype, index, axis=1)
        return describe(
            spec,
            weights,
            edges.reshape(-1, nnei, 3),
            occupied.reshape(-1, nnei),
            atype[:, :nloc].reshape(-1),
            neighbor_types.reshape(-1, nnei),
        )

    def __call__(
        self,
        nlist: ArrayLike,
        coord_ext: ArrayLike,
        atype_ext: ArrayLike,
        atype_embd_ext: ArrayLike | None = None,
        mapping: ArrayLike | None = None,
        type_embedding: ArrayLike | None = None,
    ) -> tuple[Array, Array, Array, Array, Array]:
        """The descriptor, pair features, environment directions, rotation matrix and switch.

        Args:
            nlist: neighbours of each local atom, [frames, nloc, nnei], -1 in empty slots.
            coord_ext: coordinates of all atoms with their periodic images, [frames, nall·3], Å.
            atype_ext: types of the same, [frames, nall].
            atype_embd_ext: not used: rows of `type_embedding`.
            mapping: not used by this descriptor.
            type_embedding: [ntypes + 1, tebd_dim].
        """
        del atype_embd_ext, mapping
        if type_embedding is None:
            raise InputError("DescrptBlockSeAtten needs type_embedding, the table of TypeEmbedNet")
        neighbors = jnp.asarray(nlist)
        nf, nloc, nnei = neighbors.shape
        spec = self.spec.changed(concat_output_tebd=False)
        weights = prepare(spec, self.arrays(), jnp.asarray(type_embedding))
        out = self.describe_dense(neighbors, coord_ext, atype_ext, spec, weights)
        types = jnp.asarray(atype_ext)[:, :nloc].reshape(-1)
        rows = (out.environment.rows - weights.mean[types]) / weights.stddev[types]
        ng = spec.neuron[-1]
        return (
            out.descriptor.reshape(nf, nloc, -1),
            out.pair.reshape(nf, nloc, nnei, ng),
            rows[..., 1:].reshape(nf, nloc, nnei, 3),
            out.rotation.reshape(nf, nloc, ng, 3),
            out.environment.switch.reshape(nf, nloc, nnei, 1),
        )

    call = __call__

    def get_rcut(self) -> float:
        """Cutoff radius, Å."""
        return self.description.rcut

    def get_rcut_smth(self) -> float:
        """Where the switching function leaves 1, Å."""
        return self.description.rcut_smth

    def get_nsel(self) -> int:
        """Slots per atom."""
        return self.description.nsel

    def get_sel(self) -> list[int]:
        """Slots per atom, as given."""
        return list(self.description.sel)

    def get_ntypes(self) -> int:
        """Number of types."""
        return self.description.ntypes

    def get_dim_in(self) -> int:
        """Width of the type embedding that comes in."""
        return self.description.tebd_dim

    def get_dim_out(self) -> int:
        """Width of the descriptor."""
        return self.description.neuron[-1] * self.description.axis_neuron

    def get_dim_emb(self) -> int:
        """Width of the embedding net."""
        return self.description.neuron[-1]

    def get_env_protection(self) -> float:
        """Added to distances in denominators, Å."""
        return self.description.env_protection

    def mixed_types(self) -> bool:
        """True: the neighbour list does not distinguish types."""
        return True

    def has_message_passing(self) -> bool:
        """False: an atom's descriptor depends on atoms within one cutoff."""
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
        return value(getattr(self, _STATISTICS[key]))

    def __setitem__(self, key: str, value: Any) -> None:
        setattr(self, _STATISTICS[key], value)

    def set_statistics(self, mean: np.ndarray, stddev: np.ndarray) -> None:
        """Use these statistics, [ntypes, 4] each, for all slots; `set_davg_zero` leaves the mean alone."""
        shape = (self.description.ntypes, self.description.nsel, 4)
        if not self.description.set_davg_zero:
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
        spec = self.description
        accumulator = EnvironmentStatistics(
            spec.ntypes,
            spec.rcut,
            spec.rcut_smth,
            spec.env_protection,
            ~kept_pairs(spec.exclude_types, spec.ntypes),
        )
        for system in merged() if callable(merged) else merged:
            box = system.get("box")
            for number, types in enumerate(np.asarray(system["atype"])):
                positions = np.asarray(system["coord"], float).reshape(len(system["atype"]), -1, 3)[number]
                cell = None if box is None else np.asarray(box, float).reshape(-1, 3, 3)[number]
                real = types >= 0
                edges = find_edges(positions[real], cell, [cell is not None] * 3, spec.rcut)
                accumulator.add(types[real], edges.i, edges.j, edges.vectors)
        self.set_statistics(*accumulator.mean_and_deviation(spec.nsel))

    def serialize(self) -> dict:
        """DeePMD-kit's dictionary of this block."""
        return block(self.description, self.arrays())

    @classmethod
    def deserialize(cls, data: dict) -> Self:
        """Read DeePMD-kit's dictionary of this block.

        Raises:
            InputError: settings or networks that no block has, or that do not fit each other.
        """
        spec, arrays = read_block(data)
        return cls(**block_arguments(spec), arrays=arrays)


_ATTRIBUTES = {"smooth": "smooth_type_embedding", "nnei": "nsel"}
"""Names of attributes that the description calls otherwise."""
_STATISTICS = {
    "davg": "mean",
    "avg": "mean",
    "data_avg": "mean",
    "dstd": "stddev",
    "std": "stddev",
    "data_std": "stddev",
}


def spec_of_arguments(arguments: Mapping[str, Any], kind: str = "se_atten") -> DescriptorSpec:
    """The description in the arguments of a constructor.

    Raises:
        InputError: values that make no sense, or that are refused.
    """
    if arguments["attn_mask"]:
        raise InputError(
            "attn_mask=True (masking the diagonal of the attention) is not supported; set it to false"
        )
    jax_dtype(arguments["precision"])
    sel = arguments["sel"]
    changed = {
        "type": kind,
        "sel": (int(sel),) if isinstance(sel, (int, np.integer)) else tuple(int(s) for s in sel),
        "ln_eps": 1e-5 if arguments["ln_eps"] is None else arguments["ln_eps"],
    }
    unknown = arguments["own"].keys() - {key.name for key in keys.OWN}
    if unknown:
        raise TypeError(f"{min(unknown)!r} is no argument of a descriptor")
    values = {**arguments, **arguments["own"], **changed}
    return DescriptorSpec(
        **{name: value for name, value in values.items() if name in DescriptorSpec.model_fields}
    )


def block_arguments(spec: DescriptorSpec) -> dict[str, Any]:
    """The arguments of `DescrptBlockSeAtten` that make a block of this description."""
    left_out = {"type", "smooth_type_embedding", "concat_output_tebd", "use_econf_tebd", "use_tebd_bias"}
    left_out |= {"type_map", "isotropic"}
    values = {name: value for name, value in spec if name not in left_out}
    return {**values, "smooth": spec.smooth_type_embedding}
