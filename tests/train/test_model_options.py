"""The options of the model in a training: what is asked holds in the trained model."""

import ase
import numpy as np
import pytest

from cli.commands import dpax
from dpax import Potential, load
from dpax.deepmd.model_dictionary import read_model
from dpax.deepmd.script import input_of
from dpax.errors import InputError
from dpax.model.energy_model import initial_model, spec_of
from dpax.train import train
from dpax.train.origin import Origin, started
from dpax.train.setup import data_statistics, open_data
from oracle.deepmd_model import make_model, write_pair_table
from oracle.deepmd_statistics import sample_directories

from .support import settings, write_toy
from .test_restart import Stops, assert_same_run, crash

OPTIONS = {
    "model.descriptor.lmax": 2,
    "model.fitting_net.numb_fparam": 2,
    "model.fitting_net.numb_aparam": 1,
    "model.fitting_net.default_fparam": [0.5, -0.5],
    "model.fitting_net.atom_ener": [-5.25, None],
    "model.preset_out_bias": {"energy": [None, -2.5]},
    "model.pair_exclude_types": [[1, 1]],
    "model.data_stat_protect": 0.3,
    "model.use_srtab": "table.txt",
    "model.sw_rmin": 0.5,
    "model.sw_rmax": 1.9,
    "training.numb_steps": 3,
    "training.save_freq": 2,
    "training.validation_data": {"systems": "small", "batch_size": 2},
}
SYSTEMS = ("small", "large")


@pytest.fixture(scope="module")
def base(tmp_path_factory):
    folder = tmp_path_factory.mktemp("data")
    rng = np.random.default_rng(1)
    for name, types, frames in (("small", (0, 1, 1), 6), ("large", (0, 1, 1, 0, 1), 5)):
        write_toy(folder / name, types, frames, len(types))
        np.save(folder / name / "set.000" / "aparam.npy", rng.normal(2.0, 0.1, (frames, len(types))))
    np.save(folder / "small" / "set.000" / "fparam.npy", rng.normal(3.0, [2.0, 0.0], (6, 2)))
    write_pair_table(folder / "table.txt")
    return folder


@pytest.fixture(scope="module")
def trained(base):
    train(settings(OPTIONS), base / "run", base=base)
    return load(base / "run" / "model.dpax")


def alone(element, fparam):
    atoms = ase.Atoms(element)
    atoms.info["fparam"], atoms.arrays["aparam"] = fparam, np.array([[fparam[0] + 1.0]])
    return atoms


def test_isolated_atoms_have_the_energy_that_was_asked(trained):
    for fparam in ([0.1, 0.2], [5.0, -3.0]):
        assert trained.evaluate(alone("O", fparam)).energy == pytest.approx(-5.25, abs=1e-12)
    energies = [trained.evaluate(alone("H", fparam)).energy for fparam in ([0.1, 0.2], [5.0, -3.0])]
    assert energies[0] != energies[1]


def test_what_is_preset_stays(trained):
    assert trained.model.bias == (-5.25, -2.5)
    assert trained.model.spec.fixed_bias == (-5.25, -2.5)


def test_gains_of_the_degrees_are_trained(base, trained):
    one = settings(OPTIONS | {"training.numb_steps": 1})
    train(one, base / "one step", base=base)
    gains = [
        potential.model.arrays["descriptor/degree_gains"]
        for potential in (load(base / "one step" / "model.dpax"), trained)
    ]
    assert np.all(np.asarray(gains[0]) != np.asarray(gains[1]))


def test_a_resumed_training_gives_the_same(base, trained):
    with pytest.raises(KeyboardInterrupt):
        train(settings(OPTIONS), base / "stopped", base=base, reporter=Stops(2, crash))
    train(settings(OPTIONS), base / "stopped", base=base, restart=True)
    assert_same_run(base / "stopped", base / "run", 3)


@pytest.mark.parametrize("how", ["init_model", "finetune"])
def test_it_can_be_trained_further(base, trained, tmp_path, how):
    train(settings(OPTIONS), tmp_path / "run", base=base, **{how: trained.model})
    further = load(tmp_path / "run" / "model.dpax")
    assert further.evaluate(alone("O", [0.1, 0.2])).energy == pytest.approx(-5.25, abs=1e-12)
    assert further.model.spec.short_range == trained.model.spec.short_range


def test_it_can_be_inspected(base, trained):
    shown = dpax("inspect", base / "run" / "model.dpax").stdout
    for line in ("lmax: 2", "numb_fparam: 2", "sw_rmin: 0.5", "sw_rmax: 1.9", "degree gains: 1"):
        assert line in shown.splitlines()


def test_parameters_have_the_statistics_of_deepmd(base):
    changes = OPTIONS | {
        "model.data_stat_protect": 1e-2,
        "training.training_data": {"systems": list(SYSTEMS)},
    }
    changes["training.training_data"]["batch_size"] = [6, 5]
    chosen = settings(changes | {"model.data_stat_nbatch": 1})
    found = data_statistics(chosen, open_data(chosen.training.training_data, ["O", "H"], base))
    samples = sample_directories(
        [base / name for name in SYSTEMS], ["O", "H"], batch_size=[6, 5], n_batches=1
    )
    for sample, name, default in zip(samples, SYSTEMS, (None, [0.5, -0.5]), strict=True):
        parts = {
            part: np.load(base / name / "set.000" / f"{part}.npy")
            for part in ("fparam", "aparam")
            if default is None or part == "aparam"
        }
        sample |= parts | {f"find_{part}": np.bool_(True) for part in parts}
        if default is not None:
            sample |= {"find_fparam": np.bool_(False), "fparam": np.zeros((5, 2))}
    options = {"numb_fparam": 2, "numb_aparam": 1, "default_fparam": [0.5, -0.5]}
    model = make_model(2, ["O", "H"], None, options).atomic_model
    model.compute_or_load_stat(lambda: samples)
    for name, columns in (("fparam", slice(0, 2)), ("aparam", slice(2, 3))):
        np.testing.assert_allclose(
            found.parameter_mean[columns], model.fitting_net[f"{name}_avg"], rtol=1e-12
        )
        inverse = 1.0 / found.parameter_deviation[columns]
        np.testing.assert_allclose(inverse, model.fitting_net[f"{name}_inv_std"], rtol=1e-9)


def test_small_deviations_are_protected(trained):
    fitting = trained.model.fitting
    np.testing.assert_allclose(fitting["aparam_inv_std"], 1 / 0.3)
    assert fitting["fparam_inv_std"][0] < 1.0


def test_excluded_pairs_and_atoms_in_the_statistics(base):
    """As DeePMD-kit: excluded neighbours are zeros, excluded atoms have no part in the fit of the bias."""
    from oracle.deepmd_statistics import deepmd_statistics

    options = {"pair_exclude_types": [(1, 1)], "atom_exclude_types": [0]}
    changes = {f"model.{key}": value for key, value in options.items()} | {
        "model.descriptor.exclude_types": [[0, 0]],
        "training.training_data": {"systems": list(SYSTEMS), "batch_size": [6, 5]},
        "model.data_stat_nbatch": 1,
    }
    chosen = settings(changes)
    found = data_statistics(chosen, open_data(chosen.training.training_data, ["O", "H"], base))
    samples = sample_directories(
        [base / name for name in SYSTEMS], ["O", "H"], batch_size=[6, 5], n_batches=1
    )
    expected = deepmd_statistics(
        samples,
        ["O", "H"],
        2,
        model_options=options,
        sel=20,
        rcut=3.5,
        rcut_smth=0.5,
        exclude_types=[[0, 0]],
    )
    np.testing.assert_allclose(found.mean, expected.mean[:, 0], rtol=1e-6)
    np.testing.assert_allclose(found.stddev, expected.deviation[:, 0], rtol=1e-6)
    np.testing.assert_allclose(found.bias, expected.energy_bias, rtol=1e-6, atol=1e-9)
    assert found.bias[0] == 0.0


def test_a_frame_without_its_parameters_is_named(base, tmp_path):
    changes = OPTIONS | {"model.fitting_net.default_fparam": None}
    with pytest.raises(InputError, match=r"large.* has no fparam, of which the model takes 2 for each frame"):
        train(settings(changes), tmp_path / "run", base=base)
    assert not (tmp_path / "run").exists()


def test_a_table_that_is_not_there_is_named(base, tmp_path):
    with pytest.raises(InputError, match=r"no\.txt: the short-range table \(use_srtab\) cannot be read"):
        train(settings(OPTIONS | {"model.use_srtab": "no.txt"}), tmp_path / "run", base=base)


def test_jumps_are_warned_of(base, tmp_path):
    reporter = Stops(None, None)
    changes = {"model.descriptor.type": "se_atten", "training.numb_steps": 1}
    train(settings(changes), tmp_path / "run", base=base, reporter=reporter)
    assert any("the energy jumps where an atom crosses the cutoff" in text for text in reporter.messages)


def test_a_model_that_depends_on_the_order_of_atoms_is_refused():
    changes = {"model.descriptor.type": "se_atten", "model.descriptor.set_davg_zero": False}
    with pytest.raises(InputError, match=r"depends on the order of the atoms.*dpax\.order_dependent"):
        settings(changes)
    assert settings(changes | {"dpax.order_dependent": True}).model.descriptor.order_dependent
    assert not settings(
        changes | {"model.descriptor.tebd_input_mode": "strip"}
    ).model.descriptor.order_dependent


def test_observed_elements_are_on_record(trained):
    assert trained.provenance["observed_type"] == ["O", "H"]
    assert 0.1 < trained.provenance["min_nbor_dist"] < 3.0
    assert input_of(trained.model, trained.provenance)["info"] == {"observed_type": ["O", "H"]}


@pytest.mark.parametrize("given", ["zeros", "isolated"])
def test_energies_outlive_a_start_without_atom_ener(base, given):
    """The next model is told no energies of isolated atoms: what they took off goes into its bias."""
    asked = {"model.fitting_net.atom_ener": [-5.25, None], "training.numb_steps": 1}
    if given == "isolated":
        train(settings(asked), base / "asked", base=base)
        trained = load(base / "asked" / "model.dpax").model
    else:
        options = {"sel": 20, "rcut": 3.5, "neuron": [4, 8], "axis_neuron": 2, "tebd_dim": 4, "attn": 8}
        fitting = {"neuron": [8], "atom_ener": [1.0, None]}
        reference = make_model(2, ["O", "H"], options | {"attn_layer": 1}, fitting, random_statistics=True)
        trained = read_model(reference.serialize())
    fresh = initial_model(spec_of(settings().model), seed=1)
    model = started(fresh, Origin(trained, "init-model"), print)
    assert not model.spec.relative_types
    atoms = ase.Atoms("OHH", positions=[[0, 0, 0], [0, 0, 1.0], [0.9, 0, -0.2]])
    expected, found = (Potential(one).evaluate(atoms) for one in (trained, model))
    np.testing.assert_allclose(found.energies, expected.energies, rtol=1e-12)
