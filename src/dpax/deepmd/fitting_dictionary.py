"""DeePMD-kit's dictionary of a fitting net."""

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from dpax.contents import expect
from dpax.deepmd import keys, places
from dpax.deepmd.dictionary import checked, collection, compare, fitting_network, take
from dpax.model.fitting import array_shapes
from dpax.model.fitting_spec import FittingSpec
from dpax.nn.arrays import Arrays, fitted, numbers


def fitting_values(net: FittingSpec) -> dict[str, Any]:
    """The dictionary of a fitting net without its layers."""
    return keys.written(keys.FITTING, net) | {
        "precision": net.dtype.name,
        "trainable": list(net.trained_layers),
        "atom_ener": list(net.zero_energies or ()),
    }


def fitting(net: FittingSpec, arrays: Arrays, type_map: Sequence[str]) -> dict[str, Any]:
    """The dictionary of a fitting net."""
    names = [place.name for place in places.FITTING[1:]]
    return {
        "@class": "Fitting",
        "@version": 4,
        **fitting_values(net),
        "type_map": list(type_map) or None,
        "nets": collection("fitting_network", net.ntypes, fitting_network(arrays, net)),
        "@variables": {
            "bias_atom_e": np.zeros((net.ntypes, 1)),
            **{name: np.asarray(arrays[name]) if name in arrays else None for name in names},
        },
    }


def read_fitting(data: Any, width: int) -> tuple[FittingSpec, dict[str, np.ndarray], np.ndarray]:
    """What `fitting` has written, or DeePMD-kit in versions 1 to 4.

    Args:
        data: the dictionary.
        width: of the descriptor.

    Returns:
        The description and the arrays of the fitting net, and the energy bias [ntypes] (eV) that the
        dictionary holds beside the model's.

    Raises:
        InputError: a fitting that is not of energies, that shares layers by name, or that has a net for
            each type.
    """
    content = take(data, "Fitting", 4)
    fields = keys.read(keys.FITTING, content, "fitting net")
    spec = fitting_spec_of(fields)
    expect("the width of the descriptor", spec.descriptor_width, width)
    own = {
        name: np.ravel(array)
        for name, array in places.arrays_in({"@variables": content["@variables"]}).items()
    }
    bias = numbers(
        {"bias_atom_e": own.pop("bias_atom_e", np.zeros(spec.ntypes))}, "bias_atom_e", (spec.ntypes,)
    )
    named = places.renamed(
        {**places.arrays_in({"nets": content["nets"]}), **own}, places.FITTING, "dictionary"
    )
    arrays = fitted_fitting(spec, named)
    compare(keys.others(keys.FITTING, data), fitting(spec, arrays, data.get("type_map") or ()))
    bias = bias.astype(np.float64)
    bias[list(spec.exclude_types)] = 0.0
    return spec, arrays, bias


def fitting_spec_of(fields: dict[str, Any]) -> FittingSpec:
    """The description that values of DeePMD-kit's keys make.

    Raises:
        InputError: values that no fitting net has.
    """
    flags = fields["trainable"]
    if isinstance(flags, tuple) and len(set(flags)) == 1:
        flags = flags[0]
    fields["trainable"] = True if flags is None else flags
    fields["default_fparam"] = fields["default_fparam"] if fields["numb_fparam"] else None
    fields["zero_energies"] = fields["zero_energies"] or None
    return checked(FittingSpec, fields, "fitting net")


def fitted_fitting(spec: FittingSpec, named: Mapping[str, Any]) -> dict[str, np.ndarray]:
    """The arrays of a fitting net in the shapes that its description says.

    Raises:
        InputError: arrays that do not fit the description.
    """
    return fitted(
        {name: array for name, array in named.items() if np.size(array)}, array_shapes(spec), spec.dtype
    )
