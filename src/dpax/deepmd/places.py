"""The place of each array of a model in DeePMD-kit's dictionaries and checkpoints, and in dpax's classes."""

import re
from collections.abc import Iterable, Mapping
from functools import cache
from typing import Any, NamedTuple

import numpy as np


class Place(NamedTuple):
    """An array's name and places; {n} is a number, {a} an array of a layer, {p} a projection."""

    name: str
    """In a model of dpax."""
    dictionary: str
    """In a dictionary, `@variables` left out."""
    checkpoint: str
    """In a checkpoint of DeePMD-kit's JAX backend; dpax's classes have the same, without `_networks/0`."""

    @property
    def attribute(self) -> str:
        """In dpax's classes."""
        return self.checkpoint.replace("_networks/0/", "")


LAYER = (
    Place("in_proj/{a}", "in_proj/{a}", "in_proj/{a}"),
    Place("out_proj/{a}", "out_proj/{a}", "out_proj/{a}"),
)
"""Of an attention layer without normalisation."""
ATTENTION_LAYER = (
    Place("{p}/{a}", "attention_layer/{p}/{a}", "attention_layer/{p}/{a}"),
    Place("norm/{a}", "attn_layer_norm/{a}", "attn_layer_norm/{a}"),
)
ATTENTION = tuple(
    Place(f"{{n}}/{name}", f"attention_layers/{{n}}/{there}", f"attention_layers/{{n}}/{attribute}")
    for name, there, attribute in ATTENTION_LAYER
)
"""Of all attention layers."""
BLOCK = (
    Place(
        "embedding/{n}/{a}", "embeddings/networks/0/layers/{n}/{a}", "embeddings/_networks/0/layers/{n}/{a}"
    ),
    Place(
        "pair_embedding/{n}/{a}",
        "embeddings_strip/networks/0/layers/{n}/{a}",
        "embeddings_strip/_networks/0/layers/{n}/{a}",
    ),
    *(Place(f"attention/{a}", f"attention_layers/{b}", f"dpa1_attention/{c}") for a, b, c in ATTENTION),
    Place("degree_gains", "degree_gain_raw", "adam_degree_gain_raw"),
    Place("mean", "davg", "mean"),
    Place("stddev", "dstd", "stddev"),
)
"""Of a descriptor's block."""
DESCRIPTOR = (
    Place(
        "type_embedding/{n}/{a}",
        "type_embedding/embedding/layers/{n}/{a}",
        "type_embedding/embedding_net/layers/{n}/{a}",
    ),
    *(place._replace(checkpoint=f"se_atten/{place.checkpoint}") for place in BLOCK),
)
FITTING = (
    Place("{n}/{a}", "nets/networks/0/layers/{n}/{a}", "nets/_networks/0/layers/{n}/{a}"),
    *(
        Place(name, name, name)
        for name in ("fparam_avg", "fparam_inv_std", "aparam_avg", "aparam_inv_std", "case_embd")
    ),
)

_PARTS = {"{n}": r"(?P<n>\d+)", "{a}": "(?P<a>w|b|idt)", "{p}": "(?P<p>in_proj|out_proj)"}


def renamed(arrays: Mapping[str, Any], places: Iterable[Place], source: str) -> dict[str, Any]:
    """Arrays by their names in a model of dpax; others are left out.

    Args:
        arrays: by their names in the source.
        places: of the part of a model.
        source: "dictionary", "checkpoint" or "attribute".
    """
    patterns = [(_pattern(getattr(place, source)), place.name) for place in places]
    arrays_by_name = {}
    for name, array in arrays.items():
        for pattern, ours in patterns:
            match = pattern.fullmatch(name)
            if match is not None:
                arrays_by_name[ours.format(**match.groupdict())] = array
    return arrays_by_name


@cache
def _pattern(place: str) -> re.Pattern[str]:
    text = re.escape(place)
    for part, pattern in _PARTS.items():
        text = text.replace(re.escape(part), pattern)
    return re.compile(text)


def arrays_in(dictionary: Any, path: str = "") -> dict[str, Any]:
    """The arrays of nested dictionaries and lists by their paths, `@variables` left out; None is none."""
    if isinstance(dictionary, Mapping):
        items = dictionary.items()
    elif isinstance(dictionary, (list, tuple)) and any(
        isinstance(x, (Mapping, np.ndarray)) for x in dictionary
    ):
        items = enumerate(dictionary)
    else:
        return {path.strip("/"): dictionary} if isinstance(dictionary, np.ndarray) else {}
    arrays = {}
    for key, value in items:
        inner = path if key == "@variables" else f"{path}/{key}"
        if key == "@variables" and isinstance(value, Mapping):
            # DeePMD-kit takes biases and time steps of any shape.
            arrays |= {
                f"{path}/{name}".strip("/"): np.ravel(array) if name in ("b", "idt") else array
                for name, array in value.items()
                if array is not None
            }
        else:
            arrays |= arrays_in(value, inner)
    return arrays
