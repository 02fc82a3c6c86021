"""The same losses as DeePMD-kit's own trainer, step by step, from the same weights and batches.

DeePMD-kit compiles for the better part of a minute per case, so there are four, three of them among the slow
tests, and each has another learning rate. That rates agree at every step of every schedule is shown in
test_schedule.py without a trainer.
"""

from typing import NamedTuple

import jax
import numpy as np
import pytest

from dpax.data import CapacityPlanner, Frame, make_batch, open_systems
from dpax.deepmd.model_dictionary import model_dictionary, read_model
from dpax.model.blocks import make_mesh
from dpax.train.error_sums import ErrorMeans
from dpax.train.learning_settings import LearningRateSettings, LossSettings, OptimizerSettings
from dpax.train.loss import prefactors, without_bias
from dpax.train.optimizer import make_optimizer
from dpax.train.schedule import make_schedule
from dpax.train.step import make_functions
from oracle.deepmd_model import make_model
from oracle.deepmd_training import deepmd_training, tiny_frames, tiny_model_dict

STEPS = 10
ENDS = {"start_lr": 2e-3, "stop_lr": 1e-5}
# The prefactors move with the rate.
STAIRS = {**ENDS, "decay_steps": 3}
SMOOTH = {**ENDS, "decay_steps": 3, "smooth": True, "warmup_ratio": 0.2, "warmup_start_factor": 0.5}
COSINE = {**ENDS, "type": "cosine", "warmup_steps": 3, "warmup_start_factor": 0.1}
STABLE = {**ENDS, "type": "wsd", "decay_phase_ratio": 0.5, "warmup_steps": 1, "warmup_start_factor": 0.3}
ALL_TERMS = {
    "start_pref_e": 0.02,
    "limit_pref_e": 1.0,
    "start_pref_f": 1000.0,
    "limit_pref_f": 1.0,
    "start_pref_v": 0.5,
    "limit_pref_v": 0.2,
    "start_pref_ae": 0.3,
    "limit_pref_ae": 1.0,
}
ALL_LABELS = ("energy", "force", "virial", "atom_ener")
CASES = {
    "concat, all terms, stairs": (1, ALL_TERMS, ALL_LABELS, STAIRS),
    "concat, energies and forces, wsd": (1, {}, ("energy", "force"), STABLE),
    "strip, all terms, smooth": (2, ALL_TERMS, ALL_LABELS, SMOOTH),
    "strip, energies and forces, cosine": (2, {}, ("energy", "force"), COSINE),
}


class Outcome(NamedTuple):
    """What a training saw."""

    losses: list[float]
    """Of each step's batch, before the step."""
    errors: list[dict[str, float]]
    """The same, by name."""
    last: float
    """Loss of the last step's batch after the step."""
    model: dict
    """The serialised model at the end."""


def frames_of(batch) -> list[Frame]:
    """The frames of one of the oracle's batches."""
    count = len(batch["coord"])
    return [
        Frame(
            positions=batch["coord"][k],
            types=batch["atype"],
            cell=batch["box"][k].reshape(3, 3),
            pbc=(True, True, True),
            source=f"frame {k}",
            energy=batch["energy"][k],
            forces=batch["force"][k],
            virial=batch["virial"][k].reshape(3, 3) if "virial" in batch else None,
            atom_energies=batch.get("atom_ener", [None] * count)[k],
        )
        for k in range(count)
    ]


def train_with_dpax(model_dict, batches, loss_settings, rate_settings, block_size=5) -> Outcome:
    """As the training loop does, on two devices and in several blocks."""
    model = read_model(model_dict)
    loss, rate = LossSettings(**loss_settings), LearningRateSettings(**rate_settings)
    mesh = make_mesh()
    functions = make_functions(model, loss, make_optimizer(OptimizerSettings()), mesh, block_size)
    schedule, planner = make_schedule(rate, STEPS), CapacityPlanner(8 * mesh.size)
    bias, state = np.array(model.bias), functions.init()
    losses, errors = [], []
    for step in range(STEPS):
        made = make_batch(frames_of(batches[step % len(batches)]), model.rcut, planner, model.dtype)
        nb = made.neighborhoods
        labels = without_bias(made.labels, np.asarray(nb.types), np.asarray(nb.frames), bias, model.dtype)
        lr = schedule(step)
        weights = prefactors(loss, lr / rate.start_lr)
        state, found = functions.step(state, nb, labels, weights, lr)
        losses.append(float(found.loss))
        means = ErrorMeans()
        means.add(found)
        errors.append(means.shown(loss))
        after = functions.errors(state.params, nb, labels, weights)
    return Outcome(losses, errors, float(after.loss), model_dictionary(model.with_arrays(state.params)))


SLOW = ("concat, energies and forces, wsd", "strip, all terms, smooth", "strip, energies and forces, cosine")


@pytest.fixture(
    scope="module",
    params=[pytest.param(name, marks=[pytest.mark.slow] if name in SLOW else []) for name in CASES],
)
def both(request):
    """DeePMD-kit's rows and final model, and what dpax made of the same."""
    version, terms, labels, rate = CASES[request.param]
    model_dict = tiny_model_dict(version)
    kept = {"coord", "atype", "box", *labels}
    batches = [{k: v for k, v in batch.items() if k in kept} for batch in tiny_frames()]
    theirs = deepmd_training(model_dict, batches, terms, rate, STEPS)
    return theirs, train_with_dpax(model_dict, batches, terms, rate)


def test_losses_of_ten_steps(both):
    (rows, _), ours = both
    np.testing.assert_allclose(ours.losses, [row["loss"] for row in rows], rtol=1e-6)
    np.testing.assert_allclose(ours.last, rows[-1]["after"]["rmse"] ** 2, rtol=1e-6)
    assert len({row["lr"] for row in rows}) >= 4


def test_errors_shown_are_those_of_deepmd(both):
    (rows, _), ours = both
    for row, errors in zip(rows, ours.errors, strict=True):
        for name in ("rmse_e", "rmse_f", "rmse_v", "rmse_ae"):
            if name in row["before"]:
                assert errors[name] == pytest.approx(row["before"][name], rel=1e-6)
            else:
                assert name not in errors


def test_weights_after_ten_steps(both):
    (_, theirs), ours = both
    expected, found = (dict(leaves(model)) for model in (theirs, ours.model))
    moved = [name for name in expected if not name.endswith(("out_bias", "bias_atom_e", "out_std"))]
    assert len(moved) > 20
    for name in moved:
        np.testing.assert_allclose(found[name], expected[name], rtol=1e-6, atol=1e-9, err_msg=name)


WATER_DESCRIPTOR = {
    "rcut": 6.0,
    "rcut_smth": 0.5,
    "sel": 120,
    "neuron": [25, 50, 100],
    "axis_neuron": 16,
    "attn": 128,
    "attn_layer": 2,
}


def water_batches(folder):
    """Two frames of liquid water, one a batch; virial and atomic energies are made up: the data lack them."""
    (system,) = open_systems(str(folder), ("O", "H"))
    rng = np.random.default_rng(0)
    frames = [system.frame(index) for index in (3, 40)]
    return [
        {
            "coord": frame.positions[None],
            "atype": frame.types,
            "box": frame.cell.reshape(1, 9),
            "energy": np.array([frame.energy]),
            "force": frame.forces[None],
            "virial": rng.normal(scale=5.0, size=(1, 9)),
            "atom_ener": frame.energy / len(frame.types) + rng.normal(size=(1, len(frame.types))),
        }
        for frame in frames
    ]


@pytest.mark.slow
@pytest.mark.parametrize("case", CASES)
def test_losses_on_water(case, real_data):
    """A model and a liquid of the size that is used: 192 atoms, two attention layers of width 128."""
    version, terms, labels, rate = CASES[case]
    batches = water_batches(real_data("water/data_0"))
    mean_energy = batches[0]["energy"][0] / len(batches[0]["atype"])
    model = make_model(
        version, ("O", "H"), WATER_DESCRIPTOR, {"neuron": [240] * 3}, energy_bias=(mean_energy, mean_energy)
    )
    sample = {key: np.concatenate([batch[key] for batch in batches]) for key in ("coord", "box")}
    types = np.stack([batch["atype"] for batch in batches])
    model.atomic_model.descriptor.compute_input_stats([{**sample, "atype": types, "natoms": None}])
    if version == 1:
        _, deviation = model.atomic_model.descriptor.get_stat_mean_and_stddev()
        model.atomic_model.descriptor.set_stat_mean_and_stddev(0 * deviation, deviation)
    kept = {"coord", "atype", "box", *labels}
    batches = [{k: v for k, v in batch.items() if k in kept} for batch in batches]
    rows, _ = deepmd_training(model.serialize(), batches, terms, rate, STEPS)
    ours = train_with_dpax(model.serialize(), batches, terms, rate, block_size=8)
    np.testing.assert_allclose(ours.losses, [row["loss"] for row in rows], rtol=1e-6)
    print(case, *(f"{loss:.6g}" for loss in ours.losses))


def leaves(model: dict):
    """Names and arrays of the weights in a serialised model."""
    for path, leaf in jax.tree_util.tree_leaves_with_path(model):
        if isinstance(leaf, np.ndarray) and leaf.dtype.kind == "f":
            yield jax.tree_util.keystr(path, simple=True, separator="/"), leaf
