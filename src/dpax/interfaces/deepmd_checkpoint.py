"""From the arrays of a DeePMD-kit checkpoint to the dictionary of its model.

A checkpoint holds named arrays and the input that the model was made from, not the model's dictionary. Here a
model is made from the same input, and the checkpoint's arrays take the places of its own. Arrays go by the
names that DeePMD-kit's JAX models have for them, `descriptor/se_atten/embeddings/_networks/0/layers/1/w`.
"""

from collections.abc import Mapping
from typing import Any

import numpy as np

from dpax.descriptor.dpa1 import DescrptDPA1
from dpax.descriptor.se_atten_v2 import DescrptSeAttenV2
from dpax.errors import InputError
from dpax.model.fitting import EnergyFitting
from dpax.nn.serialized import check_settings, expect

Arrays = Mapping[str, np.ndarray]
_DESCRIPTORS = {"se_atten": DescrptDPA1, "dpa1": DescrptDPA1, "se_atten_v2": DescrptSeAttenV2}
_LOCAL = (
    *("type", "seed", "layer_name", "stripped_type_embedding", "smooth_type_embdding"),
    *("ntypes", "type_map", "mixed_types", "dim_descrpt"),
)
"""Keys of the input that are no arguments here, and those that DeePMD-kit adds to it."""
_PARAMETERS = ("bias_atom_e", "case_embd", "fparam_avg", "fparam_inv_std", "aparam_avg", "aparam_inv_std")


def model_dictionary(script: Mapping[str, Any], arrays: Arrays) -> dict:
    """The dictionary of the model of a checkpoint.

    Args:
        script: section `model` of the input that the model was made from.
        arrays: of the model, by the names of DeePMD-kit's JAX models below `atomic_model`.

    Raises:
        InputError: not an energy model with a DPA-1 descriptor, or arrays of other shapes than it has.
    """
    _check_kind(script)
    exclusions = {key: script.get(key) or [] for key in ("atom_exclude_types", "pair_exclude_types")}
    if "use_srtab" not in script:
        return _network(script, arrays) | exclusions
    network, table = _network(script, _below(arrays, "models/0/")), _below(arrays, "models/1/")
    return {
        **_keys("zbl", script, arrays),
        **exclusions,
        "models": [network, _table(script, table, network["descriptor"])],
        "weights": "mean",
        "sw_rmin": script["sw_rmin"],
        "sw_rmax": script["sw_rmax"],
        "smin_alpha": script.get("smin_alpha", 0.1),
    }


def _check_kind(script: Mapping[str, Any]) -> None:
    for key in ("spin", "modifier"):
        if script.get(key):
            raise InputError(f"the model has a section {key!r}; dpax reads DPA-1 energy models without it")
    kind = script.get("type") or "standard"
    descriptor = script.get("descriptor", {}).get("type")
    fitting = script.get("fitting_net", {}).get("type", "ener")
    if kind != "standard":
        raise InputError(f"the model is of type {kind!r}; dpax reads 'standard' energy models with DPA-1")
    if descriptor not in _DESCRIPTORS:
        raise InputError(
            f"the model's descriptor is {descriptor!r}; dpax reads DPA-1 models ({', '.join(_DESCRIPTORS)})"
        )
    if fitting != "ener":
        raise InputError(f"the model fits {fitting!r}; dpax reads models of energies ('ener')")


def _keys(kind: str, script: Mapping[str, Any], arrays: Arrays) -> dict:
    return {
        "@class": "Model",
        "type": kind,
        "@version": 2,
        "type_map": list(script["type_map"]),
        "rcond": script.get("fitting_net", {}).get("rcond"),
        "preset_out_bias": script.get("preset_out_bias"),
        # The oldest checkpoints have their bias in the fitting net alone.
        "@variables": {"out_bias": arrays.get("out_bias", np.zeros((1, len(script["type_map"]), 1)))},
    }


def _network(script: Mapping[str, Any], arrays: Arrays) -> dict:
    descriptor = _descriptor(script, _below(arrays, "descriptor/"))
    width = descriptor.get_dim_out()
    return {
        **_keys("standard", script, arrays),
        "descriptor": _filled_descriptor(descriptor, _below(arrays, "descriptor/")),
        "fitting": _fitting(script, width, _below(arrays, "fitting_net/")),
    }


def _descriptor(script: Mapping[str, Any], arrays: Arrays) -> DescrptDPA1:
    """A descriptor with the checkpoint's settings and weights of its own."""
    given = script["descriptor"]
    settings = {key: value for key, value in given.items() if key not in _LOCAL}
    # Older versions have not said some things, or have said them in other words: the arrays are right.
    settings |= {
        "ntypes": len(script["type_map"]),
        "type_map": list(script["type_map"]),
        "precision": arrays["se_atten/mean"].dtype.name,
        "use_tebd_bias": "type_embedding/embedding_net/layers/0/b" in arrays,
    }
    if given["type"] != "se_atten_v2":
        settings["tebd_input_mode"] = "strip" if _below(arrays, "se_atten/embeddings_strip/") else "concat"
        if "smooth_type_embdding" in given:
            settings["smooth_type_embedding"] = given["smooth_type_embdding"]
    kind = _DESCRIPTORS[given["type"]]
    _check_sizes(check_settings(kind, settings), arrays)
    return kind(**settings)


def _check_sizes(settings: Mapping[str, Any], arrays: Arrays) -> None:
    """See, before a descriptor is made, that the checkpoint has arrays of its sizes.

    Raises:
        InputError: it has not.
    """
    sel, neuron, count = settings["sel"], settings["neuron"], settings["attn_layer"]
    slots = sel if isinstance(sel, int) else sum(sel)
    place = "se_atten/embeddings/_networks/0/layers/"
    layers = _count_parts(arrays, place)
    widths = [arrays[f"{place}{number}/w"].shape[1] for number in range(layers)]
    types = arrays["type_embedding/embedding_net/layers/0/w"]
    place = "se_atten/dpa1_attention/attention_layers/"
    expect("ntypes and sel", arrays["se_atten/mean"].shape, (settings["ntypes"], slots, 4))
    expect("neuron", widths, list(neuron))
    expect("tebd_dim", types.shape[1], settings["tebd_dim"])
    expect("attn_layer", _count_parts(arrays, place), count)
    if count:
        projection = arrays[f"{place}0/attention_layer/in_proj/w"]
        expect("attn", projection.shape, (neuron[-1], 3 * settings["attn"]))


def _count_parts(arrays: Arrays, place: str) -> int:
    """The number of layers whose arrays are below a place."""
    return len({name.partition("/")[0] for name in _below(arrays, place)})


def _filled_descriptor(descriptor: DescrptDPA1, arrays: Arrays) -> dict:
    tree = descriptor.serialize()
    block = _below(arrays, "se_atten/")
    statistics = {"davg": "mean", "dstd": "stddev", "degree_gain_raw": "adam_degree_gain_raw"}
    for name in tree["@variables"]:
        tree["@variables"][name] = block[statistics[name]]
    for name in ("embeddings", "embeddings_strip"):
        if name in tree:
            _fill(tree[name]["networks"][0]["layers"], block, f"{name}/_networks/0/layers")
    _fill(tree["type_embedding"]["embedding"]["layers"], arrays, "type_embedding/embedding_net/layers")
    for number, layer in enumerate(tree["attention_layers"]["attention_layers"]):
        place = f"dpa1_attention/attention_layers/{number}"
        for name in ("in_proj", "out_proj"):
            _put(layer["attention_layer"][name], block, f"{place}/attention_layer/{name}")
        _put(layer["attn_layer_norm"], block, f"{place}/attn_layer_norm")
    # DeePMD-kit keeps the tables in the descriptor or in its block.
    tables = {**block, **arrays}
    if np.size(tables.get("type_embd_data", ())):
        radial = np.size(tables.get("compress_data/0", ())) > 0
        found = {"type_embd_data": tables["type_embd_data"]}
        if radial:
            found |= {name: [tables[f"{name}/0"]] for name in ("compress_data", "compress_info")}
        tree["compress"] = {"@variables": found, "geo_compress": radial}
    return tree


def _fitting(script: Mapping[str, Any], width: int, arrays: Arrays) -> dict:
    place = "nets/_networks/0/layers"
    count = _count_parts(arrays, f"{place}/")
    widths = [arrays[f"{place}/{number}/w"].shape[1] for number in range(count)]
    settings = {key: value for key, value in script.get("fitting_net", {}).items() if key not in _LOCAL}
    settings |= {
        "neuron": widths[:-1],
        "precision": arrays[f"{place}/0/w"].dtype.name,
        "type_map": list(script["type_map"]),
    }
    sizes = check_settings(
        EnergyFitting, {**settings, "ntypes": len(script["type_map"]), "dim_descrpt": width}
    )
    told = sizes["numb_fparam"] + (0 if sizes["use_aparam_as_mask"] else sizes["numb_aparam"])
    expect(
        "the input of the fitting net", arrays[f"{place}/0/w"].shape[0], width + told + sizes["dim_case_embd"]
    )
    for kind in ("fparam", "aparam"):
        expect(f"numb_{kind}", np.size(arrays.get(f"{kind}_avg", ())), sizes[f"numb_{kind}"])
    tree = EnergyFitting(len(script["type_map"]), width, **settings).serialize()
    _fill(tree["nets"]["networks"][0]["layers"], arrays, place)
    tree["@variables"] = {name: arrays.get(name) for name in _PARAMETERS}
    return tree


def _table(script: Mapping[str, Any], arrays: Arrays, descriptor: Mapping[str, Any]) -> dict:
    """The part of pair energies: `tab_info` holds first distance, spacing, intervals and types."""
    info, splines = np.asarray(arrays["tab_info"]), np.asarray(arrays["tab_data"])
    first, spacing, intervals, n_types = float(info[0]), float(info[1]), int(info[2]), int(info[3])
    expect("the number of types of the short-range table", n_types, len(script["type_map"]))
    splines = splines.reshape(n_types, n_types, intervals, 4)
    return {
        **_keys("pairtab", script, arrays),
        "rcut": descriptor["rcut"],
        "sel": descriptor["sel"],
        "tab": {
            "@class": "PairTab",
            "@version": 1,
            "rmin": first,
            "rmax": first + spacing * intervals,
            "hh": spacing,
            "ntypes": n_types,
            "rcut": descriptor["rcut"],
            "nspline": intervals,
            "@variables": {
                "vdata": _tabulated(splines, first + spacing * np.arange(intervals + 1)),
                "tab_info": info,
                "tab_data": splines.reshape(-1),
            },
        },
    }


def _tabulated(splines: np.ndarray, distances: np.ndarray) -> np.ndarray:
    """The table that the splines go through: distances, then a column of energies for each pair of types.

    A spline's last coefficient is its value at the beginning of its interval, and their sum that at the end.
    """
    n_types = len(splines)
    pairs = [splines[a, b] for a in range(n_types) for b in range(a, n_types)]
    energies = [np.append(pair[:, 3], pair[-1].sum()) for pair in pairs]
    return np.stack([distances, *energies], axis=1)


def _fill(layers: list[dict], arrays: Arrays, place: str) -> None:
    for number, layer in enumerate(layers):
        _put(layer, arrays, f"{place}/{number}")


def _put(layer: dict, arrays: Arrays, place: str) -> None:
    """Give a serialised layer the arrays below a place.

    Raises:
        InputError: an array is missing, or has another shape than the layer's own.
    """
    own = layer["@variables"]
    for name, old in own.items():
        new = arrays.get(f"{place}/{name}")
        found, expected = (None if array is None else np.shape(array) for array in (new, old))
        if found != expected:
            raise InputError(
                f"the checkpoint's array {place}/{name} has shape {found}; its settings ask for {expected}"
            )
        own[name] = new


def _below(arrays: Arrays, prefix: str) -> dict[str, np.ndarray]:
    """The arrays whose names begin with a prefix, without it."""
    return {name.removeprefix(prefix): array for name, array in arrays.items() if name.startswith(prefix)}
