"""The loss of DeePMD-kit's energy models, and the errors that are shown beside it.

Each term is a mean error times a prefactor that moves with the learning rate from its start towards its
limit. Frames of any sizes share a batch: energies and virials are weighed by 1/N of their frame, per-atom
quantities are pooled over all labelled atoms, so a label counts the same in any company; a Hessian, whose
components grow with N², is a mean of its own. A frame without a label adds nothing to that term.
"""

from collections.abc import Mapping
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float

from dpax.data import Labels
from dpax.data.quantities import TERMS
from dpax.model.derivatives import Prediction
from dpax.train.error_sums import SHOWN_FORCES, Errors, Sums
from dpax.train.learning_settings import LossSettings

Prefactors = Mapping[str, float | Array]
"""The weight of each term at one step."""


def prefactors(settings: LossSettings, lr_ratio: float) -> Prefactors:
    """The weights when the learning rate is `lr_ratio` times its start."""
    pairs = {term: settings.pair(term) for term in TERMS}
    return {term: limit + (start - limit) * lr_ratio for term, (start, limit) in pairs.items()}


def without_bias(
    labels: Labels,
    types: np.ndarray,
    frames: np.ndarray,
    bias: np.ndarray,
    dtype: np.dtype,
    *,
    coefficients: bool = False,
) -> Labels:
    """Labels as the network sees them: energies less the bias of the types, then in its precision.

    The subtraction is in float64 on the host: what is left is a few eV of tens of thousands.

    Args:
        labels: as read.
        types: [atoms], negative for padding.
        frames: [atoms], frame of each atom.
        bias: [ntypes], eV.
        dtype: of the result.
        coefficients: the energy of a frame is Σ c_i E_i with the label `atom_ener_coeff`.
    """
    real = types >= 0
    atomic_bias = np.where(real, bias[np.where(real, types, 0)], 0.0)
    n_frames = labels.n_frames
    shares = atomic_bias
    if coefficients:
        shares = shares * _coefficients(np, labels, frames)
    frame_bias = np.bincount(frames[real], weights=shares[real], minlength=n_frames)[:n_frames]
    values = labels.values | {
        "energy": labels.values["energy"] - frame_bias * labels.has["energy"],
        "atom_energies": labels.values["atom_energies"] - atomic_bias,
    }
    return jax.tree.map(lambda array: np.asarray(array, dtype), Labels(values, labels.has, labels.n_atoms))


def energy_loss(
    prediction: Prediction, labels: Labels, frames: Array, weights: Prefactors, settings: LossSettings
) -> tuple[Array, Errors]:
    """The loss of a batch, for `dpax.model.derivatives.loss_gradient`.

    Args:
        prediction: of the model; with the Hessian if the loss weighs it.
        labels: without bias.
        frames: [atoms], frame of each atom; the number of frames for padding.
        weights: of the terms.
        settings: which terms there are and how errors count.
    """
    quantities = _quantities(prediction, labels, frames, settings)
    shown = quantities.get(SHOWN_FORCES, quantities["f"])
    energy_delta, force_delta, virial_delta = settings.huber_deltas
    # Squares of energies and virials are weighed by 1/N: per-atom errors times N.
    extensive = settings.loss_func == "mse" and not (settings.use_huber or settings.intensive_ener_virial)
    size = labels.n_atoms.astype(prediction.energies.dtype) if extensive else None
    terms = {
        "e": (quantities["e"]._replace(weights=size), energy_delta),
        "f": (_norms(shown) if settings.f_use_norm else shown, force_delta),
        "v": (quantities["v"]._replace(weights=size), virial_delta),
        **{term: (quantities[term], energy_delta) for term in ("ae", "pf", "gf", "h") if term in quantities},
    }
    if settings.takes("frame_weight") and "frame_weight" in labels.values:
        terms = {
            term: (_weighted_by_frame(term, quantity, labels, frames), delta)
            for term, (quantity, delta) in terms.items()
        }
    loss = jnp.zeros((), prediction.energies.dtype)
    for term, (quantity, delta) in terms.items():
        if settings.weighs(term):
            kind = "mse" if term == "gf" else settings.loss_func
            loss = loss + weights[term] * _mean_penalty(quantity, kind, settings.use_huber, delta)
    if settings.f_use_norm:
        quantities[SHOWN_FORCES] = _norms(shown) if settings.loss_func == "mae" else shown
    sums = {name: Sums.of(*quantity) for name, quantity in quantities.items()}
    return loss, jax.lax.stop_gradient(Errors(loss, sums))


class _Quantity(NamedTuple):
    """Errors of one quantity of a batch."""

    residual: Float[Array, "rows components"]
    flags: Any
    """[rows], 1 where there is a label; 0 where there is none, or for padding."""
    weights: Any = None
    """[rows], of the rows' errors, beside the flags."""


def _quantities(
    prediction: Prediction, labels: Labels, frames: Array, settings: LossSettings
) -> dict[str, _Quantity]:
    """What is compared with labels, by term: energy, forces and virial, and what else the loss weighs."""
    n_frames, values, has = labels.n_frames, labels.values, labels.has
    per_atom = 1.0 / labels.n_atoms.astype(values["energy"].dtype)

    def of_atoms(flags: Any) -> Array:
        return jnp.append(flags, 0.0)[frames]

    def per_frame(values: Array) -> Array:
        return jax.ops.segment_sum(values, frames, num_segments=n_frames + 1)[:n_frames]

    energies = prediction.energies
    if settings.takes("atom_ener_coeff"):
        energies = energies * _coefficients(jnp, labels, frames)
    energy = (per_frame(energies) - values["energy"]) * per_atom
    virial = (prediction.virials - values["virial"]).reshape(n_frames, 9) * per_atom[:, None]
    forces = prediction.forces - values["forces"]
    has_forces = of_atoms(has["forces"])
    quantities = {
        "e": _Quantity(energy[:, None], has["energy"]),
        "f": _Quantity(forces, has_forces),
        "v": _Quantity(virial, has["virial"]),
    }
    if settings.weighs("ae"):
        atomic = prediction.energies - values["atom_energies"]
        quantities["ae"] = _Quantity(atomic[:, None], of_atoms(has["atom_energies"]))
    shown = forces
    if settings.relative_f is not None:
        shown = forces / (jnp.linalg.norm(values["forces"], axis=1, keepdims=True) + settings.relative_f)
        quantities[SHOWN_FORCES] = _Quantity(shown, has_forces)
    if settings.weighs("pf"):
        has_pref, pref = _force_weights(labels, frames, settings)
        quantities["pf"] = _Quantity(shown, has_forces * has_pref, pref)
    if settings.weighs("gf") and "drdq" in values:
        generalized = per_frame(jnp.einsum("axq,ax->aq", values["drdq"], forces))
        quantities["gf"] = _Quantity(generalized, has["forces"] * has["drdq"])
    if settings.weighs("h") and prediction.hessian is not None:
        quantities["h"] = _hessian(prediction.hessian, labels, frames)
    return quantities


def _hessian(hessian: Array, labels: Labels, frames: Array) -> _Quantity:
    """Pairs of atoms of a frame, each weighed by 1/(9 N²): the mean over the frame's matrix counts as one."""
    n_atoms = frames.shape[0]
    sizes = labels.n_atoms.astype(hessian.dtype)
    flags = jnp.append(labels.has["hessian"] / (9.0 * sizes**2), 0.0)[frames]
    pairs = jnp.where(frames[:, None] == frames[None, :], flags[:, None], 0.0)
    residual = (hessian - labels.values["hessian"]).transpose(0, 2, 1, 3).reshape(n_atoms**2, 9)
    return _Quantity(residual, pairs.reshape(-1))


def _coefficients(xp: Any, labels: Labels, frames: Any) -> Any:
    """The c_i of E = Σ c_i E_i; 1 where a frame has none."""
    if "atom_ener_coeff" not in labels.values:
        return xp.ones(frames.shape[0], labels.values["energy"].dtype)
    has = xp.append(labels.has["atom_ener_coeff"], 0.0)[frames]
    return xp.where(has > 0, labels.values["atom_ener_coeff"], 1.0)


def _force_weights(labels: Labels, frames: Array, settings: LossSettings) -> tuple[Any, Any]:
    """Whether each atom has a weight of its force, and the weight."""
    none = jnp.zeros(frames.shape[0], labels.values["energy"].dtype)
    known = "atom_pref" in labels.values
    has = jnp.append(labels.has["atom_pref"], 0.0)[frames] if known else none
    weights = labels.values["atom_pref"] if known else none
    if settings.use_default_pf:
        return none + 1.0, jnp.where(has > 0, weights, 1.0)
    return has, weights


def _norms(quantity: _Quantity) -> _Quantity:
    """The lengths of the rows, with a derivative of 0 at 0."""
    squares = jnp.sum(quantity.residual**2, axis=1, keepdims=True)
    positive = squares > 0
    lengths = jnp.where(positive, jnp.sqrt(jnp.where(positive, squares, 1.0)), 0.0)
    return quantity._replace(residual=lengths)


def _weighted_by_frame(term: str, quantity: _Quantity, labels: Labels, frames: Array) -> _Quantity:
    """A quantity with the weight of each row's frame, 1 for frames without one."""
    rows = jnp.where(labels.has["frame_weight"] > 0, labels.values["frame_weight"], 1.0)
    if term not in ("e", "v", "gf"):
        rows = jnp.append(rows, 0.0)[frames]
    if term == "h":
        rows = jnp.repeat(rows, len(frames))
    return quantity._replace(weights=rows if quantity.weights is None else quantity.weights * rows)


def _mean_penalty(quantity: _Quantity, kind: str, huber: bool, delta: float) -> Float[Array, ""]:
    """The mean over what has a label of squares, absolute values or Huber's function; 0 without labels."""
    residual, flags, weights = quantity
    size = jnp.abs(residual)
    if kind == "mae":
        penalty = size
    elif huber:
        penalty = jnp.where(size <= delta, 0.5 * residual**2, delta * (size - 0.5 * delta))
    else:
        penalty = residual**2
    factors = flags if weights is None else flags * weights
    total = jnp.sum(factors[:, None] * penalty)
    count = jnp.sum(flags) * residual.shape[1]
    return total / jnp.where(count > 0, count, 1.0)
