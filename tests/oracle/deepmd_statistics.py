"""DeePMD-kit's mean, deviation and energy bias from data: the oracle of the statistics before training.

Importing this module skips the calling test module where deepmd-kit is not installed; it needs neither torch
nor JAX. What runs is `compute_or_load_stat` of DeePMD-kit's NumPy atomic model, which its trainer calls on
samples of this form, and for directories its own data loader. Samples from arrays and from its loader were
found to give the same numbers, for a standard system and for a mixed-type one with virtual atoms.
"""

from collections.abc import Mapping, Sequence
from typing import NamedTuple

import numpy as np
import pytest

pytest.importorskip("deepmd")

from deepmd.dpmodel.loss.ener import EnergyLoss
from deepmd.utils import random as dp_random
from deepmd.utils.data_system import get_data
from deepmd.utils.model_stat import make_stat_input

from oracle.deepmd_model import make_model


class Statistics(NamedTuple):
    """mean, deviation: [ntypes, sum(sel), 4], every slot the same. energy_bias, energy_std: [ntypes], eV."""

    mean: np.ndarray
    deviation: np.ndarray
    energy_bias: np.ndarray
    energy_std: np.ndarray


def deepmd_statistics(
    samples: Sequence[Mapping],
    type_map: Sequence[str],
    version: int = 1,
    *,
    model_options: Mapping | None = None,
    **descriptor_options,
) -> Statistics:
    """Statistics of samples as DeePMD-kit's trainer computes them before the first step.

    Args:
        samples: one per system, from `sample_frames` or `sample_directories`.
        type_map: symbols of the types.
        version: 1 for `se_atten`, 2 for `se_atten_v2`.
        model_options: `atom_exclude_types`, `pair_exclude_types`.
        descriptor_options: replace entries of `oracle.deepmd_model.TINY_DESCRIPTOR`: rcut, rcut_smth, sel,
            exclude_types, set_davg_zero, env_protection…
    """
    model = make_model(version, type_map, descriptor_options, **(model_options or {}))
    copies = [dict(sample) for sample in samples]
    model.atomic_model.compute_or_load_stat(lambda: copies)
    mean, deviation = model.atomic_model.descriptor.get_stat_mean_and_stddev()
    bias, std = model.atomic_model.out_bias, model.atomic_model.out_std
    return Statistics(np.array(mean), np.array(deviation), bias.reshape(-1).copy(), std.reshape(-1).copy())


def sample_frames(coord, atype, box, energy, n_types, *, mixed=False, atom_energy=None) -> dict:
    """One system's sample from arrays.

    Args:
        coord: [frames, atoms, 3] Å.
        atype: [atoms] or [frames, atoms]; -1 is a virtual atom.
        box: [frames, 9] Å, or None if not periodic.
        energy: [frames] eV, or None if unknown.
        n_types: number of types of the model.
        mixed: each frame has its own types, as a system with `real_atom_types.npy` has.
        atom_energy: [frames, atoms] eV. DeePMD-kit's data loader never gives this key for energies.
    """
    coord = np.asarray(coord, dtype=np.float64)
    n_frames, n_atoms = coord.shape[:2]
    atype = np.broadcast_to(np.asarray(atype, dtype=np.int64), (n_frames, n_atoms)).copy()
    counts = np.stack([(atype == t).sum(axis=1) for t in range(n_types)], axis=1)
    totals = np.full((n_frames, 2), n_atoms)
    natoms = np.concatenate([totals, counts], axis=1)
    sample = {"coord": coord.reshape(n_frames, -1), "atype": atype, "natoms": natoms}
    if mixed:
        sample["real_natoms_vec"] = natoms
        first_type_only = np.eye(n_types, dtype=int)[0] * n_atoms
        sample["natoms"] = np.concatenate([totals, np.tile(first_type_only, (n_frames, 1))], axis=1)
    if box is not None:
        sample["box"] = np.asarray(box, dtype=np.float64).reshape(n_frames, 9)
    values = np.zeros(n_frames) if energy is None else np.asarray(energy, dtype=np.float64)
    sample |= {"energy": values.reshape(n_frames, 1), "find_energy": np.bool_(energy is not None)}
    if atom_energy is not None:
        sample |= {"atom_energy": np.asarray(atom_energy), "find_atom_energy": np.bool_(True)}
    return sample


def sample_directories(directories, type_map, *, batch_size, n_batches, seed=0) -> list[dict]:
    """What DeePMD-kit's loader samples: `n_batches` batches of each system, in its shuffled order.

    A set of just `batch_size · n_batches` frames is sampled completely. If it has more, the seed decides
    which are taken; if less, the next set follows, or the only one is shuffled again and its frames count
    twice. The box of a non-periodic system is left out: DeePMD-kit's JAX trainer keeps a box of zeros, which
    makes its deviations NaN.
    """
    dp_random.seed(seed)
    request = {"systems": [str(path) for path in directories], "batch_size": batch_size}
    data = get_data(request, 0.0, list(type_map), None)
    data.add_data_requirements(EnergyLoss(starter_learning_rate=1.0).label_requirement)
    samples = make_stat_input(data, n_batches)
    for sample, system in zip(samples, data.data_systems, strict=True):
        if not system.pbc:
            del sample["box"]
    return samples
