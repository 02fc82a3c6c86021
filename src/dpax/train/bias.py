"""The energy bias of a model's types, adjusted to data.

After DeePMD-kit's `change_out_bias`: what the compositions of frames explain of their energies, or of what a
model leaves of them, is left to the types, not to the network.
"""

from collections.abc import Callable, Iterable, Sequence
from functools import partial
from typing import Literal

import jax
import numpy as np
from jax.sharding import Mesh

from dpax.computing import computing
from dpax.data import CapacityPlanner, Frame, ParameterWidths, make_batch
from dpax.errors import InputError
from dpax.geometry.neighborhoods import Neighborhoods
from dpax.model.blocks import compiled, default_block_size
from dpax.model.derivatives import energies_only
from dpax.model.energies import ModelWeights
from dpax.model.energy_model import EnergyModel
from dpax.train.statistics import energy_bias

Mode = Literal["change", "set"]
"""change: add what fits the errors of the model; set: take what fits the energies alone."""


def adjusted_bias(model: EnergyModel, frames: Iterable[Frame], mode: Mode, mesh: Mesh) -> np.ndarray:
    """The energy bias of the types after the least-squares fit to the energies of frames.

    Where the compositions leave it open the change is the smallest one: a type that the frames lack keeps its
    bias with "change", and gets 0 with "set". Types whose bias is preset keep it.

    Args:
        model: to be adjusted; it is not changed itself.
        frames: those without an energy are passed over.
        mode: what is fitted.
        mesh: devices.

    Returns:
        [ntypes], eV.

    Raises:
        InputError: no frame has an energy, or one cannot be used.
    """
    labelled = [frame for frame in frames if frame.energy is not None]
    if not labelled:
        raise InputError("the energy bias cannot be fitted: no frame of the data has an energy")
    counts = np.array([np.bincount(frame.types, minlength=len(model.type_map)) for frame in labelled])
    counts[:, list(model.spec.atom_exclude_types)] = 0
    energies = np.array([frame.energy for frame in labelled])
    rcond, fixed = model.spec.fitting.rcond, model.spec.fixed_bias
    if mode == "set":
        return energy_bias(counts, energies, rcond, fixed)
    bias = np.array(model.bias)
    errors = energies - _network_energies(model, labelled, mesh) - counts @ bias
    return bias + energy_bias(counts, errors, rcond, [None if value is None else 0.0 for value in fixed])


def with_adjusted_bias(
    model: EnergyModel, frames: Iterable[Frame], mesh: Mesh, tell: Callable[[str], None]
) -> EnergyModel:
    """The model with its energy bias refitted to its errors on frames.

    Args:
        model: to be adjusted.
        frames: those without an energy are passed over.
        mesh: devices.
        tell: called with what has changed.
    """
    adjusted = model.with_bias(adjusted_bias(model, frames, "change", mesh))
    changes = zip(model.type_map, model.bias, adjusted.bias, strict=True)
    text = ", ".join(f"{element} {old:.6g} to {new:.6g}" for element, old, new in changes)
    tell(f"energy bias in eV: {text}")
    return adjusted


def _network_energies(model: EnergyModel, frames: Sequence[Frame], mesh: Mesh) -> np.ndarray:
    """Energies of frames without the bias of the types, [frames], eV, added up in float64."""
    spec, platform = model.spec, mesh.devices.flat[0].platform
    planner, parameters = CapacityPlanner(atom_multiple=mesh.size), ParameterWidths(*spec.parameter_widths)

    @partial(compiled, mesh=mesh)
    def energies(weights: ModelWeights, neighborhoods: Neighborhoods) -> jax.Array:
        size = default_block_size(neighborhoods.edges.shape[1], platform)
        return energies_only(spec, weights, neighborhoods, mesh, size)

    totals, weights = [], model.evaluation_weights()
    with computing(model.needs_x64):
        for frame in frames:
            batch = make_batch([frame], model.rcut, planner, model.dtype, parameters=parameters)
            totals.append(np.sum(np.asarray(energies(weights, batch.neighborhoods), np.float64)))
    return np.array(totals)
