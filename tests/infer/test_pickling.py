"""Potentials, calculators and atoms that carry them go to other processes and compute the same there."""

import copy
import multiprocessing
import pickle
import uuid
from dataclasses import replace

import jax
import numpy as np
import pytest

from dpax import Calculator, Potential
from dpax.deepmd.model_dictionary import read_model
from dpax.descriptor import compression
from dpax.infer.parcel import Parcel
from dpax.infer.potential import _unpickled
from dpax.model.energy_model import EnergyModel
from dpax.nn.arrays import placed
from infer.support import OPTIONS, water
from infer.workers import describe, energy
from model.support import tiny_model
from oracle.deepmd_model import make_model


def arrived(potential: Potential) -> Potential:
    """The potential as another process gets it: here it would find itself."""
    return _unpickled(uuid.uuid4().hex, pickle.loads(pickle.dumps(parcel_of(potential))))


def parcel_of(potential: Potential) -> Parcel:
    return potential.__reduce__()[1][1]


@pytest.fixture(scope="module")
def potential() -> Potential:
    return Potential(tiny_model(**OPTIONS), {"step": 7}, block_size=8)


def compressed() -> EnergyModel:
    model = tiny_model(version=2, attn_layer=0)
    return model.with_arrays(
        placed(compression.compressed(model.spec.descriptor, model.descriptor, 0.5), "descriptor")
    )


def isolated() -> EnergyModel:
    model = tiny_model()
    return replace(model, spec=model.spec.changed(isolated_energies=[1 / 3, None])).with_bias([0.1, 0.7])


MODELS = {
    "float32": lambda: tiny_model(precision="float32"),
    "bfloat16": lambda: tiny_model(precision="bfloat16"),
    "version 2": lambda: tiny_model(version=2),
    "compressed": compressed,
    "isolated energies": isolated,
    "parameters": lambda: read_model(
        make_model(2, fitting_options={"numb_fparam": 1, "numb_aparam": 1}).serialize()
    ),
}


@pytest.mark.parametrize("kind", MODELS)
def test_every_bit_of_a_model_arrives(kind):
    """The same constants and arrays: so the same programs, and the same results."""
    sent = Potential(MODELS[kind]())
    got = arrived(sent)
    assert got.model.spec == sent.model.spec
    assert got.model.needs_x64 == sent.model.needs_x64
    assert_same(got.model, sent.model)


def assert_same(got: EnergyModel, sent: EnergyModel) -> None:
    assert got.spec == sent.spec
    assert got.bias == sent.bias
    assert list(got.arrays) == list(sent.arrays)
    for name, array in sent.arrays.items():
        assert got.arrays[name].dtype == array.dtype
        np.testing.assert_array_equal(np.asarray(got.arrays[name]), np.asarray(array))


@pytest.mark.parametrize("x64", [True, False])
def test_results_are_the_same_to_the_last_bit(potential, x64):
    """Whatever JAX's mode is where it arrives, in arrays of the sizes that it had before it left."""
    potential.capacities = {"capacities": [[30, 32]]}
    with jax.enable_x64(x64):
        got = arrived(potential)
        found, expected = got.evaluate(water(5)), potential.evaluate(water(5))
    assert got.capacities == potential.capacities == {"capacities": [[30, 32]]}
    assert (got.provenance, got._block_size) == ({"step": 7}, 8)
    assert found.energy == expected.energy
    np.testing.assert_array_equal(found.forces, expected.forces)
    np.testing.assert_array_equal(found.virial, expected.virial)


def test_what_arrives_goes_on_unopened(potential):
    """A process that only passes a potential on does not build the model."""
    got = arrived(potential)
    again = parcel_of(got)
    assert not {"model", "computation", "preparation"} & set(vars(got))
    assert_same(again.model, parcel_of(potential).model)


def test_it_is_known_where_it_comes_back(potential):
    """All copies in a process are one potential, which compiles its programs once."""
    assert pickle.loads(pickle.dumps(potential)) is potential
    assert copy.deepcopy(potential) is potential
    assert copy.copy(potential) is potential
    name = uuid.uuid4().hex
    first, second = (_unpickled(name, parcel_of(potential)) for _ in range(2))
    assert first is second


def test_chosen_devices_are_found_by_number():
    model, (first, second) = tiny_model(**OPTIONS), jax.devices()
    assert list(arrived(Potential(model)).computation.mesh.devices) == [first, second]
    assert list(arrived(Potential(model, devices=[second])).computation.mesh.devices) == [second]
    parcel = parcel_of(Potential(model))
    for chosen, expected in (
        (("cpu", (5,)), [first]),
        (("cpu", (1, 2, 3)), [first, second]),
        (("a chip of old", (0,)), [first]),
    ):
        assert parcel._replace(devices=chosen).local_devices() == expected


def test_array_sizes_fit_another_number_of_devices(potential):
    one = Potential(potential.model, devices=jax.devices()[:1])
    one.capacities = {"capacities": [[25, 56]]}
    got = _unpickled(uuid.uuid4().hex, parcel_of(one)._replace(devices=None, capacities=one.capacities))
    assert got.n_devices == 2
    assert got.capacities == {"capacities": [[26, 56]]}


def test_calculators_keep_their_results(potential, monkeypatch):
    atoms = water()
    atoms.calc = Calculator(potential)
    expected = atoms.get_potential_energy()
    for twin in (pickle.loads(pickle.dumps(atoms)), copy.deepcopy(atoms)):
        assert twin.calc is not atoms.calc
        with monkeypatch.context() as patch:
            patch.setattr(potential, "evaluate", None)
            assert twin.get_potential_energy() == expected
        twin.rattle(0.05, seed=3)
        assert twin.get_potential_energy() == potential.evaluate(twin).energy != expected
    assert atoms.get_potential_energy() == expected


def test_cloudpickle(potential):
    """What dask and joblib's processes use."""
    cloudpickle = pytest.importorskip("cloudpickle")
    function = cloudpickle.loads(cloudpickle.dumps(lambda atoms: potential.evaluate(atoms).energy))
    assert function(water()) == potential.evaluate(water()).energy


def test_spawned_workers(potential):
    """Every task brings the calculator; a worker makes one potential of them, when it computes."""
    structures = [water(seed) for seed in range(4)]
    for structure in structures:
        structure.calc = Calculator(potential)
    with multiprocessing.get_context("spawn").Pool(1) as pool:
        answers = pool.map_async(describe, structures, chunksize=1).get(300)
    for structure, (found, had_started, programs) in zip(structures, answers, strict=True):
        assert found == pytest.approx(energy(structure), rel=1e-12)
        assert not had_started
        assert programs == 1
