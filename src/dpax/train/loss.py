"""The loss of DeePMD-kit's energy models, and the errors that are shown beside it.

Each term is a mean squared error times a prefactor that moves with the learning rate from its start
towards its limit. Frames of any sizes share a batch: energies and virials are weighed by 1/N of their frame,
per-atom quantities are pooled over all labelled atoms, so a label counts the same in any company. A frame
without a label adds nothing to that term.
"""

from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float

from dpax.data import Labels
from dpax.model.derivatives import Prediction
from dpax.train.settings import LossSettings


class Prefactors(NamedTuple):
    """The weights of the terms at one step."""

    energy: float
    forces: float
    virial: float
    atom_energies: float


class Errors(NamedTuple):
    """The loss of a batch and its root mean square errors; NaN where the batch has no such label."""

    loss: Float[Array, ""]
    rmse_e: Float[Array, ""]
    """eV/atom."""
    rmse_f: Float[Array, ""]
    """eV/Å, per component."""
    rmse_v: Float[Array, ""]
    """eV/atom, per component."""
    rmse_ae: Float[Array, ""]
    """eV."""


def prefactors(settings: LossSettings, lr_ratio: float) -> Prefactors:
    """The weights when the learning rate is `lr_ratio` times its start."""
    pairs = (
        (settings.start_pref_e, settings.limit_pref_e),
        (settings.start_pref_f, settings.limit_pref_f),
        (settings.start_pref_v, settings.limit_pref_v),
        (settings.start_pref_ae, settings.limit_pref_ae),
    )
    return Prefactors(*(limit + (start - limit) * lr_ratio for start, limit in pairs))


def without_bias(
    labels: Labels, types: np.ndarray, frames: np.ndarray, bias: np.ndarray, dtype: np.dtype
) -> Labels:
    """Labels as the network sees them: energies less the bias of the types, then in its precision.

    The subtraction is in float64 on the host: what is left is a few eV of tens of thousands.

    Args:
        labels: as read.
        types: [atoms], negative for padding.
        frames: [atoms], frame of each atom.
        bias: [ntypes], eV.
        dtype: of the result.
    """
    real = types >= 0
    atomic_bias = np.where(real, bias[np.where(real, types, 0)], 0.0)
    n_frames = len(labels.energy)
    frame_bias = np.bincount(frames[real], weights=atomic_bias[real], minlength=n_frames)[:n_frames]
    shifted = labels._replace(
        energy=labels.energy - frame_bias * labels.has_energy,
        atom_energies=labels.atom_energies - atomic_bias,
    )
    return Labels(*(np.asarray(array, dtype) for array in shifted))


def energy_loss(
    prediction: Prediction, labels: Labels, frames: Array, weights: Prefactors
) -> tuple[Array, Errors]:
    """The loss of a batch, for `dpax.model.derivatives.loss_gradient`.

    Args:
        prediction: of the model.
        labels: without bias.
        frames: [atoms], frame of each atom; the number of frames for padding.
        weights: of the terms.
    """
    n_frames = labels.energy.shape[0]
    energy = jax.ops.segment_sum(prediction.energies, frames, num_segments=n_frames + 1)[:n_frames]
    per_atom = 1.0 / labels.n_atoms
    energy2 = (energy - labels.energy) ** 2
    virial2 = jnp.mean((prediction.virials - labels.virial) ** 2, axis=(1, 2))
    forces2 = jnp.mean((prediction.forces - labels.forces) ** 2, axis=1)
    atomic2 = (prediction.energies - labels.atom_energies) ** 2
    real = frames < n_frames
    has_forces = jnp.where(real, jnp.append(labels.has_forces, 0.0)[frames], 0.0)
    has_atomic = jnp.where(real, jnp.append(labels.has_atom_energies, 0.0)[frames], 0.0)
    means = (
        _mean(energy2 * per_atom, labels.has_energy),
        _mean(forces2, has_forces),
        _mean(virial2 * per_atom, labels.has_virial),
        _mean(atomic2, has_atomic),
    )
    loss = sum((w * mean for w, mean in zip(weights, means, strict=True)), jnp.zeros((), energy.dtype))
    errors = Errors(
        loss,
        _root(energy2 * per_atom**2, labels.has_energy),
        _root(forces2, has_forces),
        _root(virial2 * per_atom**2, labels.has_virial),
        _root(atomic2, has_atomic),
    )
    return loss, jax.lax.stop_gradient(errors)


def _mean(values: Float[Array, " n"], flags: Any) -> Float[Array, ""]:
    """Mean over what has a label; 0 where nothing has."""
    return jnp.sum(values * flags) / jnp.maximum(jnp.sum(flags), 1.0)


def _root(values: Float[Array, " n"], flags: Any) -> Float[Array, ""]:
    """Root of the mean over what has a label; NaN where nothing has."""
    return jnp.where(jnp.sum(flags) > 0, jnp.sqrt(_mean(values, flags)), jnp.nan)
