"""Model files of dpax and of DeePMD-kit."""

import io
import json
import shutil
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

from dpax.descriptor.compression import compressed
from dpax.descriptor.initial import with_statistics
from dpax.interfaces.model_files import open_model, read_scripts, write_model
from dpax.model.energies import Block, atomic_energies
from dpax.model.energy_model import EnergyModel, initial_model
from dpax.model.pair_table import PairTable
from dpax.model.short_range import ShortRange
from dpax.nn.arrays import placed
from model.support import tiny_descriptor, tiny_spec

from ..mutations import damaged_bytes, damaged_text
from ..target import Target

_DEEPMD = Path(__file__).parents[2] / "interfaces" / "data"
_FIRST_FORMAT = Path(__file__).parents[2] / "deepmd" / "first_format"
TYPES = ["O", "H"]


def tiny_model(kind: str) -> EnergyModel:
    """One of several small models: `concat`, `strip`, `compressed`, `table`."""
    concat = kind == "concat"
    sizes = {"sel": [3, 5], "neuron": [2, 4], "axis_neuron": 2, "tebd_dim": 2, "attn": 4}
    descriptor = tiny_descriptor(
        1 if concat else 2, TYPES, attn_layer=int(concat), precision="float32", **sizes
    )
    told = {"fitting_numb_fparam": 1, "fitting_default_fparam": [0.5], "preset_out_bias": [None, 2.0]}
    excluded = {"atom_exclude_types": [1], "pair_exclude_types": [[0, 1]]}
    options = {"concat": told, "strip": excluded, "table": {"short_range": _short_range()}}
    model = initial_model(tiny_spec(descriptor, (4, 4), **options.get(kind, {})), seed=1)
    arrays = with_statistics(descriptor, model.descriptor, np.zeros((2, 4)), np.full((2, 4), 0.2))
    if kind == "compressed":
        arrays = compressed(descriptor, arrays, 1.5, 2, 0.5, 1.0)
    return model.with_arrays(placed(arrays, "descriptor")).with_bias([-3.0, 2.0])


def _short_range() -> ShortRange:
    knots = np.column_stack([np.arange(9) * 0.5, *np.zeros((3, 9))])
    return ShortRange(table=PairTable(knots, np.zeros((2, 2, 8, 4)), 4.0, 4.0), sw_rmin=0.5, sw_rmax=1.0)


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


def _copy_first_format(folder: Path) -> None:
    for path in _FIRST_FORMAT.glob("*.dpax"):
        shutil.copy(path, folder)


def read(path: Path) -> None:
    """Open a model as a command does, and see that its arrays fit each other wherever they meet."""
    branches = list(read_scripts(path))
    model, _ = open_model(path, branches[0])
    use(model)


def use(model: EnergyModel) -> None:
    """Trace what evaluates a model; nothing is computed."""
    with jax.enable_x64(True):
        atoms, slots = 2, 3
        told = np.zeros((atoms, sum(model.spec.fitting.parameters)))
        types = np.zeros((atoms, slots), np.int32)
        edges = np.ones((atoms, slots, 3), model.dtype)
        block = Block(edges, np.ones((atoms, slots), bool), types[:, 0], types, told)
        jax.eval_shape(partial(atomic_energies, model.spec), jax.eval_shape(model.weights), block)


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
    Target("dpax-first", _copy_first_format, read, _model_file),
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
