"""DeePMD-kit's dictionary of a model: of a network alone ('standard'), or with a pair potential ('zbl')."""

from collections.abc import Mapping
from typing import Any

import numpy as np

from dpax.contents import expect, flag, real
from dpax.deepmd import descriptor_dictionary, keys
from dpax.deepmd.dictionary import checked, take
from dpax.deepmd.fitting_dictionary import fitting, read_fitting
from dpax.descriptor.spec import DescriptorSpec
from dpax.errors import InputError, shortened
from dpax.model.energy_model import EnergyModel, bias_of, check_numbers
from dpax.model.fitting_spec import FittingSpec
from dpax.model.pair_table import PairTable
from dpax.model.short_range import ShortRange
from dpax.model.spec import ModelSpec, some_given
from dpax.nn.arrays import Arrays, as_numbers, numbers, placed

DESCRIPTORS = ("dpa1", "se_atten", "se_atten_v2")


def model_dictionary(model: EnergyModel) -> dict[str, Any]:
    """The dictionary of a model (`Model.serialize()`).

    What DeePMD-kit does not know is under keys of dpax (`isolated_energies`, `srtab_add_bias`);
    `for_deepmd` gives a model without.
    """
    spec, short = model.spec, model.spec.short_range
    of_net = np.zeros(spec.descriptor.ntypes) if short is None else np.array(short.fitting_bias or 0.0)
    net = fitting(spec.fitting, model.fitting, spec.type_map)
    net["@variables"]["bias_atom_e"] += np.reshape(of_net, (-1, 1))
    parts = {
        "descriptor": descriptor_dictionary.descriptor(spec.descriptor, model.descriptor),
        "fitting": net,
    }
    preset = spec.preset_out_bias
    whole = {
        **_model_keys(spec, "standard" if short is None else "zbl"),
        "atom_exclude_types": list(spec.atom_exclude_types),
        "pair_exclude_types": [list(pair) for pair in spec.pair_exclude_types],
        "rcond": spec.fitting.rcond,
        "preset_out_bias": None
        if preset is None
        else {"energy": [None if energy is None else np.array([energy]) for energy in preset]},
        **({} if spec.isolated_energies is None else {"isolated_energies": list(spec.isolated_energies)}),
    }
    whole["@variables"]["out_bias"] += np.reshape(np.array(model.bias) - of_net, (1, -1, 1))
    if short is None:
        return whole | parts
    return whole | {
        "models": [_model_keys(spec, "standard") | parts, _pair_model(spec, short)],
        "weights": "mean",
        "sw_rmin": short.sw_rmin,
        "sw_rmax": short.sw_rmax,
        "smin_alpha": short.smin_alpha,
        **({} if short.add_bias else {"srtab_add_bias": False}),
    }


def _model_keys(spec: ModelSpec, kind: str) -> dict[str, Any]:
    """The entries of the dictionary of any kind of model."""
    shape = (1, spec.descriptor.ntypes, 1)
    return {
        "@class": "Model",
        "type": kind,
        "@version": 2,
        "type_map": list(spec.type_map),
        "atom_exclude_types": [],
        "pair_exclude_types": [],
        "rcond": None,
        "preset_out_bias": None,
        "@variables": {"out_bias": np.zeros(shape), "out_std": np.ones(shape)},
    }


def _pair_model(spec: ModelSpec, short: ShortRange) -> dict[str, Any]:
    """The dictionary of the pair potential, a 'pairtab' model."""
    return _model_keys(spec, "pairtab") | {
        "tab": pair_table(short.table),
        "rcut": short.table.rcut,
        "sel": spec.descriptor.nsel,
    }


def pair_table(table: PairTable) -> dict[str, Any]:
    """The dictionary of a table, a `PairTab`."""
    intervals = len(table.knots) - 1
    return {
        "@class": "PairTab",
        "@version": 1,
        "rmin": table.rmin,
        "rmax": table.rmax,
        "hh": table.spacing,
        "ntypes": table.ntypes,
        "rcut": table.rcut,
        "nspline": intervals,
        "@variables": {
            "vdata": table.knots,
            "tab_info": np.array([table.rmin, table.spacing, intervals, table.ntypes]),
            "tab_data": table.coefficients.reshape(-1),
        },
    }


def for_deepmd(model: EnergyModel) -> EnergyModel:
    """A model of the same energies that DeePMD-kit's dictionary can express.

    Energies of isolated atoms become numbers of the bias, as they are with the present weights.

    Raises:
        InputError: there is none; the message gives the reason.
    """
    spec, short = model.spec, model.spec.short_range
    own = keys.written(keys.OWN, spec.descriptor)
    for name, value in own.items():
        raise InputError(f"the model has {name} = {value!r}, which DeePMD-kit does not know")
    bias, of_net = np.array(model.bias), np.zeros(spec.descriptor.ntypes)
    if short is not None and not short.add_bias:
        if spec.fitting.dtype != np.float64:
            raise InputError(
                "the model has srtab_add_bias = false; DeePMD-kit can express this only with the bias inside "
                f"the fitting net, and {spec.fitting.dtype.name} would round it there"
            )
        of_net = bias.copy()
    elif short is not None and short.fitting_bias is not None:
        of_net = np.array(short.fitting_bias)
    if spec.isolated_energies is not None:
        alone = bias - model.absolute_bias()
        bias, of_net = bias - alone, of_net - alone
    if short is not None:
        short = short.changed(add_bias=True, fitting_bias=tuple(of_net.tolist()))
    plain = spec.changed(isolated_energies=None, short_range=short)
    return EnergyModel(plain, model.arrays, bias_of(plain, bias))


# Reading


def read_model(data: Any) -> EnergyModel:
    """What `model_dictionary` has written, or DeePMD-kit.

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
    _check_kind(net["descriptor"])
    descriptor, of_descriptor = descriptor_dictionary.read_descriptor(net["descriptor"])
    fitting_spec, of_fitting, net_bias = read_fitting(net["fitting"], descriptor.width)
    if data.get("rcond") is not None:
        fitting_spec = fitting_spec.changed(rcond=real(data, "rcond"))
    expect("the number of types", fitting_spec.ntypes, descriptor.ntypes)
    for part in (descriptor.type_map, net["fitting"].get("type_map")):
        expect("type_map", list(part or data["type_map"]), list(data["type_map"]))
    short = None if kind == "standard" else _read_pair_model(data, net_bias)
    out_bias = data["@variables"]["out_bias"]
    return model_of(data, descriptor, fitting_spec, short, of_descriptor, of_fitting, out_bias, net_bias)


def model_of(
    data: Mapping[str, Any],
    descriptor: DescriptorSpec,
    fitting_net: FittingSpec,
    short_range: ShortRange | None,
    of_descriptor: Arrays,
    of_fitting: Arrays,
    out_bias: object,
    net_bias: np.ndarray,
) -> EnergyModel:
    """A model from its parts.

    Args:
        data: what DeePMD-kit says of the whole, in a dictionary or in an input: the types, their exclusions
            and energies.
        descriptor: the description of its descriptor.
        fitting_net: that of its fitting net.
        short_range: its pair potential.
        of_descriptor: the arrays of the descriptor.
        of_fitting: those of the fitting net.
        out_bias: the energy bias, [1, ntypes, 1], eV, as read; anything else is refused.
        net_bias: the part of it that is kept in the fitting net, [ntypes], eV.

    Raises:
        InputError: parts that do not fit each other, or numbers that no model computes with.
    """
    n_types = descriptor.ntypes
    preset = (data.get("preset_out_bias") or {}).get("energy")
    fields = {
        "type_map": tuple(_checked_names(data["type_map"], n_types)),
        "descriptor": descriptor,
        "fitting": fitting_net,
        "atom_exclude_types": tuple(sorted(set(_types(data, "atom_exclude_types", (None,), n_types)))),
        "pair_exclude_types": tuple(map(tuple, _types(data, "pair_exclude_types", (None, 2), n_types))),
        "preset_out_bias": some_given(_energies(preset, "preset_out_bias", n_types)),
        "isolated_energies": some_given(
            _energies(data.get("isolated_energies"), "isolated_energies", n_types)
        ),
        "short_range": short_range,
    }
    spec = checked(ModelSpec, fields, "model")
    bias = numbers({"out_bias": out_bias}, "out_bias", (1, n_types, 1)).astype(np.float64)[0, :, 0] + net_bias
    for name in ("mean", "stddev"):
        if of_descriptor[name].shape[1] > 1:
            raise InputError(
                f"the model's {name} differs between neighbour slots, as no statistics of data do"
            )
    arrays = {**placed(of_descriptor, "descriptor"), **placed(of_fitting, "fitting")}
    model = EnergyModel(spec, arrays, bias_of(spec, bias))
    check_numbers(model)
    return model


def _check_kind(descriptor: Any) -> None:
    kind = descriptor.get("type")
    if kind not in DESCRIPTORS:
        raise InputError(
            f"the model's descriptor is {kind!r}; dpax reads DPA-1 models ({', '.join(DESCRIPTORS)})"
        )


def _network_part(data: dict[str, Any]) -> dict[str, Any]:
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


def _read_pair_model(data: Mapping[str, Any], fitting_bias: np.ndarray) -> ShortRange:
    """The 'pairtab' model in a 'zbl' model, and where it takes over."""
    pairtab = take(data["models"][1], "Model", 2)
    if pairtab.get("type") != "pairtab":
        raise InputError(
            f"the second part of the model is of type {pairtab.get('type')!r}; expected 'pairtab'"
        )
    return ShortRange(
        table=read_pair_table(pairtab["tab"]),
        sw_rmin=real(data, "sw_rmin"),
        sw_rmax=real(data, "sw_rmax"),
        smin_alpha=real(data, "smin_alpha", 0.1),
        add_bias=flag(data, "srtab_add_bias", True),
        fitting_bias=tuple(fitting_bias.tolist()) if fitting_bias.any() else None,
    )


def read_pair_table(data: Any) -> PairTable:
    """What `pair_table` has written.

    Raises:
        InputError: arrays that are no such table.
    """
    data = take(data, "PairTab", 1)
    arrays, ntypes = data["@variables"], int(real(data, "ntypes"))
    knots = numbers(arrays, "vdata", (None, 1 + ntypes * (ntypes + 1) // 2)).astype(np.float64)
    flat = {"tab_data": np.ravel(arrays["tab_data"])}
    coefficients = numbers(flat, "tab_data", (ntypes**2 * (len(knots) - 1) * 4,)).astype(np.float64)
    table = PairTable(
        knots, coefficients.reshape(ntypes, ntypes, -1, 4), real(data, "rmax"), real(data, "rcut")
    )
    table.check()
    described = [table.rmin, table.spacing, len(knots) - 1, ntypes]
    info = numbers(arrays, "tab_info", (4,))
    if not np.allclose(info, described, rtol=1e-6):
        raise InputError(
            f"the short-range table is described as {info.tolist()} (first distance, step, intervals, "
            f"types), but has {described}"
        )
    return table


def _checked_names(type_map: Any, n_types: int) -> list[str]:
    """The names of the types, which an old model may not have."""
    if not isinstance(type_map, (list, tuple)) or not all(isinstance(name, str) for name in type_map):
        raise InputError(f"type_map is {shortened(type_map)}; expected the names of the types")
    if type_map and len(type_map) != n_types:
        raise InputError(f"type_map has {len(type_map)} names; the descriptor has {n_types} types")
    return list(type_map)


def _types(data: Mapping[str, Any], key: str, shape: tuple[int | None, ...], n_types: int) -> list[Any]:
    """Types, or pairs of types, of a model's dictionary."""
    declared = data.get(key) or []
    if not declared:
        return []
    types = numbers(data, key, shape)
    if types.dtype.kind != "i" or np.any((types < 0) | (types >= n_types)):
        raise InputError(f"{key} is {shortened(declared)}; the types are 0 to {n_types - 1}")
    return types.tolist()


def _energies(values: Any, key: str, n_types: int) -> list[float | None] | None:
    """An energy for some of the types, of a model's dictionary."""
    if values is None:
        return None
    if len(values) != n_types:
        raise InputError(f"{key} has {len(values)} entries; the model has {n_types} types")
    flat = [None if value is None else np.ravel(as_numbers(value, key)).tolist() for value in values]
    if any(energy is not None and len(energy) != 1 for energy in flat):
        raise InputError(f"{key} is {shortened(values)}; expected one energy or null for each type")
    return [None if energy is None else real({key: float(energy[0])}, key) for energy in flat]
