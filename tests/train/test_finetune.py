"""Trainings that start from a trained model: what moves, what does not, and that they can be interrupted."""

import json

import jax
import numpy as np
import pytest

from dpax.data import Errors, open_systems
from dpax.deepmd.model_dictionary import model_dictionary
from dpax.errors import InputError
from dpax.infer import Potential
from dpax.interfaces.model_files import load, open_model
from dpax.model.blocks import make_mesh
from dpax.train import train
from dpax.train.bias import adjusted_bias
from dpax.train.origin import Origin, started
from dpax.train.settings import read_settings
from oracle.deepmd_model import evaluate, make_model

from deepmd.dpmodel.utils.serialization import save_dp_model  # isort: skip

from .support import INPUT, settings, write_toy
from .test_origin import random_model
from .test_restart import Stops, assert_same_run, crash, records_of, state_of

# Of the trained model the descriptor and the hidden layer stay; a decay would show where that is not so.
FROZEN = {
    "model.descriptor.trainable": False,
    "model.fitting_net.trainable": [False, True],
    "optimizer": {"type": "AdamW", "weight_decay": 0.5},
    "training.training_data": {"systems": ["small", "large"], "batch_size": [2, 1]},
    "training.validation_data": {"systems": "small", "batch_size": 2},
}


def trained_model():
    return random_model(["H", "C", "O"], {"type": "se_atten_v2"}, seed=8)


def taken_over(how):
    """The trained model with the types of the data."""
    fresh = random_model(["O", "H"], {"type": "se_atten_v2"}, seed=9)
    return started(fresh, Origin(trained_model(), how), print)


@pytest.fixture(scope="module")
def base(tmp_path_factory):
    folder = tmp_path_factory.mktemp("data")
    write_toy(folder / "small", (0, 1, 1), 6, 0)
    write_toy(folder / "large", (0, 1, 1, 0, 1), 5, 1)
    return folder


@pytest.fixture(scope="module")
def tuned(base):
    """A fine-tuning from its beginning to its end, and what it said."""
    reporter = Stops(None, None)
    result = train(settings(FROZEN), base / "tuned", base=base, finetune=trained_model(), reporter=reporter)
    assert result.step == 8
    return base / "tuned", reporter.messages


def arrays_of(model) -> dict[str, np.ndarray]:
    leaves = jax.tree_util.tree_leaves_with_path(model_dictionary(model))
    named = {jax.tree_util.keystr(path, simple=True, separator="/"): leaf for path, leaf in leaves}
    return {name: leaf for name, leaf in named.items() if isinstance(leaf, np.ndarray)}


def test_frozen_parts_are_bit_identical_and_the_rest_moves(tuned):
    taken = taken_over("finetune")
    before, after = arrays_of(taken), arrays_of(load(tuned[0] / "model.dpax").model)
    assert before.keys() == after.keys()
    moved = {name for name, array in before.items() if np.any(array != after[name])}
    last = "fitting/nets/networks/0/layers/1/@variables"
    assert moved == {f"{last}/w", f"{last}/b", "@variables/out_bias"}


def test_layer_normalisation_alone_can_be_frozen(base, tmp_path):
    changes = {"model.descriptor.trainable_ln": False, "training.numb_steps": 2} | {
        key: FROZEN[key] for key in ("optimizer", "training.training_data")
    }
    train(settings(changes), tmp_path / "run", base=base, init_model=trained_model())
    before = arrays_of(taken_over("init-model"))
    after = arrays_of(load(tmp_path / "run" / "model.dpax").model)
    for name, array in before.items():
        stays = "layer_norm" in name or name.endswith(("davg", "dstd", "out_bias", "out_std", "bias_atom_e"))
        assert np.array_equal(array, after[name]) == stays, name


def test_the_energy_bias_is_adjusted_to_the_data(base, tuned):
    run, messages = tuned
    start = taken_over("finetune")
    systems = open_systems([str(base / "small"), str(base / "large")], ["O", "H"])
    frames = [system.frame(index) for system in systems for index in range(len(system))]
    expected = adjusted_bias(start, frames, "change", make_mesh())
    np.testing.assert_allclose(load(run / "model.dpax").model.bias, expected, rtol=1e-12)
    assert max(np.abs(expected - np.array(start.bias))) > 1.0
    assert [text for text in messages if text.startswith("energy bias in eV: O ")]


def test_a_run_says_where_it_started(tuned):
    record = {"how": "finetune", "model": "", "branch": None, "use_pretrain_script": False}
    assert json.loads((tuned[0] / "input.json").read_text())["dpax"]["started_from"] == record
    assert load(tuned[0] / "model.dpax").provenance["input"]["dpax"]["started_from"] == record


@pytest.mark.parametrize("step", [2, 7])
def test_a_restart_goes_on_without_the_trained_model(base, tuned, tmp_path, step):
    """Before the first checkpoint of the training, and after it."""
    with pytest.raises(KeyboardInterrupt):
        train(settings(FROZEN), tmp_path, base=base, finetune=trained_model(), reporter=Stops(step, crash))
    assert train(settings(FROZEN), tmp_path, base=base, restart=True).step == 8
    assert_same_run(tmp_path, tuned[0], 8)


def test_a_run_of_a_trained_model_cannot_be_repeated_without_it(base, tuned, tmp_path):
    recorded = read_settings(tuned[0] / "input.json")
    with pytest.raises(InputError, match="give that model again with --finetune"):
        train(recorded, tmp_path / "again", base=base)
    with pytest.raises(InputError, match="restart and finetune each set the starting model"):
        train(recorded, tuned[0], base=base, restart=True, finetune=trained_model())
    assert not (tmp_path / "again").exists()


def test_a_model_of_deepmd_starts_with_its_losses(base, tmp_path):
    """Its energies, without any adjustment: the first line of the learning curve is of its own weights."""
    model = INPUT["model"]
    options = {key: value for key, value in model["descriptor"].items() if key != "type"}
    theirs = make_model(2, ["H", "O"], options, model["fitting_net"], random_statistics=True)
    path = tmp_path / "model.dp"
    save_dp_model(str(path), {"model": theirs.serialize(), "model_def_script": {}})
    model, _ = open_model(path)
    changes = {
        "training.training_data": {"systems": "small", "batch_size": 6},
        "training.numb_steps": 1,
    }
    train(settings(changes), tmp_path / "run", base=base, init_model=model)
    [system] = open_systems([str(base / "small")], ["H", "O"])
    errors = [
        (evaluate(theirs, f.positions, f.types, f.cell)[0] - f.energy) / len(f.types)
        for f in map(system.frame, range(6))
    ]
    first = records_of(tmp_path / "run")[0]
    assert first["rmse_e_trn"] == pytest.approx(np.sqrt(np.mean(np.square(errors))), rel=1e-9)
    forces = errors_on(Potential(model), base / "small").rmse["forces"]
    assert first["rmse_f_trn"] == pytest.approx(forces, rel=1e-9)
    arrays, meta = state_of(tmp_path / "run", 0)
    assert meta["bias"] == list(theirs.get_out_bias().reshape(-1)[::-1])
    assert not any(np.any(array) for name, array in arrays.items() if name.startswith("optimizer"))


def part_of(source, target, frames):
    """Some frames of a system in DeePMD-kit's layout, as a system of their own."""
    (target / "set.000").mkdir(parents=True)
    for name in ("type.raw", "type_map.raw"):
        (target / name).write_text((source / name).read_text())
    for path in (source / "set.000").glob("*.npy"):
        np.save(target / "set.000" / path.name, np.load(path)[frames])


@pytest.mark.slow
def test_fine_tuning_beats_training_from_scratch(real_data, tmp_path):
    """On 20 frames of water, after a short training on others: by the forces, the first that is learned."""
    water = real_data("water")
    part_of(water / "data_3", tmp_path / "few", slice(0, 20))
    part_of(water / "data_3", tmp_path / "unseen", slice(40, 60))
    descriptor = {"type": "se_atten_v2", "rcut": 5.0, "sel": 80, "neuron": [8, 16, 32], "axis_neuron": 8}
    attention = {"attn": 32, "attn_layer": 1, "precision": "float32"}
    changes = {
        "model.descriptor": descriptor | attention,
        "model.fitting_net": {"neuron": [60, 60], "precision": "float32"},
        "loss": {},
        "training.disp_freq": 100,
        "training.save_freq": 1000,
    }

    def trained(name, data, steps, start_lr, finetune=None):
        rate = {"start_lr": start_lr, "stop_lr_ratio": 0.05, "decay_steps": 20}
        section = {"systems": str(data), "batch_size": 1}
        run = {"learning_rate": rate, "training.training_data": section, "training.numb_steps": steps}
        chosen = settings(changes | run)
        train(chosen, tmp_path / name, finetune=finetune)
        return load(tmp_path / name / "model.dpax")

    first = trained("first", water / "data_0", 400, 2e-3)
    potentials = {
        "first": first,
        "scratch": trained("scratch", tmp_path / "few", 100, 2e-3),
        "tuned": trained("tuned", tmp_path / "few", 100, 1e-4, first.model),
    }
    unseen = tmp_path / "unseen"
    forces = {name: errors_on(potential, unseen).rmse["forces"] for name, potential in potentials.items()}
    assert forces["tuned"] < 0.5 * forces["scratch"]
    assert forces["tuned"] < 1.05 * forces["first"]


def errors_on(potential, path) -> Errors:
    errors, [system] = Errors(), open_systems([str(path)], potential.type_map)
    frames = [system.frame(index) for index in range(len(system))]
    for frame, found in zip(frames, potential.evaluate(frames), strict=True):
        errors.update("energy", frame.energy, found.energy, len(frame.types))
        errors.update("forces", frame.forces, found.forces, len(frame.types))
    return errors
