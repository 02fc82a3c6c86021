"""Small models and one way to evaluate them without the inference room."""

from typing import Any

import jax
import numpy as np

from dpax.descriptor import initial as descriptor_arrays
from dpax.descriptor.spec import DescriptorSpec
from dpax.geometry.neighborhoods import Capacity, Neighborhoods, pack, surroundings
from dpax.geometry.neighbors import find_edges
from dpax.model.blocks import make_mesh
from dpax.model.derivatives import Prediction, predict
from dpax.model.energies import Block, atomic_energies
from dpax.model.energy_model import EnergyModel, initial_model
from dpax.model.fitting_spec import FittingSpec
from dpax.model.spec import ModelSpec
from dpax.nn.arrays import placed

TINY = {
    "rcut": 4.0,
    "rcut_smth": 0.5,
    "sel": 40,
    "neuron": [4, 8, 16],
    "axis_neuron": 4,
    "tebd_dim": 4,
    "attn": 12,
    "attn_layer": 2,
}
# One size for nearly all batches, so that a model's program is compiled once.
ROOM = Capacity(atoms=128, slots=48)
FRAMES_AT_ONCE = 48
_predict = jax.jit(predict, static_argnums=(0, 3, 4, 5))
_energies = jax.jit(atomic_energies, static_argnums=0)


def tiny_descriptor(version: int = 1, type_map=("O", "H"), **options) -> DescriptorSpec:
    """A descriptor whose defaults are those of DeePMD-kit's classes: smooth, with a mean."""
    kind = {1: {"type": "se_atten", "smooth_type_embedding": True}, 2: {"type": "se_atten_v2"}}[version]
    chosen: dict[str, Any] = {"set_davg_zero": False, **kind, **TINY, **options}
    sel = chosen.pop("sel")
    chosen["sel"] = [sel] if isinstance(sel, int) else sel
    return DescriptorSpec(**chosen, ntypes=len(type_map), type_map=type_map)


def tiny_spec(descriptor: DescriptorSpec, neuron=(16, 16), **options) -> ModelSpec:
    """A model on a descriptor; options that begin with `fitting_` are those of its fitting net."""
    net = {"neuron": neuron, "precision": descriptor.precision}
    net |= {k.removeprefix("fitting_"): v for k, v in options.items() if k.startswith("fitting_")}
    return ModelSpec(
        type_map=descriptor.type_map or (),
        descriptor=descriptor,
        fitting=FittingSpec(**net, ntypes=descriptor.ntypes, descriptor_width=descriptor.width),
        **{k: v for k, v in options.items() if not k.startswith("fitting_")},
    )


def tiny_model(version=1, seed=1, statistics=True, precision="float64", **options) -> EnergyModel:
    """A random model of O and H, with a mean and deviations as data would give."""
    model = initial_model(tiny_spec(tiny_descriptor(version, precision=precision, **options)), seed)
    arrays = dict(model.arrays)
    if statistics:
        rng = np.random.default_rng(seed)
        # In concat mode a mean makes DeePMD-kit's energy depend on the order of the atoms.
        mean = np.zeros((2, 4))
        mean[:, 0] = rng.uniform(0.02, 0.2, 2) if version == 2 else 0.0
        stddev = np.repeat(rng.uniform(0.1, 0.3, (2, 2)), [1, 3], axis=1)
        arrays |= placed(
            descriptor_arrays.with_statistics(model.spec.descriptor, model.descriptor, mean, stddev),
            "descriptor",
        )
    last = arrays["fitting/2/w"]
    arrays["fitting/2/w"] = (10.0 * last).astype(last.dtype)  # energies of the size of eV
    return model.with_arrays(arrays).with_bias([-3.0, 2.0])


def batch_of(model, frames, capacity=ROOM, n_frames=None) -> Neighborhoods:
    """Neighborhoods of (positions, types, cell, pbc) frames; parameters [atoms, inputs] may follow."""
    parts = [
        surroundings(find_edges(x, cell, pbc, model.rcut), np.asarray(types))
        for x, types, cell, pbc, *_ in frames
    ]
    parameters = [frame[4] for frame in frames] if len(frames[0]) > 4 else None
    return pack(parts, capacity, model.dtype, n_frames, parameters)


def evaluate(model, frames, capacity=ROOM, block_size=8, devices=None) -> Prediction:
    """Predictions for a list of frames, on two devices by default.

    The program is compiled once for all models with the same options, whatever their weights and frames.
    """
    n_frames = max(FRAMES_AT_ONCE, len(frames))
    batch = batch_of(model, frames, capacity, n_frames)
    result = _predict(model.spec, model.weights(), batch, n_frames, make_mesh(devices), block_size)
    return jax.tree.map(np.asarray, result)


def energies_of(model, frames, capacity) -> np.ndarray:
    """Atomic energies of a list of frames as one block, bias included: the quickest way to compile."""
    batch = batch_of(model, frames, capacity)
    block = Block(batch.edges, batch.neighbors >= 0, batch.types, batch.neighbor_types, batch.parameters)
    return np.asarray(_energies(model.spec, model.weights(), block)) + np.array(model.bias)[batch.types]
