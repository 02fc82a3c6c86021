"""The loss by its definition, on a batch of frames of 3 and 5 atoms, and what a missing label weighs."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from dpax.data import CapacityPlanner, Frame, Labels, make_batch
from dpax.model.derivatives import Prediction
from dpax.train.loss import Errors, Prefactors, energy_loss, prefactors, without_bias
from dpax.train.settings import LossSettings

SIZES = (3, 5)
WEIGHTS = Prefactors(0.7, 1.3, 0.4, 0.9)
NONE = {"energy": None, "forces": None, "virial": None, "atom_energies": None}


def frame(n_atoms, seed, **labels) -> Frame:
    rng = np.random.default_rng(seed)
    grid = np.stack(np.meshgrid(*[np.arange(2)] * 3, indexing="ij"), -1).reshape(-1, 3)[:n_atoms]
    made = {
        "energy": float(rng.normal(-30, 1)),
        "forces": rng.normal(size=(n_atoms, 3)),
        "virial": rng.normal(size=(3, 3)),
        "atom_energies": rng.normal(size=n_atoms),
    }
    types = rng.integers(0, 2, n_atoms)
    return Frame(2.0 * grid, types, None, (False,) * 3, f"frame {seed}", **(made | labels))


def batch_of(frames):
    """Labels [padded] in float64, and the frame of each atom."""
    batch = make_batch(frames, 3.0, CapacityPlanner(), np.float64)
    return batch.labels, np.asarray(batch.neighborhoods.frames), np.asarray(batch.neighborhoods.types)


def prediction_for(labels: Labels, seed=0) -> Prediction:
    """Something for every slot, also those that only pad."""
    rng = np.random.default_rng(seed)
    n = len(labels.energy)
    arrays = (rng.normal(size=n), rng.normal(size=(n, 3)), rng.normal(size=(n, 3, 3)))
    return Prediction(*map(jnp.asarray, arrays))


@jax.jit
def compute(prediction, labels, frames) -> tuple[tuple[jax.Array, Errors], Prediction]:
    """Loss, errors and the gradient with respect to the prediction."""
    return jax.value_and_grad(energy_loss, has_aux=True)(prediction, labels, frames, WEIGHTS)


def by_definition(prediction: Prediction, frames: list[Frame]) -> Errors:
    """Frame by frame and atom by atom: energies and virials by 1/N, the rest pooled over atoms."""
    energy, virial, forces, atomic, per_atom = [], [], [], [], []
    start = 0
    for k, one in enumerate(frames):
        n = len(one.types)
        atoms = slice(start, start := start + n)
        if one.energy is not None:
            energy.append((np.sum(prediction.energies[atoms]) - one.energy) ** 2 / n)
            per_atom.append(energy[-1] / n)
        if one.virial is not None:
            virial.append((np.mean((prediction.virials[k] - one.virial) ** 2) / n, n))
        if one.forces is not None:
            forces += list(np.ravel(prediction.forces[atoms] - one.forces) ** 2)
        if one.atom_energies is not None:
            atomic += list((prediction.energies[atoms] - one.atom_energies) ** 2)
    means = [
        np.mean(values) if values else 0.0 for values in (energy, forces, [v for v, _ in virial], atomic)
    ]
    loss = sum(w * mean for w, mean in zip(WEIGHTS, means, strict=True))
    squares = (per_atom, forces, [v / n for v, n in virial], atomic)
    return Errors(loss, *(np.sqrt(np.mean(values)) if values else np.nan for values in squares))


@pytest.mark.parametrize(
    "missing",
    [
        [{}, {}],
        [{}, NONE],
        [{"forces": None, "virial": None}, {"energy": None}],
        [{"atom_energies": None}, {"atom_energies": None}],
        [{"virial": None}, {"forces": None, "atom_energies": None}],
    ],
    ids=["all labels", "one without any", "each lacks others", "no atomic energies", "half"],
)
def test_loss_is_its_definition(missing):
    frames = [frame(n, k, **missing[k]) for k, n in enumerate(SIZES)]
    labels, owners, _ = batch_of(frames)
    prediction = prediction_for(labels)
    (loss, errors), _ = compute(prediction, labels, owners)
    expected = by_definition(jax.tree.map(np.asarray, prediction), frames)
    np.testing.assert_allclose(errors, expected, rtol=1e-12)
    assert loss == errors.loss


@pytest.mark.parametrize("label", list(NONE))
def test_missing_labels_weigh_nothing(label):
    """Whatever stands in the place of a missing label: the gradient does not see it."""
    frames = [frame(3, 0), frame(5, 1, **{label: None})]
    labels, owners, _ = batch_of(frames)
    rubbish = {
        "energy": labels.energy + 1e3 * (1 - labels.has_energy),
        "virial": labels.virial + 1e3 * (1 - labels.has_virial)[:, None, None],
        "forces": labels.forces + 1e3 * (1 - labels.has_forces[np.minimum(owners, 1)])[:, None],
        "atom_energies": labels.atom_energies + 1e3 * (1 - labels.has_atom_energies[np.minimum(owners, 1)]),
    }
    prediction = prediction_for(labels)
    (clean, _), gradient = compute(prediction, labels, owners)
    (spoilt, _), other = compute(prediction, labels._replace(**rubbish), owners)
    assert clean == spoilt
    for a, b in zip(gradient, other, strict=True):
        np.testing.assert_array_equal(a, b)


def test_a_frame_without_labels_changes_no_gradient():
    """The 3-atom frame alone, and in the company of a frame without labels."""
    alone, company = [frame(3, 0)], [frame(3, 0), frame(5, 1, **NONE)]
    labels, owners, _ = batch_of(company)
    prediction = prediction_for(labels)
    (loss, errors), gradient = compute(prediction, labels, owners)
    lone_labels, lone_owners, _ = batch_of(alone)
    n = len(lone_labels.energy)
    (lone_loss, lone_errors), lone = compute(
        Prediction(*(a[:n] for a in prediction)), lone_labels, lone_owners
    )
    np.testing.assert_allclose(loss, lone_loss, rtol=1e-14)
    np.testing.assert_allclose(errors, lone_errors, rtol=1e-14)
    for ours, theirs in zip(gradient, lone, strict=True):
        np.testing.assert_allclose(ours[:3], theirs[:3], rtol=1e-13, atol=1e-15)
        assert not np.any(np.asarray(ours)[3:8])


def test_padding_has_no_gradient():
    labels, owners, types = batch_of([frame(3, 0), frame(3, 1)])
    _, gradient = compute(prediction_for(labels), labels, owners)
    assert np.any(types < 0)
    assert not np.any(np.asarray(gradient.energies)[types < 0])
    assert not np.any(np.asarray(gradient.forces)[types < 0])
    assert not np.any(np.asarray(gradient.virials)[2:])


def test_bias_is_taken_off_where_there_are_energies():
    frames = [frame(3, 0), frame(5, 1, energy=None)]
    labels, owners, types = batch_of(frames)
    bias = np.array([-1000.0, 500.0])
    shifted = without_bias(labels, types, owners, bias, np.dtype(np.float32))
    assert shifted.energy.dtype == np.float32
    np.testing.assert_allclose(shifted.energy[0], frames[0].energy - bias[frames[0].types].sum(), rtol=1e-6)
    assert shifted.energy[1] == 0.0
    np.testing.assert_allclose(
        shifted.atom_energies[:3], frames[0].atom_energies - bias[frames[0].types], rtol=1e-6
    )
    np.testing.assert_array_equal(shifted.forces, labels.forces.astype(np.float32))


def test_prefactors_follow_the_learning_rate():
    settings = LossSettings(start_pref_e=0.02, limit_pref_e=1.0, start_pref_f=1000, limit_pref_f=1)
    for ratio, expected in ((1.0, (0.02, 1000.0)), (0.0, (1.0, 1.0)), (0.25, (1 - 0.98 / 4, 1 + 999 / 4))):
        np.testing.assert_allclose(prefactors(settings, ratio), [*expected, 0.0, 0.0], rtol=1e-12)
