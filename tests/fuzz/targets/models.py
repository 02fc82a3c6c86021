"""Model files of dpax and of DeePMD-kit."""

import io
import json
import struct
import warnings
import zipfile
from functools import partial
from importlib.util import find_spec
from pathlib import Path
from random import Random

import h5py
import jax
import numpy as np

from dpax.descriptor.dpa1 import DescrptDPA1
from dpax.descriptor.se_atten_v2 import DescrptSeAttenV2
from dpax.interfaces.model_files import open_model, read_scripts, write_model
from dpax.model.energies import Block
from dpax.model.fitting import EnergyFitting
from dpax.model.pair_table import PairTable
from dpax.model.potential import EnergyModel, atomic_energies
from dpax.model.short_range import ShortRange

from ..mutations import damaged_bytes, damaged_text
from ..target import Target

_DEEPMD = Path(__file__).parents[2] / "interfaces" / "data"
TYPES = ["O", "H"]


def tiny_model(kind: str) -> EnergyModel:
    """One of several small models: `concat`, `strip`, `compressed`, `table`."""
    sizes = {"neuron": [2, 4], "axis_neuron": 2, "tebd_dim": 2, "attn": 4, "type_map": TYPES, "seed": 1}
    layers = 1 if kind == "concat" else 0
    cls = DescrptDPA1 if kind == "concat" else DescrptSeAttenV2
    descriptor = cls(4.0, 0.5, [3, 5], 2, attn_layer=layers, precision="float32", **sizes)
    descriptor.se_atten.set_statistics(np.zeros((2, 4)), np.full((2, 4), 0.2))
    if kind == "compressed":
        descriptor.enable_compression(1.5, 2, 0.5, 1.0)
    told = {"numb_fparam": 1, "default_fparam": [0.5]} if kind == "concat" else {}
    width = descriptor.get_dim_out()
    fitting = EnergyFitting(2, width, [4, 4], precision="float32", type_map=TYPES, seed=1, **told)
    short = None
    if kind == "table":
        knots = np.column_stack([np.arange(9) * 0.5, *np.zeros((3, 9))])
        short = ShortRange(PairTable(knots, np.zeros((2, 2, 8, 4)), 4.0, 4.0), 0.5, 1.0)
    return EnergyModel(
        descriptor,
        fitting,
        TYPES,
        np.array([-3.0, 2.0]),
        atom_exclude_types=[1] if kind == "strip" else [],
        pair_exclude_types=[[0, 1]] if kind == "strip" else [],
        preset_out_bias=[None, 2.0] if kind == "concat" else None,
        short_range=short,
    )


_KINDS = ("concat", "strip", "compressed", "table")


def _make(ending: str, folder: Path) -> None:
    jax.config.update("jax_enable_x64", True)
    for kind in _KINDS:
        facts = {"step": 3, "min_nbor_dist": 0.9, "input": {"model": {"type_map": TYPES}}}
        write_model(folder / f"{kind}{ending}", tiny_model(kind), facts)


def _unpack(names: list[str], folder: Path) -> None:
    for name in names:
        with zipfile.ZipFile(_DEEPMD / f"{name}.zip") as archive:
            archive.extractall(folder)


def read(path: Path) -> None:
    """Open a model as a command does, and see that its arrays fit each other wherever they meet."""
    branches = list(read_scripts(path))
    model, _ = open_model(path, branches[0])
    use(model)


def use(model: EnergyModel) -> None:
    """Trace what evaluates a model; nothing is computed."""
    with jax.enable_x64(True):
        atoms, slots = 2, 3
        told = np.zeros((atoms, sum(model.fitting.inputs)))
        types = np.zeros((atoms, slots), np.int32)
        edges = np.ones((atoms, slots, 3), model.dtype)
        block = Block(edges, np.ones((atoms, slots), bool), types[:, 0], types, told)
        jax.eval_shape(partial(atomic_energies, model.spec()), jax.eval_shape(model.weights), block)


# Damage that checksums do not hide


def _model_file(random: Random, name: str, content: bytes) -> bytes:
    """Half of the time the header is changed by its meaning, in a file without a digest."""
    if random.random() < 0.5:
        return damaged_bytes(random, content)
    (length,) = struct.unpack("<Q", content[:8])
    header, arrays = json.loads(content[8 : 8 + length]), content[8 + length :]
    metadata = header["__metadata__"]
    del metadata["digest"]
    key = random.choice(["model", "model", "provenance", "arrays"])
    if key == "arrays":
        arrays = damaged_bytes(random, arrays)
    else:
        metadata[key] = damaged_text(random, metadata[key].encode()).decode(errors="replace")
    text = json.dumps(header).encode()
    return struct.pack("<Q", len(text)) + text + arrays


def _hdf5(random: Random, name: str, content: bytes) -> bytes:
    if random.random() < 0.6:
        return damaged_bytes(random, content)
    changed = io.BytesIO(content)
    with h5py.File(changed, "r+") as file:
        text = file.attrs["json"]
        text = text if isinstance(text, bytes) else text.encode()
        damaged = damaged_text(random, text).replace(b"\0", b" ").decode(errors="replace")
        del file.attrs["json"]
        try:
            file.attrs["json"] = damaged
        except (OSError, RuntimeError, ValueError):  # too long for an attribute
            file.attrs["json"] = damaged[:1000]
    return changed.getvalue()


def _text(random: Random, name: str, content: bytes) -> bytes:
    return damaged_text(random, content)


def _folder(random: Random, name: str, content: bytes) -> bytes:
    is_text = content[:1] == b"{"
    return (
        damaged_text(random, content) if is_text and random.random() < 0.7 else damaged_bytes(random, content)
    )


def _archive(random: Random, name: str, content: bytes) -> bytes:
    """Half of the time a part is changed and gets its checksum."""
    if random.random() < 0.5:
        return damaged_bytes(random, content)
    changed = io.BytesIO()
    with (
        zipfile.ZipFile(io.BytesIO(content)) as old,
        zipfile.ZipFile(changed, "w") as new,
        warnings.catch_warnings(),
    ):
        parts = old.infolist()
        chosen = random.choice(parts)
        for part in parts:
            inner = old.read(part)
            new.writestr(part, damaged_bytes(random, inner) if part is chosen else inner)
    return changed.getvalue()


TARGETS = [
    Target("dpax", partial(_make, ".dpax"), read, _model_file),
    Target("dp", partial(_make, ".dp"), read, _hdf5),
    Target("deepmd-yaml", partial(_make, ".yaml"), read, _text),
    Target("hlo", partial(_unpack, ["v1.hlo", "compressed_pairs.hlo", "table.hlo"]), read, _hdf5),
    Target("jax", partial(_unpack, ["v1.jax", "branches.jax"]), read, _folder),
]
if find_spec("torch"):
    TARGETS += [
        Target("pt", partial(_unpack, ["v1.pt", "branches.pt"]), read, _archive),
        Target("pth", partial(_unpack, ["v1.pth", "table.pth"]), read, _archive),
    ]
