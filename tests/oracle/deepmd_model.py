"""DeePMD-kit's NumPy DPA-1 models and a few structures: the oracle of descriptors and energies.

Importing this module skips the calling test module where deepmd-kit is not installed. It needs neither torch
nor JAX: `deepmd.dpmodel` is the definition that DeePMD-kit's JAX and exportable PyTorch backends inherit.
Its energy model takes the dense route (every atom has `sum(sel)` slots, empty ones included).

All weights are DeePMD-kit's own random float64 ones for a fixed seed, except where its initial values would
leave arithmetic untested: LayerNorm's scale and shift, the energy bias, and on request the environment
matrix's mean and deviation.
"""

from pathlib import Path
from typing import NamedTuple

import numpy as np
import pytest

pytest.importorskip("deepmd")

from deepmd.dpmodel.atomic_model.dp_atomic_model import DPAtomicModel
from deepmd.dpmodel.atomic_model.pairtab_atomic_model import PairTabAtomicModel
from deepmd.dpmodel.descriptor import DescrptDPA1, DescrptSeAttenV2
from deepmd.dpmodel.fitting import EnergyFittingNet
from deepmd.dpmodel.model.dp_zbl_model import DPZBLModel
from deepmd.dpmodel.model.ener_model import EnergyModel
from deepmd.dpmodel.utils.nlist import extend_input_and_build_neighbor_list

TYPE_MAP = ("O", "H")
# `sel` exceeds the neighbours of every structure below at this cutoff: DeePMD-kit drops those beyond it.
TINY_DESCRIPTOR = {
    "rcut": 4.0,
    "rcut_smth": 0.5,
    "sel": 60,
    "neuron": [4, 8, 16],
    "axis_neuron": 4,
    "tebd_dim": 8,
    "attn": 12,
    "attn_layer": 2,
    "precision": "float64",
    "seed": 7,
}
TINY_FITTING = {"neuron": [16, 16], "resnet_dt": True, "precision": "float64", "seed": 11}


class Structure(NamedTuple):
    """Atoms of `TYPE_MAP`: coord [atoms, 3] Å, atype [atoms], box [3, 3] (rows are the vectors) Å or None."""

    coord: np.ndarray
    atype: np.ndarray
    box: np.ndarray | None


def make_descriptor(version, *, random_statistics=False, ntypes=2, **options):
    """Float64 `DescrptDPA1` (version 1) or `DescrptSeAttenV2` (version 2) with random weights.

    `options` replace entries of `TINY_DESCRIPTOR`. With `random_statistics` the mean and deviation are those
    of `random_statistics_of`; without, 0 and 1 as after construction.
    """
    cls = {1: DescrptDPA1, 2: DescrptSeAttenV2}[version]
    descriptor = cls(ntypes=ntypes, **(TINY_DESCRIPTOR | options))
    _perturb_layer_norms(descriptor)
    if random_statistics:
        descriptor.set_stat_mean_and_stddev(*random_statistics_of(descriptor))
    return descriptor


def random_statistics_of(descriptor, seed=5):
    """Mean and deviation [ntypes, sel, 4] of the form that DeePMD-kit computes: the same in every slot, the
    mean only in the radial column, one deviation for the radial and one for the three angular columns.
    """
    rng = np.random.default_rng(seed)
    ntypes, slots = descriptor.get_ntypes(), descriptor.get_nsel()
    mean = np.zeros((ntypes, slots, 4))
    deviation = np.empty((ntypes, slots, 4))
    mean[..., 0] = rng.uniform(0.02, 0.2, (ntypes, 1))
    deviation[..., 0] = rng.uniform(0.1, 0.4, (ntypes, 1))
    deviation[..., 1:] = rng.uniform(0.05, 0.2, (ntypes, 1, 1))
    return mean, deviation


def make_model(
    version,
    type_map=TYPE_MAP,
    descriptor_options=None,
    fitting_options=None,
    *,
    random_statistics=False,
    energy_bias=(-3.5, -0.7),
    **model_options,
):
    """DeePMD-kit's NumPy `EnergyModel` around `make_descriptor(version, **descriptor_options)`.

    `energy_bias` (eV per atom of each type, cycled) is the `out_bias` that statistics would set.
    `model_options` go to the model: `atom_exclude_types`, `pair_exclude_types`, `preset_out_bias`. The mean
    and deviation of `fparam` and `aparam`, where the fitting has any, are random.
    """
    type_map = list(type_map)
    parts = _parts(version, type_map, descriptor_options, fitting_options, random_statistics)
    model = EnergyModel(*parts, type_map=type_map, **model_options)
    _set_bias(model, energy_bias)
    return model


def make_zbl_model(
    version,
    table,
    type_map=TYPE_MAP,
    descriptor_options=None,
    fitting_options=None,
    *,
    sw_rmin=0.6,
    sw_rmax=1.2,
    smin_alpha=0.1,
    random_statistics=False,
    energy_bias=(-3.5, -0.7),
    **model_options,
):
    """DeePMD-kit's NumPy model with a short-range table (the path of a text file) beside the network."""
    type_map = list(type_map)
    parts = _parts(version, type_map, descriptor_options, fitting_options, random_statistics)
    model = DPZBLModel(
        DPAtomicModel(*parts, type_map=type_map),
        PairTabAtomicModel(str(table), parts[0].get_rcut(), parts[0].get_sel(), type_map=type_map),
        sw_rmin,
        sw_rmax,
        type_map=type_map,
        smin_alpha=smin_alpha,
        **model_options,
    )
    _set_bias(model, energy_bias)
    return model


def write_pair_table(path, n_types=2, n_rows=150, step=0.02, rmin=0.02, scale=20.0):
    """A table of screened repulsions, different for each pair of types, that is not zero at its end."""
    r = rmin + step * np.arange(n_rows)
    n_pairs = n_types * (n_types + 1) // 2
    columns = [scale * (1 + k) * np.exp(-r / (0.3 + 0.1 * k)) / (r + 0.1) for k in range(n_pairs)]
    np.savetxt(path, np.column_stack([r, *columns]))
    return Path(path)


def _set_bias(model, energy_bias):
    out_bias = model.atomic_model.out_bias
    out_bias[...] = np.resize(energy_bias, out_bias.shape[1]).reshape(1, -1, 1)


def _parts(version, type_map, descriptor_options, fitting_options, random_statistics):
    descriptor = make_descriptor(
        version,
        random_statistics=random_statistics,
        ntypes=len(type_map),
        **({"type_map": type_map} | (descriptor_options or {})),
    )
    fitting = EnergyFittingNet(
        ntypes=len(type_map),
        dim_descrpt=descriptor.get_dim_out(),
        mixed_types=descriptor.mixed_types(),
        type_map=type_map,
        **(TINY_FITTING | (fitting_options or {})),
    )
    rng = np.random.default_rng(17)
    for name, width in (("fparam", fitting.numb_fparam), ("aparam", fitting.numb_aparam)):
        if width:
            fitting[f"{name}_avg"] = rng.normal(size=width)
            fitting[f"{name}_inv_std"] = rng.uniform(0.5, 2.0, width)
    return descriptor, fitting


def evaluate(model, coord, atype, box=None, fparam=None, aparam=None):
    """Energy (eV, float) and atomic energies (eV, [atoms]) of one structure by DeePMD-kit's `model.call`."""
    told = {
        name: None if value is None else np.asarray(value, np.float64)[None]
        for name, value in (("fparam", fparam), ("aparam", aparam))
    }
    result = model.call(*_one_frame(coord, atype, box), **told)
    return float(result["energy"].squeeze()), result["atom_energy"].reshape(-1)


def evaluate_descriptor(descriptor, coord, atype, box=None):
    """Descriptor [atoms, dim_out] and rotation matrix [atoms, neuron[-1], 3] of one structure."""
    result = descriptor.call(*extended_input(descriptor, coord, atype, box))
    return result[0][0], result[1][0]


def extended_input(descriptor, coord, atype, box=None):
    """What a descriptor is called with: coord_ext, atype_ext, nlist, mapping, each with a frame axis of 1."""
    coord, atype, box = _one_frame(coord, atype, box)
    coord_ext, atype_ext, mapping, nlist = extend_input_and_build_neighbor_list(
        coord, atype, descriptor.get_rcut(), descriptor.get_sel(), mixed_types=True, box=box
    )
    return coord_ext, atype_ext, nlist, mapping


def structures(seed=0):
    """Named O/H structures, the same at each call.

    - triclinic: 12 atoms in a skewed cell wider than the cutoff of `TINY_DESCRIPTOR`
    - small cell: 4 atoms in a cell shorter than the cutoff, so an atom sees its own images
    - cluster: 9 atoms, non-periodic, the outer ones with few neighbours
    - dense cluster: 20 atoms, non-periodic, all within the cutoff of each other
    - isolated in a box, isolated: one atom that sees nothing, periodic and not
    - out of sight: three atoms, non-periodic, one of them alone
    """
    rng = np.random.default_rng(seed)
    point = np.array([[1.0, 2.0, 3.0]])
    triclinic = np.array([[6.2, 0.0, 0.0], [1.3, 5.9, 0.0], [-0.8, 1.1, 6.4]])
    small = np.array([[3.1, 0.0, 0.0], [0.4, 3.3, 0.0], [0.2, -0.3, 2.9]])
    ball = _scatter(rng, 20, np.diag([2.2, 2.2, 2.2]), 0.55, periodic=False)
    far = np.array([[0.0, 0.0, 0.0], [0.9, 0.3, 0.1], [9.0, 9.0, 9.0]])
    return {
        "triclinic": Structure(_scatter(rng, 12, triclinic, 1.0), np.array([0, 1, 1] * 4), triclinic),
        "small cell": Structure(_scatter(rng, 4, small, 1.1), np.array([0, 1, 1, 0]), small),
        "cluster": Structure(
            _scatter(rng, 9, np.diag([6.0, 5.0, 5.0]), 0.8, periodic=False), np.array([1, 0, 1] * 3), None
        ),
        "dense cluster": Structure(ball, rng.permutation([0, 1] * 10), None),
        "isolated in a box": Structure(point, np.array([1]), np.diag([30.0, 30.0, 30.0])),
        "isolated": Structure(point, np.array([0]), None),
        "out of sight": Structure(far, np.array([0, 1, 1]), None),
    }


def max_neighbors(structure, rcut):
    """Largest number of neighbours of an atom within `rcut` Å, periodic images included."""
    coord, atype, box = _one_frame(*structure)
    *_, nlist = extend_input_and_build_neighbor_list(coord, atype, rcut, [2000], mixed_types=True, box=box)
    return int((nlist >= 0).sum(axis=-1).max())


def _one_frame(coord, atype, box):
    coord = np.asarray(coord, dtype=np.float64).reshape(1, -1, 3)
    atype = np.asarray(atype, dtype=np.int64).reshape(1, -1)
    return coord, atype, None if box is None else np.asarray(box, dtype=np.float64).reshape(1, 9)


def _perturb_layer_norms(descriptor, seed=3):
    rng = np.random.default_rng(seed)
    attention = descriptor.se_atten.dpa1_attention
    for layer in attention.attention_layers:
        norm = layer.attn_layer_norm
        norm.w = norm.w + 0.2 * rng.standard_normal(norm.w.shape)
        norm.b = norm.b + 0.2 * rng.standard_normal(norm.b.shape)


def _scatter(rng, n_atoms, cell, closest, periodic=True):
    """Random positions in a cell, none nearer to another (or its images) than `closest` Å."""
    reach = [-1, 0, 1] if periodic else [0]
    images = np.array(np.meshgrid(reach, reach, reach)).reshape(3, -1).T @ cell
    placed = []
    while len(placed) < n_atoms:
        trial = rng.random(3) @ cell
        gaps = [np.linalg.norm(trial - other + images, axis=1).min() for other in placed]
        if not gaps or min(gaps) > closest:
            placed.append(trial)
    return np.array(placed)
