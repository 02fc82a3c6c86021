"""The energy model: a descriptor, a fitting net, and what stands around them."""

from collections.abc import Sequence
from dataclasses import replace
from typing import Any, Self

import jax
import jax.numpy as jnp
import numpy as np
from flax import nnx

from dpax.computing import computing
from dpax.descriptor.dpa1 import DescrptDPA1
from dpax.descriptor.se_atten_v2 import DescrptSeAttenV2
from dpax.errors import InputError, shortened
from dpax.model.energies import Block as Block
from dpax.model.energies import ModelSpec as ModelSpec
from dpax.model.energies import ModelWeights as ModelWeights
from dpax.model.energies import Vacuum, isolated_descriptors
from dpax.model.energies import atomic_energies as atomic_energies
from dpax.model.fitting import EnergyFitting, fit
from dpax.model.pair_table import read_pair_table
from dpax.model.settings import ModelSettings
from dpax.model.short_range import ShortRange
from dpax.nn.initial import Seed, child_seed
from dpax.nn.layers import Layer
from dpax.nn.module import Module
from dpax.nn.serialized import as_numbers, expect, numbers, real, take

PerType = Sequence[float | None]
"""A number for some of the types."""
_DESCRIPTORS = {"dpa1": DescrptDPA1, "se_atten": DescrptDPA1, "se_atten_v2": DescrptSeAttenV2}


class EnergyModel(Module):
    """A DPA-1 energy model: descriptor, fitting net, and an energy bias for each type.

    The bias is kept apart, in float64 on the host: it is thousands of eV where the network's part
    is a few, and float32 sums would lose it.

    Args:
        descriptor: of the atoms' surroundings.
        fitting: from the descriptor to the energy.
        type_map: element symbols of the types.
        bias: [ntypes], eV.
        atom_exclude_types: types without an energy, though others see them.
        pair_exclude_types: pairs of types that are no neighbours of each other.
        preset_out_bias: [ntypes], eV; a bias that no statistics change, None where they may.
        isolated_energies: [ntypes], eV; the exact energy of an atom of the type without neighbours, None
            where it is what the net makes of it. Such a type has this bias, and the net's energy of an atom
            without neighbours, under the same parameters, is subtracted.
        short_range: a pair potential that takes over where atoms are close.

    Raises:
        InputError: parts that do not fit each other.
    """

    def __init__(
        self,
        descriptor: DescrptDPA1,
        fitting: EnergyFitting,
        type_map: Sequence[str],
        bias: np.ndarray | None = None,
        *,
        atom_exclude_types: Sequence[int] = (),
        pair_exclude_types: Sequence[Sequence[int]] = (),
        preset_out_bias: PerType | None = None,
        isolated_energies: PerType | None = None,
        short_range: ShortRange | None = None,
    ):
        if fitting.dim_descrpt != descriptor.get_dim_out():
            raise InputError(
                f"the fitting net expects a descriptor of width {fitting.dim_descrpt}; "
                f"this one has {descriptor.get_dim_out()}"
            )
        if short_range is not None and short_range.table.ntypes != len(type_map):
            raise InputError(
                f"the short-range table has {short_range.table.ntypes} types; the model has {len(type_map)}"
            )
        self.descriptor: Any = descriptor
        self.fitting: Any = fitting
        self.type_map = tuple(type_map)
        self.atom_exclude_types = tuple(sorted({int(t) for t in atom_exclude_types}))
        self.pair_exclude_types = tuple((int(a), int(b)) for a, b in pair_exclude_types)
        self.preset_out_bias = _some_given(preset_out_bias)
        self.isolated_energies = _some_given(isolated_energies)
        self.short_range = short_range
        self.set_bias(np.zeros(len(self.type_map)) if bias is None else bias)

    @classmethod
    def from_settings(cls, settings: ModelSettings, sel: int | None = None, seed: int | None = None) -> Self:
        """A model with fresh weights.

        Args:
            settings: of the model.
            sel: the number that `sel: "auto"` was resolved to.
            seed: for the weights, where the descriptor's or fitting's settings give none.

        Raises:
            InputError: the short-range table cannot be read.
        """
        arguments = settings.descriptor.arguments(settings.type_map, sel)
        if arguments.get("seed") is None:
            arguments["seed"] = child_seed(seed, 0)
        v2 = settings.descriptor.type == "se_atten_v2"
        descriptor = (DescrptSeAttenV2 if v2 else DescrptDPA1)(**arguments)
        net = settings.fitting_net
        fitting = EnergyFitting(
            len(settings.type_map),
            descriptor.get_dim_out(),
            neuron=net.neuron,
            resnet_dt=net.resnet_dt,
            activation_function=net.activation_function,
            precision=net.precision,
            trainable=net.trainable,
            rcond=net.rcond,
            type_map=settings.type_map,
            seed=child_seed(seed, 1) if net.seed is None else net.seed,
            numb_fparam=net.numb_fparam,
            numb_aparam=net.numb_aparam,
            default_fparam=net.default_fparam,
        )
        short = None
        if settings.use_srtab is not None:
            table = read_pair_table(settings.use_srtab, descriptor.get_rcut(), settings.type_map)
            assert settings.sw_rmin is not None
            assert settings.sw_rmax is not None
            short = ShortRange(
                table, settings.sw_rmin, settings.sw_rmax, settings.smin_alpha, settings.srtab_add_bias
            )
        return cls(
            descriptor,
            fitting,
            settings.type_map,
            atom_exclude_types=settings.atom_exclude_types,
            pair_exclude_types=settings.pair_exclude_types,
            preset_out_bias=settings.preset_energies,
            isolated_energies=net.atom_ener,
            short_range=short,
        )

    @property
    def rcut(self) -> float:
        """Cut-off radius, Å."""
        return self.descriptor.get_rcut()

    @property
    def dtype(self) -> np.dtype:
        """The precision that the edge vectors are given in: the descriptor's."""
        return self.descriptor.se_atten.dtype

    @property
    def needs_x64(self) -> bool:
        """Whether any part of the model computes in float64."""
        return any(dtype == np.float64 for dtype in (self.dtype, self.fitting.net.dtype))

    @property
    def parameter_widths(self) -> tuple[int, int, tuple[float, ...] | None]:
        """What the model is told beside the structure: `fparam`, `aparam`, and the default of `fparam`.

        The arguments of `dpax.data.ParameterWidths`.
        """
        return *self.fitting.inputs, self.fitting.default_fparam

    @property
    def fixed_bias(self) -> tuple[float | None, ...]:
        """[ntypes], eV: the bias of each type that no statistics may change, None where they may."""
        nothing = (None,) * len(self.type_map)
        pairs = zip(self.preset_out_bias or nothing, self.isolated_energies or nothing, strict=True)
        return tuple(preset if alone is None else alone for preset, alone in pairs)

    def set_bias(self, bias: np.ndarray) -> None:
        """Set the energy bias, [ntypes], eV; excluded types have none."""
        values = np.array(bias, np.float64)
        values[list(self.atom_exclude_types)] = 0.0
        self.bias = tuple(values.tolist())

    def spec(self) -> ModelSpec:
        """What is constant about the model."""
        short = self.short_range
        missing = None if short is None else short.fitting_bias if short.add_bias else self.bias
        return ModelSpec(
            self.descriptor.spec(),
            self.fitting.activation_function,
            silent=self.atom_exclude_types,
            silent_in_fitting=self.fitting.exclude_types,
            unseen=self.pair_exclude_types,
            short_range=short,
            missing_bias=missing,
        )

    def weights(self) -> ModelWeights:
        """The arrays, for `atomic_energies`."""
        descriptor = self.descriptor.weights()
        return ModelWeights(descriptor, self.fitting.weights(), self._vacuum(descriptor))

    def evaluation_weights(self) -> ModelWeights:
        """The same arrays, computed at once: for many evaluations with these weights."""
        graph, state = nnx.split(self)
        with computing(self.needs_x64):
            return jax.jit(lambda state: nnx.merge(graph, state).weights())(state)

    def _vacuum(self, descriptor: Any) -> Vacuum | None:
        """What the net's energies are relative to: a descriptor of zeros, or atoms without neighbours."""
        n, dtype = len(self.type_map), self.fitting.net.dtype
        if self.isolated_energies is not None:
            asked = [name in self.relative_types for name in self.type_map]
            alone = isolated_descriptors(self.descriptor.spec(), descriptor)
            return Vacuum(alone, jnp.array([*asked, False], dtype))
        if self.fitting.subtracts_zero_descriptor:
            zeros = jnp.zeros((n + 1, self.fitting.dim_descrpt), dtype)
            return Vacuum(zeros, jnp.ones(n + 1, dtype))
        return None

    def for_deepmd(self) -> Self:
        """A model of the same energies that DeePMD-kit's dictionary can express.

        Energies of isolated atoms become numbers of the bias, as they are with the weights of now.

        Raises:
            InputError: there is none; the message says why.
        """
        block, short = self.descriptor.se_atten, self.short_range
        for name, given in (("empty_slots", block.empty_slots), ("attn_norm", block.attn_norm)):
            if given not in ("dense", "sum"):
                raise InputError(f"the model has {name} = {given!r}, which DeePMD-kit does not know")
        bias, of_net = np.array(self.bias), np.zeros(len(self.type_map))
        if short is not None and not short.add_bias:
            if self.fitting.net.dtype != np.float64:
                raise InputError(
                    "the model has srtab_add_bias = false; DeePMD-kit can say this only with the bias inside "
                    f"the fitting net, and {self.fitting.net.dtype.name} would round it there"
                )
            of_net = bias.copy()
        elif short is not None and short.fitting_bias is not None:
            of_net = np.array(short.fitting_bias)
        if self.isolated_energies is not None:
            alone = np.array(self.bias) - self.absolute_bias()
            bias, of_net = bias - alone, of_net - alone
        plain = type(self).deserialize(self.serialize() | {"isolated_energies": None, "srtab_add_bias": True})
        if short is not None:
            plain.short_range = replace(short, add_bias=True, fitting_bias=tuple(of_net.tolist()))
        plain.set_bias(bias)
        return plain

    @property
    def relative_types(self) -> frozenset[str]:
        """Elements whose energies from the net are relative to another energy of the net."""
        if self.isolated_energies is not None:
            pairs = zip(self.type_map, self.isolated_energies, strict=True)
            return frozenset(name for name, energy in pairs if energy is not None)
        return frozenset(self.type_map if self.fitting.subtracts_zero_descriptor else ())

    def absolute_bias(self) -> np.ndarray:
        """[ntypes], eV: the bias with which the net's energies as they are would give those of the model.

        It differs from `bias` where energies are relative to those of isolated atoms, or to that of a
        descriptor of zeros, and is as good as the weights of now.

        Raises:
            InputError: what they are relative to depends on `fparam` or `aparam`.
        """
        weights = self.weights()
        if weights.vacuum is None:
            return np.array(self.bias)
        if any(self.fitting.inputs):
            raise InputError(
                "atom_ener: the energies of isolated atoms are exact under any fparam and aparam, and no "
                "bias can stand for what depends on them"
            )
        descriptors, applies = (array[:-1] for array in weights.vacuum)
        nothing = jnp.zeros((len(descriptors), 0))
        energies = fit(weights.fitting, self.fitting.activation_function, descriptors, nothing)
        silent = np.isin(np.arange(len(descriptors)), self.fitting.exclude_types)
        return np.array(self.bias) - np.where((applies > 0) & ~silent, energies, 0.0)

    def change_type_map(
        self, type_map: Sequence[str], seed: Seed = None, statistics_from: Self | None = None
    ) -> None:
        """Match the types to a new `type_map` by name; what concerns known elements stays as it is.

        Weights of new types are drawn at random, their bias is 0, and nothing is preset for them.

        Args:
            type_map: element symbols; may drop, add and reorder types.
            seed: of the new types' weights.
            statistics_from: a model of the new `type_map`, whose environment statistics and bias new types
                take.

        Raises:
            InputError: a compressed descriptor, a new type without an entry in the short-range table, or
                `statistics_from` with other types.
        """
        old, new = self.type_map, tuple(type_map)
        if statistics_from is not None and statistics_from.type_map != new:
            raise InputError(
                f"statistics for the types {' '.join(new)} cannot come from a model of "
                f"{' '.join(statistics_from.type_map)}"
            )
        short = None if self.short_range is None else self.short_range.change_types(old, new)
        source = None if statistics_from is None else statistics_from.descriptor
        self.descriptor.change_type_map(new, source, seed)
        self.fitting.change_types(old, new)
        fresh = np.zeros(len(new)) if statistics_from is None else np.array(statistics_from.bias)
        known = dict(zip(old, self.bias, strict=True))
        bias = np.array([known.get(name, fresh[row]) for row, name in enumerate(new)])
        self.atom_exclude_types = tuple(
            sorted(new.index(old[t]) for t in self.atom_exclude_types if old[t] in new)
        )
        self.pair_exclude_types = tuple(
            (new.index(old[a]), new.index(old[b]))
            for a, b in self.pair_exclude_types
            if old[a] in new and old[b] in new
        )
        for name in ("preset_out_bias", "isolated_energies"):
            given = dict(zip(old, getattr(self, name) or (None,) * len(old), strict=True))
            setattr(self, name, _some_given([given.get(element) for element in new]))
        self.short_range, self.type_map = short, new
        self.set_bias(bias)

    def serialize(self) -> dict:
        """DeePMD-kit's dictionary of a model (`Model.serialize()`).

        What DeePMD-kit does not know stands under keys of dpax (`isolated_energies`, `srtab_add_bias`);
        `for_deepmd` gives a model without.
        """
        short = self.short_range
        of_net = np.zeros(len(self.type_map)) if short is None else np.array(short.fitting_bias or 0.0)
        fitting = self.fitting.serialize()
        fitting["@variables"]["bias_atom_e"] += np.reshape(of_net, (-1, 1))
        parts = {"descriptor": self.descriptor.serialize(), "fitting": fitting}
        preset = self.preset_out_bias
        model = {
            **self._model_keys("standard" if short is None else "zbl"),
            "atom_exclude_types": list(self.atom_exclude_types),
            "pair_exclude_types": [list(pair) for pair in self.pair_exclude_types],
            "rcond": self.fitting.rcond,
            "preset_out_bias": None
            if preset is None
            else {"energy": [None if energy is None else np.array([energy]) for energy in preset]},
            **({} if self.isolated_energies is None else {"isolated_energies": list(self.isolated_energies)}),
        }
        model["@variables"]["out_bias"] += np.reshape(np.array(self.bias) - of_net, (1, -1, 1))
        if short is None:
            return model | parts
        dp_model = self._model_keys("standard") | parts
        return model | {
            "models": [dp_model, short.serialize(self.descriptor.get_nsel(), list(self.type_map))],
            "weights": "mean",
            "sw_rmin": short.sw_rmin,
            "sw_rmax": short.sw_rmax,
            "smin_alpha": short.smin_alpha,
            **({} if short.add_bias else {"srtab_add_bias": False}),
        }

    def _model_keys(self, kind: str) -> dict:
        """What DeePMD-kit's dictionary of any kind of model has."""
        shape = (1, len(self.type_map), 1)
        return {
            "@class": "Model",
            "type": kind,
            "@version": 2,
            "type_map": list(self.type_map),
            "atom_exclude_types": [],
            "pair_exclude_types": [],
            "rcond": None,
            "preset_out_bias": None,
            "@variables": {"out_bias": np.zeros(shape), "out_std": np.ones(shape)},
        }

    @classmethod
    def deserialize(cls, data: dict) -> Self:
        """Read DeePMD-kit's dictionary of a model: 'standard', or 'zbl' with a short-range table.

        A dictionary that holds something else than a model may make Python raise one of `WRONG_CONTENTS` too.

        Raises:
            InputError: not an energy model with a DPA-1 descriptor, or one whose parts do not fit each other.
        """
        data = take(data, "Model", 2)
        kind = data.get("type", "standard")
        if kind not in ("standard", "zbl"):
            raise InputError(
                f"the model is of type {kind!r}; dpax reads 'standard' and 'zbl' energy models with DPA-1"
            )
        net = data if kind == "standard" else _network_part(data)
        descriptor_kind = net["descriptor"].get("type")
        if descriptor_kind not in _DESCRIPTORS:
            raise InputError(
                f"the model's descriptor is {descriptor_kind!r}; dpax reads DPA-1 models "
                f"({', '.join(_DESCRIPTORS)})"
            )
        descriptor = _DESCRIPTORS[descriptor_kind].deserialize(net["descriptor"])
        _check_uniform(descriptor)
        fitting, of_net = EnergyFitting.deserialize(net["fitting"])
        n_types = descriptor.get_ntypes()
        type_map = _checked_names(data["type_map"], n_types)
        expect("the number of types", fitting.ntypes, n_types)
        for part in (descriptor, fitting):
            expect("type_map", list(part.type_map or type_map), type_map)
        if data.get("rcond") is not None:
            fitting.rcond = real(data, "rcond")
        preset = (data.get("preset_out_bias") or {}).get("energy")
        bias = numbers(data["@variables"], "out_bias", (1, n_types, 1))
        short = None if kind == "standard" else ShortRange.deserialize(data["models"][1], data, of_net)
        if short is not None and short.table.rcut != descriptor.get_rcut():
            raise InputError(
                f"the model's short-range table has the cut-off {short.table.rcut} Å and its descriptor "
                f"{descriptor.get_rcut()} Å; dpax reads models with one for both"
            )
        model = cls(
            descriptor,
            fitting,
            type_map,
            bias.astype(np.float64)[0, :, 0] + of_net,
            atom_exclude_types=_checked_types(data, "atom_exclude_types", (None,), n_types),
            pair_exclude_types=_checked_types(data, "pair_exclude_types", (None, 2), n_types),
            preset_out_bias=_checked_energies(preset, "preset_out_bias", n_types),
            isolated_energies=_checked_energies(data.get("isolated_energies"), "isolated_energies", n_types),
            short_range=short,
        )
        _check_numbers(model)
        return model


def reinitialize(module: Module, rule: str, seed: int | None) -> None:
    """Draw the weights of all layers of a module by a named rule, each from a seed of its own name."""
    for path, layer in nnx.iter_modules(module):
        if isinstance(layer, Layer):
            name = "/".join(map(str, path)).encode()
            layer.reinitialize(rule, None if seed is None else [seed, *name])


def _network_part(data: dict) -> dict:
    """The network of a 'zbl' model; the types of both its parts are those of the whole."""
    parts = [take(part, "Model", 2) for part in data["models"]]
    for part in parts:
        if list(part["type_map"]) != list(data["type_map"]):
            raise InputError("the parts of the model have type maps of their own, which dpax does not read")
        if part.get("pair_exclude_types") or part.get("atom_exclude_types"):
            raise InputError("a part of the model excludes types by itself, which DeePMD-kit ignores")
    if parts[0].get("type", "standard") != "standard":
        raise InputError(f"the first part of the model is of type {parts[0]['type']!r}; expected 'standard'")
    return parts[0]


def _checked_names(type_map: Any, n_types: int) -> list[str]:
    """The names of the types, which an old model may not have."""
    if not isinstance(type_map, (list, tuple)) or not all(isinstance(name, str) for name in type_map):
        raise InputError(f"type_map is {shortened(type_map)}; expected the names of the types")
    if type_map and len(type_map) != n_types:
        raise InputError(f"type_map has {len(type_map)} names; the descriptor has {n_types} types")
    if len(set(type_map)) < len(type_map):
        raise InputError(f"type_map names a type twice: {shortened(type_map)}")
    return list(type_map)


def _checked_types(data: dict, key: str, shape: tuple[int | None, ...], n_types: int) -> list:
    """Types, or pairs of types, of a model's dictionary."""
    given = data.get(key) or []
    if not given:
        return []
    types = numbers(data, key, shape)
    if types.dtype.kind != "i" or np.any((types < 0) | (types >= n_types)):
        raise InputError(f"{key} is {shortened(given)}; the types are 0 to {n_types - 1}")
    return types.tolist()


def _checked_energies(values: Any, key: str, n_types: int) -> list[float | None] | None:
    """An energy for some of the types, of a model's dictionary."""
    if values is None:
        return None
    if len(values) != n_types:
        raise InputError(f"{key} has {len(values)} entries; the model has {n_types} types")
    flat = [None if value is None else np.ravel(as_numbers(value, key)).tolist() for value in values]
    if any(energy is not None and len(energy) != 1 for energy in flat):
        raise InputError(f"{key} is {shortened(values)}; expected one energy or null for each type")
    return [None if energy is None else real({key: float(energy[0])}, key) for energy in flat]


def _check_numbers(model: EnergyModel) -> None:
    """See that a model can compute with its numbers."""
    arrays = {"/".join(map(str, path)): np.asarray(v[...]) for path, v in nnx.to_flat_state(nnx.state(model))}
    for name, array in {**arrays, "out_bias": np.array(model.bias)}.items():
        if not np.isfinite(array).all():
            raise InputError(
                f"the model's {name} has numbers that are not finite: its training went wrong, they are too "
                "large for its precision, or the file is damaged"
            )
    if not (np.asarray(model.descriptor.stddev[...]) > 0).all():
        raise InputError(
            "the model's stddev, which the environment is divided by, is not positive everywhere"
        )


def _some_given(values: PerType | None) -> tuple[float | None, ...] | None:
    """One entry a type, or None where no type has one."""
    if values is None or all(value is None for value in values):
        return None
    return tuple(None if value is None else float(value) for value in values)


def _check_uniform(descriptor: DescrptDPA1) -> None:
    """Statistics of data are the same in every slot; the model relies on it."""
    for name in ("mean", "stddev"):
        array = np.asarray(getattr(descriptor.se_atten, name)[...])
        if np.any(array != array[:, :1]):
            raise InputError(
                f"the model's {name} differs between neighbour slots, as no statistics of data do"
            )
