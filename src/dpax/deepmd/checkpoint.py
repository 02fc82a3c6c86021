"""From the arrays of a DeePMD-kit checkpoint to its model.

A checkpoint holds named arrays and the input that the model was made from. Arrays go by the names that
DeePMD-kit's JAX models have for them, `descriptor/se_atten/embeddings/_networks/0/layers/1/w`.
"""

from collections.abc import Mapping
from typing import Any

import numpy as np

from dpax.contents import expect
from dpax.deepmd import keys, places
from dpax.deepmd.descriptor_dictionary import descriptor_keys, fitted_descriptor, read_tables, spec_of
from dpax.deepmd.dictionary import checked
from dpax.deepmd.fitting_dictionary import fitted_fitting, fitting_spec_of
from dpax.deepmd.model_dictionary import DESCRIPTORS, model_of
from dpax.descriptor.spec import DescriptorSpec
from dpax.errors import InputError
from dpax.model.energy_model import EnergyModel
from dpax.model.fitting_spec import FittingSpec
from dpax.model.pair_table import PairTable
from dpax.model.short_range import ShortRange
from dpax.nn.arrays import below, numbered

Arrays = Mapping[str, np.ndarray]
_LAYERS = "nets/_networks/0/layers"


def checkpointed_model(script: Mapping[str, Any], arrays: Arrays) -> EnergyModel:
    """The model of a checkpoint.

    Args:
        script: section `model` of the input that the model was made from.
        arrays: of the model, by the names of DeePMD-kit's JAX models below `atomic_model`.

    Raises:
        InputError: not an energy model with a DPA-1 descriptor, or arrays of other shapes than it has.
    """
    _check_kind(script)
    network = below(arrays, "models", 0) if "use_srtab" in script else arrays
    descriptor, of_descriptor = _descriptor(script, below(network, "descriptor"))
    fitting, of_fitting = _fitting(script, descriptor.width, below(network, "fitting_net"))
    net_bias = np.zeros(descriptor.ntypes)
    stored_bias = below(network, "fitting_net").get("bias_atom_e")
    if stored_bias is not None:
        net_bias = np.array(np.ravel(stored_bias), np.float64)
    net_bias[list(fitting.exclude_types)] = 0.0
    short = None
    if "use_srtab" in script:
        short = _short_range(script, below(arrays, "models", 1), descriptor, net_bias)
    # The oldest checkpoints have their bias in the fitting net alone.
    none = np.zeros((1, descriptor.ntypes, 1))
    out_bias = arrays.get("out_bias", none)
    return model_of(script, descriptor, fitting, short, of_descriptor, of_fitting, out_bias, net_bias)


def _check_kind(script: Mapping[str, Any]) -> None:
    for key in ("spin", "modifier"):
        if script.get(key):
            raise InputError(f"the model has a section {key!r}; dpax reads DPA-1 energy models without it")
    kind = script.get("type") or "standard"
    descriptor = script.get("descriptor", {}).get("type")
    fitting = script.get("fitting_net", {}).get("type", "ener")
    if kind != "standard":
        raise InputError(f"the model is of type {kind!r}; dpax reads 'standard' energy models with DPA-1")
    if descriptor not in DESCRIPTORS:
        raise InputError(
            f"the model's descriptor is {descriptor!r}; dpax reads DPA-1 models ({', '.join(DESCRIPTORS)})"
        )
    if fitting != "ener":
        raise InputError(f"the model fits {fitting!r}; dpax reads models of energies ('ener')")


def _descriptor(script: Mapping[str, Any], arrays: Arrays) -> tuple[DescriptorSpec, dict[str, np.ndarray]]:
    """A descriptor's description and arrays.

    Older versions leave some settings out or spell them differently; the arrays decide.
    """
    settings = dict(script["descriptor"])
    named = places.renamed(arrays, places.DESCRIPTOR, "checkpoint")
    if "smooth_type_embdding" in settings:
        settings["smooth_type_embedding"] = settings["smooth_type_embdding"]
    settings |= {
        "ntypes": len(script["type_map"]),
        "type_map": list(script["type_map"]),
        "precision": named["mean"].dtype.name,
        "use_tebd_bias": "type_embedding/0/b" in named,
        "tebd_input_mode": "strip" if below(named, "pair_embedding") else "concat",
    }
    known = descriptor_keys(settings["type"])
    _check_known(settings, known, "descriptor")
    fields = keys.read(known, settings, "descriptor")
    spec, own = fitted_descriptor(spec_of({"type": settings["type"], **fields}), named)
    # DeePMD-kit keeps the tables in the descriptor or in its block.
    tables = {**below(arrays, "se_atten"), **arrays}
    if np.size(tables.get("type_embd_data", ())):
        radial = np.size(tables.get("compress_data/0", ())) > 0
        content = {"type_embd_data": tables["type_embd_data"]}
        if radial:
            content |= {name: [tables[f"{name}/0"]] for name in ("compress_data", "compress_info")}
        own |= read_tables(spec, {"@variables": content, "geo_compress": radial})
    return spec, own


def _fitting(
    script: Mapping[str, Any], width: int, arrays: Arrays
) -> tuple[FittingSpec, dict[str, np.ndarray]]:
    """A fitting net's description and arrays."""
    layers = below(arrays, *_LAYERS.split("/"))
    widths = [layers[f"{number}/w"].shape[1] for number in range(numbered(layers))]
    settings = dict(script.get("fitting_net", {})) | {
        "ntypes": len(script["type_map"]),
        "dim_descrpt": width,
        "neuron": widths[:-1],
        "precision": layers["0/w"].dtype.name,
    }
    _check_known(settings, keys.FITTING, "fitting net")
    spec = fitting_spec_of(keys.read(keys.FITTING, settings, "fitting net"))
    return spec, fitted_fitting(spec, places.renamed(arrays, places.FITTING, "checkpoint"))


def _check_known(settings: Mapping[str, Any], known: keys.Keys, what: str) -> None:
    unknown = set(settings) - {key.name for key in known} - set(_OF_THE_INPUT)
    if unknown:
        raise InputError(f"a {what} has no setting {min(unknown)!r}")


_OF_THE_INPUT = (
    *("type", "seed", "layer_name", "stripped_type_embedding", "smooth_type_embdding"),
    *("ntypes", "type_map", "mixed_types", "dim_descrpt", "tebd_input_mode", "smooth_type_embedding"),
)
"""Keys of the input that do not describe the model, those that DeePMD-kit adds, and those that v2 fixes."""


def _short_range(
    script: Mapping[str, Any], arrays: Arrays, descriptor: DescriptorSpec, net_bias: np.ndarray
) -> ShortRange:
    """The pair potential: `tab_info` holds first distance, spacing, intervals and types."""
    info, splines = np.asarray(arrays["tab_info"]), np.asarray(arrays["tab_data"], np.float64)
    first, spacing, intervals, n_types = float(info[0]), float(info[1]), int(info[2]), int(info[3])
    expect("the number of types of the short-range table", n_types, len(script["type_map"]))
    splines = splines.reshape(n_types, n_types, intervals, 4)
    knots = _tabulated(splines, first + spacing * np.arange(intervals + 1))
    table = PairTable(knots, splines, first + spacing * intervals, descriptor.rcut)
    table.check()
    fields = {
        "table": table,
        "sw_rmin": script["sw_rmin"],
        "sw_rmax": script["sw_rmax"],
        "smin_alpha": script.get("smin_alpha", 0.1),
        "fitting_bias": tuple(net_bias.tolist()) if net_bias.any() else None,
    }
    return checked(ShortRange, fields, "short-range table")


def _tabulated(splines: np.ndarray, distances: np.ndarray) -> np.ndarray:
    """The table that the splines go through: distances, then a column of energies for each pair of types.

    A spline's last coefficient is its value at the beginning of its interval, and their sum that at the end.
    """
    n_types = len(splines)
    pairs = [splines[a, b] for a in range(n_types) for b in range(a, n_types)]
    energies = [np.append(pair[:, 3], pair[-1].sum()) for pair in pairs]
    return np.stack([distances, *energies], axis=1)
