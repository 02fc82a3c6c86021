"""The keys of DeePMD-kit's dictionaries: each once, with the default of dictionaries that lack it.

Options that DeePMD-kit does not have stand in a dictionary under the names that they have in dpax, and only
where they differ from what DeePMD-kit does.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from pydantic import BaseModel

from dpax.descriptor.hyperparameters import DescriptorHyperparameters
from dpax.errors import InputError, shortened
from dpax.settings import as_tuples

_REQUIRED = object()


@dataclass(frozen=True)
class Key:
    """One key of a dictionary that describes a part of a model."""

    name: str
    """In the dictionary."""
    default: Any = _REQUIRED
    """Of dictionaries that lack it."""
    field: str = ""
    """Of the description, where it has another name there."""
    since: int = 1
    """The version of the dictionary that brought it; 0: an option of dpax's own. What the first version does
    not know is written where it differs from its default, in a dictionary of at least this version."""

    @property
    def attribute(self) -> str:
        """Of the description."""
        return self.field or self.name


@dataclass(frozen=True)
class Constant:
    """A key with the same value in all models that dpax can express."""

    name: str
    value: Any = None
    reason: str = ""
    """Why no other is possible."""


Keys = tuple[Key | Constant, ...]

BLOCK: Keys = (
    Key("rcut"),
    Key("rcut_smth"),
    Key("sel"),
    Key("ntypes"),
    Key("neuron", (25, 50, 100)),
    Key("axis_neuron", 8),
    Key("tebd_dim", 8),
    Key("tebd_input_mode", "concat"),
    Key("set_davg_zero", False),
    Key("attn", 128),
    Key("attn_layer", 2),
    Key("attn_dotr", True),
    Constant("attn_mask", False, "no DPA-1 model in use masks the diagonal of the attention"),
    Key("activation_function", "tanh"),
    Key("resnet_dt", False),
    Key("scaling_factor", 1.0),
    Key("normalize", True),
    Key("temperature", None),
    Key("trainable_ln", True),
    Key("ln_eps", 1e-5),
    Key("smooth", True, field="smooth_type_embedding"),
    Key("type_one_side", False),
    Key("precision", "float64"),
    Key("exclude_types", ()),
    Key("env_protection", 0.0),
    Key("trainable", True),
    Key("lmax", 1, since=2),
)
"""Of the descriptor's block."""
DESCRIPTOR: Keys = (
    *(key for key in BLOCK if key.name not in ("smooth", "lmax")),
    Key("lmax", 1, since=4),
    Key("smooth_type_embedding", True),
    Key("concat_output_tebd", True),
    Key("use_econf_tebd", False),
    Key("use_tebd_bias", True),
    Key("type_map", None),
    Constant("spin", None, "this descriptor has no spin degrees of freedom"),
)
V2: Keys = tuple(key for key in DESCRIPTOR if key.name not in ("tebd_input_mode", "smooth_type_embedding"))
"""Of a descriptor of the type se_atten_v2, which fixes the other two."""
ATTENTION: Keys = (
    Key("nnei"),
    Key("embed_dim"),
    Key("hidden_dim"),
    Key("dotr", False),
    Constant("do_mask", False, "no DPA-1 model in use masks the diagonal of the attention"),
    Key("scaling_factor", 1.0),
    Key("normalize", True),
    Key("temperature", None),
    Key("precision", "float64"),
)
"""Of all three of its dictionaries."""
HEADS: Keys = (*ATTENTION, Key("num_heads", 1), Key("bias", True), Key("smooth", True))
"""Of an attention layer without its normalisation."""
NORMALISED: Keys = (
    *ATTENTION,
    Key("trainable_ln", True),
    Key("ln_eps", 1e-5),
    Key("attn_norm", "sum", since=0),
)
"""Of an attention layer with it, and of all layers together."""
OWN: Keys = tuple(
    Key(name, field.default, since=0)
    for name, field in DescriptorHyperparameters.model_fields.items()
    if name not in {"type", *(key.attribute for key in (*BLOCK, *DESCRIPTOR) if isinstance(key, Key))}
)
"""Of a descriptor and its block: the options that DeePMD-kit does not have."""
FITTING: Keys = (
    Constant("type", "ener", "dpax reads models of energies"),
    Constant("var_name", "energy"),
    Key("ntypes"),
    Key("dim_descrpt", field="descriptor_width"),
    Constant("dim_out", 1),
    Key("neuron", (120, 120, 120)),
    Key("resnet_dt", True),
    Key("numb_fparam", 0),
    Key("numb_aparam", 0),
    Key("dim_case_embd", 0),
    Key("default_fparam", None),
    Constant("tot_ener_zero", False, "DPA-1 energies have none"),
    Constant("layer_name", None, "layers shared by name exist in DeePMD-kit's TensorFlow models only"),
    Constant("spin", None, "DPA-1 energies have none"),
    Key("use_aparam_as_mask", False),
    Key("atom_ener", (), field="zero_energies"),
    Key("rcond", None),
    Key("activation_function", "tanh"),
    Key("precision", "float64"),
    Constant("mixed_types", True, "DPA-1 models have one fitting net for all types"),
    Key("exclude_types", ()),
    Key("trainable", True),
)


def written(keys: Keys, of: BaseModel) -> dict[str, Any]:
    """What a dictionary says of a description, as plain values."""
    values = {}
    for key in keys:
        if isinstance(key, Constant):
            values[key.name] = key.value
            continue
        value = _plain(getattr(of, key.attribute))
        if key.since == 1 or value != key.default:
            values[key.name] = value
    return values


def read(keys: Keys, data: Mapping[str, Any], what: str) -> dict[str, Any]:
    """The fields of a description: values of a dictionary, or the defaults of its version.

    Args:
        keys: of the dictionary.
        data: the dictionary.
        what: it describes, for messages.

    Raises:
        InputError: a key is missing, or has a value that no model of dpax has.
    """
    fields = {}
    for key in keys:
        if isinstance(key, Constant):
            if data.get(key.name, key.value) not in (key.value, None, [], [None]):
                value = shortened(data[key.name])
                raise InputError(f"the {what} has {key.name} = {value}: {key.reason or 'not known to dpax'}")
        elif key.name in data:
            fields[key.attribute] = as_tuples(data[key.name])
        elif key.default is _REQUIRED:
            raise InputError(f"the setting {key.name!r} of the {what} is missing")
        else:
            fields[key.attribute] = key.default
    return fields


def others(keys: Keys, data: Mapping[str, Any]) -> dict[str, Any]:
    """The entries of a dictionary beside these keys."""
    known = {key.name for key in keys}
    return {name: value for name, value in data.items() if name not in known}


def version(keys: Keys, values: Mapping[str, Any], least: int) -> int:
    """The version of a dictionary that says these values."""
    return max([least, *(key.since for key in keys if isinstance(key, Key) and key.name in values)])


def _plain(value: Any) -> Any:
    return [_plain(item) for item in value] if isinstance(value, tuple) else value
