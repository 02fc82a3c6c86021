"""Small models and one way to evaluate them without the inference room."""

import jax
import numpy as np

from dpax.descriptor.dpa1 import DescrptDPA1
from dpax.descriptor.se_atten_v2 import DescrptSeAttenV2
from dpax.geometry.neighbors import Capacity, Neighborhoods, find_edges, pack
from dpax.model.derivatives import Prediction, make_mesh, predict
from dpax.model.fitting import EnergyFitting
from dpax.model.potential import Block, EnergyModel, atomic_energies

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


def tiny_model(version=1, seed=1, statistics=True, precision="float64", **options) -> EnergyModel:
    """A random model of O and H, with a mean and deviations as data would give."""
    cls = {1: DescrptDPA1, 2: DescrptSeAttenV2}[version]
    arguments = {**TINY, "ntypes": 2, "type_map": ["O", "H"], "seed": seed, "precision": precision, **options}
    descriptor = cls(**arguments)
    if statistics:
        rng = np.random.default_rng(seed)
        # In concat mode a mean makes DeePMD-kit's energy depend on the order of the atoms.
        mean = np.zeros((2, 4))
        mean[:, 0] = rng.uniform(0.02, 0.2, 2) if version == 2 else 0.0
        stddev = np.repeat(rng.uniform(0.1, 0.3, (2, 2)), [1, 3], axis=1)
        descriptor.se_atten.set_statistics(mean, stddev)
    fitting = EnergyFitting(2, descriptor.get_dim_out(), [16, 16], precision=precision, seed=seed)
    fitting.net.layers[-1].w = 10.0 * fitting.net.layers[-1].w[...]  # energies of the size of eV
    return EnergyModel(descriptor, fitting, ["O", "H"], bias=np.array([-3.0, 2.0]))


def batch_of(model, frames, capacity=ROOM, n_frames=None) -> Neighborhoods:
    """Neighborhoods of (positions, types, cell, pbc) frames; parameters [atoms, inputs] may follow."""
    edges = [find_edges(x, cell, pbc, model.rcut) for x, _, cell, pbc, *_ in frames]
    told = [frame[4] for frame in frames] if len(frames[0]) > 4 else None
    return pack(edges, [np.asarray(frame[1]) for frame in frames], capacity, model.dtype, n_frames, told)


def evaluate(model, frames, capacity=ROOM, block_size=8, devices=None) -> Prediction:
    """Predictions for a list of frames, on two devices by default.

    The program is compiled once for all models with the same options, whatever their weights and frames.
    """
    n_frames = max(FRAMES_AT_ONCE, len(frames))
    batch = batch_of(model, frames, capacity, n_frames)
    result = _predict(model.spec(), model.weights(), batch, n_frames, make_mesh(devices), block_size)
    return jax.tree.map(np.asarray, result)


def energies_of(model, frames, capacity) -> np.ndarray:
    """Atomic energies of a list of frames as one block, bias included: the quickest way to compile."""
    batch = batch_of(model, frames, capacity)
    block = Block(batch.edges, batch.neighbors >= 0, batch.types, batch.neighbor_types, batch.parameters)
    return np.asarray(_energies(model.spec(), model.weights(), block)) + np.array(model.bias)[batch.types]
