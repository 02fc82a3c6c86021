"""DeePMD-kit's dictionaries of a descriptor and of its block, written and read."""

from collections.abc import Iterable, Mapping
from typing import Any

import numpy as np

from dpax.contents import flag
from dpax.deepmd import keys, places
from dpax.deepmd.attention_dictionary import attention_settings, neighbor_layers
from dpax.deepmd.dictionary import checked, collection, compare, embedding_network, take
from dpax.descriptor.hyperparameters import V2
from dpax.descriptor.initial import array_shapes
from dpax.descriptor.spec import DescriptorSpec
from dpax.descriptor.statistics import is_isotropic
from dpax.descriptor.table import fitted_tables, is_compressed
from dpax.errors import InputError
from dpax.nn.arrays import Arrays, as_numbers, below, fitted, numbers

_WHAT = "descriptor"
_STATISTICS = ("mean", "stddev")


def descriptor_keys(kind: str) -> keys.Keys:
    """Those of a descriptor's dictionary."""
    return (*(keys.V2 if kind == V2 else keys.DESCRIPTOR), *keys.OWN)


def descriptor_values(spec: DescriptorSpec) -> dict[str, Any]:
    """The dictionary of a descriptor without its networks."""
    return keys.written(descriptor_keys(spec.type), spec) | {"precision": spec.dtype.name}


def descriptor(spec: DescriptorSpec, arrays: Arrays) -> dict[str, Any]:
    """The dictionary of a descriptor."""
    values = descriptor_values(spec)
    oldest = 3 if is_compressed(arrays) else 2
    return {
        "@class": "Descriptor",
        "type": V2 if spec.type == V2 else "dpa1",
        "@version": keys.version(descriptor_keys(spec.type), values, oldest),
        **values,
        "type_embedding": _type_embedding(spec, below(arrays, "type_embedding")),
        **_networks(spec, arrays),
        **({"compress": _tables(arrays)} if is_compressed(arrays) else {}),
    }


def block(spec: DescriptorSpec, arrays: Arrays) -> dict[str, Any]:
    """The dictionary of a descriptor's block, which has no type embedding of its own."""
    table = (*keys.BLOCK, *keys.OWN)
    values = keys.written(table, spec) | {"precision": spec.dtype.name}
    return {
        "@class": "DescriptorBlock",
        "type": "dpa1",
        "@version": keys.version(table, values, 1),
        **values,
        **_networks(spec, arrays),
    }


def _type_embedding(spec: DescriptorSpec, arrays: Arrays) -> dict[str, Any]:
    precision, trainable = spec.dtype.name, spec.trainable
    options = {"bias": spec.use_tebd_bias, "trainable": trainable}
    widths = (spec.type_inputs, spec.tebd_dim)
    return {
        "@class": "TypeEmbedNet",
        "@version": 2,
        "ntypes": spec.ntypes,
        "neuron": [spec.tebd_dim],
        "resnet_dt": False,
        "precision": precision,
        "activation_function": "Linear",
        "trainable": trainable,
        "padding": True,
        "use_econf_tebd": spec.use_econf_tebd,
        "use_tebd_bias": spec.use_tebd_bias,
        "type_map": None if spec.type_map is None else list(spec.type_map),
        "embedding": embedding_network(arrays, widths, "Linear", False, precision, **options),
    }


def _networks(spec: DescriptorSpec, arrays: Arrays) -> dict[str, Any]:
    """The networks and arrays that both dictionaries hold."""
    types = spec.tebd_dim if spec.type_one_side else 2 * spec.tebd_dim
    inputs = {"embedding": ("embeddings", 1 if spec.strip else 1 + types)}
    if spec.strip:
        inputs["pair_embedding"] = ("embeddings_strip", types)
    nets = {
        theirs: collection(
            "embedding_network",
            spec.ntypes,
            embedding_network(
                below(arrays, ours),
                (width, *spec.neuron),
                spec.activation_function,
                spec.resnet_dt,
                spec.dtype.name,
                trainable=spec.trainable,
            ),
        )
        for ours, (theirs, width) in inputs.items()
    }
    shape = (spec.ntypes, spec.nsel, 4)
    own = {
        theirs: np.array(np.broadcast_to(np.asarray(arrays[name]), shape))
        for name, theirs in zip(_STATISTICS, ("davg", "dstd"), strict=True)
    }
    if spec.lmax > 1:
        own["degree_gain_raw"] = np.asarray(arrays["degree_gains"])
    return {
        **nets,
        "attention_layers": neighbor_layers(
            attention_settings(spec), below(arrays, "attention"), spec.attn_layer
        ),
        "env_mat": {
            "rcut": spec.rcut,
            "rcut_smth": spec.rcut_smth,
            "protection": spec.env_protection,
            "use_exp_switch": False,
        },
        "@variables": own,
    }


def _tables(arrays: Arrays) -> dict[str, Any]:
    """The entry `compress`."""
    own: dict[str, Any] = {"type_embd_data": np.asarray(arrays["type_pairs"])}
    if "table/knots" in arrays:
        coefficients = np.asarray(arrays["table/coefficients"])
        data = coefficients.transpose(1, 2, 0).reshape(coefficients.shape[1], -1)
        own |= {"compress_data": [data], "compress_info": [np.asarray(arrays["table/knots"])]}
    return {"@variables": own, "geo_compress": "table/knots" in arrays}


def read_descriptor(data: Any, kind: str | None = None) -> tuple[DescriptorSpec, dict[str, np.ndarray]]:
    """What `descriptor` has written.

    Args:
        data: the dictionary.
        kind: "dpa1" or "se_atten_v2", which it must then be.

    Raises:
        InputError: another descriptor, or settings and arrays that no descriptor has or that do not fit each
            other.
    """
    content = take(data, "Descriptor", 4)
    of = content.get("type", kind or "dpa1")
    if of not in ("dpa1", "se_atten", V2) or (kind is not None and (of == V2) != (kind == V2)):
        raise InputError(f"the dictionary describes a descriptor {of!r}; expected {kind or 'dpa1'!r}")
    fields = {"type": of, **keys.read(descriptor_keys(of), content, _WHAT)}
    spec, arrays = _read(fields, content, places.DESCRIPTOR)
    if content.get("compress") is not None:
        arrays |= read_tables(spec, content["compress"])
    rest = keys.others((*descriptor_keys(of), keys.Constant("type"), keys.Constant("compress")), data)
    compare(rest, descriptor(spec, arrays))
    return spec, arrays


def read_block(data: Any) -> tuple[DescriptorSpec, dict[str, np.ndarray]]:
    """What `block` has written.

    Raises:
        InputError: settings and arrays that no block has, or that do not fit each other.
    """
    content = take(data, "DescriptorBlock", 2)
    fields = {"type": "se_atten", **keys.read((*keys.BLOCK, *keys.OWN), content, _WHAT)}
    spec, arrays = _read(fields, content, places.BLOCK, type_embedding=False)
    compare(keys.others((*keys.BLOCK, *keys.OWN), data), block(spec, arrays))
    return spec, arrays


def _read(
    fields: dict[str, Any],
    content: Mapping[str, Any],
    of: Iterable[places.Place],
    *,
    type_embedding: bool = True,
) -> tuple[DescriptorSpec, dict[str, np.ndarray]]:
    if content.get("env_mat") and content["env_mat"].get("use_exp_switch"):
        raise InputError(
            "the model has use_exp_switch, an exponential switching function, which DPA-1 does not have"
        )
    spec = spec_of(fields)
    inner = {key: value for key, value in content.items() if key != "compress"}
    return fitted_descriptor(
        spec, places.renamed(places.arrays_in(inner), of, "dictionary"), type_embedding=type_embedding
    )


def spec_of(fields: dict[str, Any]) -> DescriptorSpec:
    """The description that values of DeePMD-kit's keys make.

    Raises:
        InputError: values that no descriptor has.
    """
    sel = fields["sel"]
    fields["sel"] = (sel,) if isinstance(sel, int) and not isinstance(sel, bool) else sel
    fields["ln_eps"] = 1e-5 if fields["ln_eps"] is None else fields["ln_eps"]
    return checked(DescriptorSpec, fields, _WHAT)


def fitted_descriptor(
    spec: DescriptorSpec, named: Mapping[str, Any], *, type_embedding: bool = True
) -> tuple[DescriptorSpec, dict[str, np.ndarray]]:
    """A descriptor's description, and its arrays in the shapes that it says.

    Args:
        spec: the description, but for whether the statistics are isotropic.
        named: arrays by their names; statistics for every slot, [ntypes, nsel, 4].
        type_embedding: whether its arrays are among them.

    Raises:
        InputError: arrays that do not fit the description.
    """
    statistics = {
        name: numbers(named, name, (spec.ntypes, spec.nsel, 4)).astype(spec.dtype) for name in _STATISTICS
    }
    shapes = (
        (name, shape)
        for name, shape in array_shapes(spec)
        if name not in _STATISTICS and (type_embedding or not name.startswith("type_embedding/"))
    )
    others = {name: array for name, array in named.items() if name not in _STATISTICS}
    arrays = fitted(others, shapes, spec.dtype)
    uniform = all(
        np.array_equal(array, array[:, :1].repeat(spec.nsel, 1), True) for array in statistics.values()
    )
    arrays |= {name: array[:, :1] if uniform else array for name, array in statistics.items()}
    return spec.changed(isotropic=is_isotropic(arrays["mean"], arrays["stddev"])), arrays


def read_tables(spec: DescriptorSpec, compress: Any) -> dict[str, np.ndarray]:
    """The arrays of a compressed descriptor that replace networks, from the entry `compress`.

    Raises:
        InputError: the tables do not belong to such a descriptor.
    """
    own = compress["@variables"]
    tables = {"type_pairs": own["type_embd_data"]}
    if flag(compress, "geo_compress", False):
        data, knots = (as_numbers(own[name][0], name) for name in ("compress_data", "compress_info"))
        if data.ndim != 2 or data.shape[1] % 6:
            raise InputError(
                f"a compressed descriptor's table has shape {data.shape}; expected [intervals, 6·width]"
            )
        # There the six coefficients of each output lie side by side.
        coefficients = data.reshape(len(data), -1, 6).transpose(2, 0, 1)
        tables |= {"table/knots": np.ravel(knots), "table/coefficients": coefficients}
    return fitted_tables(spec, tables)
