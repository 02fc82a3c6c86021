"""`model_def_script`: the section `model` of DeePMD-kit's input file that stands for a model.

DeePMD-kit makes some of its files from it (a `.jax` folder, or a `.dp` file from a `.pth`), so it is written
from the model itself and not copied from where the model came from.
"""

from typing import Any

from dpax.deepmd.descriptor_dictionary import descriptor_values
from dpax.deepmd.fitting_dictionary import fitting_values
from dpax.model.energy_model import EnergyModel

_OF_THE_TREE = ("spin", "ntypes", "type_map")
_FITTING = (
    "neuron",
    "activation_function",
    "precision",
    "resnet_dt",
    "trainable",
    "rcond",
    "numb_fparam",
    "numb_aparam",
    "default_fparam",
    "dim_case_embd",
    "use_aparam_as_mask",
    "atom_ener",
)
_KEPT = ("info", "data_stat_nbatch", "data_stat_protect", "data_bias_nsample", "use_srtab")
"""Keys that do not follow from the model, taken over from its source."""


def input_of(model: EnergyModel, provenance: dict[str, Any]) -> dict[str, Any]:
    """The section `model` from which DeePMD-kit makes a model of this form.

    Args:
        model: as `for_deepmd` gives it.
        provenance: of the model's file.
    """
    observed = provenance.get("observed_type")
    known = {
        **({} if observed is None else {"info": {"observed_type": observed}}),
        **provenance.get("input", {}).get("model", {}),
        **provenance.get("model_def_script", {}),
    }
    spec = model.spec
    descriptor = descriptor_values(spec.descriptor)
    fitting = fitting_values(spec.fitting)
    preset = spec.preset_out_bias
    script = {
        **{key: known[key] for key in _KEPT if known.get(key) is not None},
        "type_map": list(model.type_map),
        "descriptor": {"type": spec.descriptor.type}
        | {key: value for key, value in descriptor.items() if key not in _OF_THE_TREE},
        "fitting_net": {"type": "ener"} | {key: fitting[key] for key in _FITTING},
        "atom_exclude_types": list(spec.atom_exclude_types),
        "pair_exclude_types": [list(pair) for pair in spec.pair_exclude_types],
        "preset_out_bias": None if preset is None else {"energy": list(preset)},
    }
    short = spec.short_range
    if short is not None:
        script |= {"sw_rmin": short.sw_rmin, "sw_rmax": short.sw_rmax, "smin_alpha": short.smin_alpha}
        script.setdefault("use_srtab", "srtab.txt")
    return script
