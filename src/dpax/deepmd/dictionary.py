"""DeePMD-kit's dictionaries, written from a description and named arrays, and read back into them.

What a dictionary says in several places is compared with what dpax would write for the model that it read:
a dictionary that contradicts itself is refused, and so is a key that no model has.
"""

from collections.abc import Mapping, Sequence
from typing import Any, TypeVar

import numpy as np

from dpax.deepmd.keys import NORMALISED, Key
from dpax.errors import InputError, shortened
from dpax.model.fitting_spec import FittingSpec
from dpax.nn.arrays import Arrays, below
from dpax.nn.layers import Affine
from dpax.nn.precision import numpy_dtype
from dpax.settings import Settings

Spec = TypeVar("Spec", bound=Settings)
_NEWEST = {"Descriptor": 4, "DescriptorBlock": 2, "Fitting": 4, "TypeEmbedNet": 2}
"""The newest versions of dictionaries that are read, where they are newer than those that are written."""


def take(data: Any, cls: str | tuple[str, ...], newest: int) -> dict:
    """A copy of a serialised dictionary without `@class` and `@version`, both checked.

    Raises:
        InputError: no dictionary, one of another class, or of a newer version than is known here.
    """
    names = (cls,) if isinstance(cls, str) else cls
    if not isinstance(data, Mapping):
        raise InputError(f"found {shortened(data)} where the dictionary of a {names[0]} was expected")
    data = dict(data)
    class_name, version = data.pop("@class", names[0]), data.pop("@version", 1)
    if class_name not in names:
        raise InputError(f"the dictionary describes a {class_name!r}; expected {' or '.join(names)}")
    if type(version) is not int or not 1 <= version <= newest:
        raise InputError(
            f"the dictionary of {class_name!r} has version {shortened(version)}; "
            f"this dpax reads 1 to {newest}"
        )
    return data


# Writing


def layer(
    arrays: Arrays, activation_function: str, resnet: bool, precision: str, trainable: bool
) -> dict[str, Any]:
    """The dictionary of a layer with the arrays `w`, and where it has them `b` and `idt`."""
    own = {name: None if name not in arrays else np.asarray(arrays[name]) for name in Affine._fields}
    return {
        "@class": "Layer",
        "@version": 2,
        "bias": own["b"] is not None,
        "use_timestep": own["idt"] is not None,
        "activation_function": activation_function,
        "resnet": resnet,
        "precision": precision,
        "trainable": trainable,
        "@variables": own,
    }


def layer_norm(arrays: Arrays, eps: float, precision: str, trainable: bool) -> dict[str, Any]:
    """The dictionary of a layer normalisation."""
    return {
        "@class": "LayerNorm",
        "@version": 1,
        "eps": eps,
        "trainable": trainable,
        "precision": precision,
        "@variables": {name: np.asarray(arrays[name]) for name in ("w", "b")},
    }


def embedding_network(
    arrays: Arrays,
    widths: Sequence[int],
    activation_function: str,
    timestep: bool,
    precision: str,
    **of_layers: Any,
) -> dict[str, Any]:
    """The dictionary of an embedding net.

    Args:
        arrays: of the layers, by number.
        widths: of its input and of all layers.
        activation_function: of all layers.
        timestep: whether residual layers have one.
        precision: of the arrays.
        **of_layers: `trainable`, and `bias` where there may be none.
    """
    in_dim, *neuron = widths
    layers = [
        layer(below(arrays, number), activation_function, True, precision, of_layers["trainable"])
        for number in range(len(neuron))
    ]
    return {
        "@class": "EmbeddingNetwork",
        "@version": 2,
        "in_dim": in_dim,
        "neuron": neuron,
        "activation_function": activation_function,
        "resnet_dt": timestep,
        "bias": of_layers.get("bias", True),
        "precision": precision,
        "layers": layers,
    }


def fitting_network(arrays: Arrays, spec: FittingSpec) -> dict[str, Any]:
    """The inner dictionary of a fitting net."""
    *hidden, last = (below(arrays, number) for number in range(len(spec.neuron) + 1))
    *flags, flag_of_last = spec.trained_layers
    layers = [
        layer(own, spec.activation_function, True, spec.dtype.name, flag)
        for own, flag in zip(hidden, flags, strict=True)
    ]
    return {
        "@class": "FittingNetwork",
        "@version": 1,
        "in_dim": spec.inputs,
        "out_dim": 1,
        "neuron": list(spec.neuron),
        "activation_function": spec.activation_function,
        "resnet_dt": spec.resnet_dt,
        "precision": spec.dtype.name,
        "bias_out": True,
        "layers": [*layers, layer(last, "none", False, spec.dtype.name, flag_of_last)],
    }


def collection(kind: str, ntypes: int, network: dict[str, Any]) -> dict[str, Any]:
    """The dictionary of a collection that holds one network for all types."""
    return {
        "@class": "NetworkCollection",
        "@version": 1,
        "ndim": 0,
        "ntypes": ntypes,
        "network_type": kind,
        "networks": [network],
    }


# Reading


def checked(kind: type[Spec], fields: Mapping[str, Any], what: str) -> Spec:
    """A description of what a dictionary says, each value of its kind and within its range.

    Raises:
        InputError: an unknown value, or values that do not go together.
    """
    try:
        return kind.model_validate(dict(fields), strict=True)
    except InputError as error:
        raise InputError(f"the {what}: {error}") from None


def compare(actual: Any, expected: Any, place: str = "") -> None:
    """Check that a dictionary agrees with that of dpax for the same model. Missing

    keys agree: older versions lack some. Arrays are not compared.

    Args:
        actual: the dictionary, or a part of it.
        expected: what dpax writes.
        place: of the part.

    Raises:
        InputError: a key that no such model has, or a contradiction.
    """
    if isinstance(expected, Mapping):
        if not isinstance(actual, Mapping):
            raise InputError(f"{place or 'the model'} is {shortened(actual)} where a dictionary was expected")
        _compare_class(actual, expected)
        for key, value in actual.items():
            inner = f"{place}.{key}" if place else str(key)
            if key in _SAYS_NOTHING or (value is None and key not in expected):
                continue
            if key not in expected:
                raise InputError(f"there is no setting {inner!r}")
            compare(value, expected[key], inner)
        unsaid = [key for key in _OWN if place and key in expected and key not in actual]
        if unsaid:
            raise InputError(
                f"the model contradicts itself: {place} has no {unsaid[0]}, where the rest of it says "
                f"{shortened(expected[unsaid[0]])}"
            )
    elif isinstance(expected, list) and any(isinstance(item, Mapping) for item in expected):
        if not isinstance(actual, (list, tuple)) or len(actual) != len(expected):
            raise InputError(f"{place} is {shortened(actual)}; expected a list of {len(expected)}")
        for number, (element, other) in enumerate(zip(actual, expected, strict=True)):
            compare(element, other, f"{place}.{number}")
    elif not isinstance(expected, np.ndarray) and not _same(actual, expected, place):
        raise InputError(
            f"the model contradicts itself: {place} is {shortened(actual)}, where the rest of it says "
            f"{shortened(expected)}"
        )


_OWN = tuple(key.name for key in NORMALISED if isinstance(key, Key) and key.since == 0)
"""Keys that are written only where they differ from what DeePMD-kit does: their absence has a meaning."""
_SAYS_NOTHING = ("@class", "@version", "@variables", "trainable", "seed")
"""Keys that are looked at elsewhere, or in which parts may differ from the whole."""


def _compare_class(actual: Mapping, expected: Mapping) -> None:
    if "@class" in expected:
        take(actual, expected["@class"], max(expected["@version"], _NEWEST.get(expected["@class"], 1)))


def _same(actual: Any, expected: Any, place: str) -> bool:
    """Whether two values mean the same; upper and lower case, lists and tuples do."""
    key = place.rpartition(".")[2]
    if key == "type_map" and actual is None:
        return True  # not known here
    if isinstance(actual, str) and isinstance(expected, str):
        if key == "precision":
            return numpy_dtype(actual) == numpy_dtype(expected)
        first, second = ({"linear": "none"}.get(text.lower(), text.lower()) for text in (actual, expected))
        return first == second
    if isinstance(actual, (list, tuple)) and isinstance(expected, (list, tuple)):
        return len(actual) == len(expected) and all(map(_same, actual, expected, [place] * len(actual)))
    if isinstance(actual, bool) != isinstance(expected, bool):
        return False
    return bool(actual == expected)
