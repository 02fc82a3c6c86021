"""What a training takes over from a trained model, and what it leaves alone."""

from dataclasses import replace

import ase
import jax.numpy as jnp
import numpy as np
import pytest

from dpax.deepmd.model_dictionary import model_dictionary, read_model
from dpax.descriptor import initial as descriptor_arrays
from dpax.descriptor.compression import compressed
from dpax.descriptor.embedding import type_embedding
from dpax.errors import InputError
from dpax.infer import Potential
from dpax.model import fitting as fitting_arrays
from dpax.model.energy_model import EnergyModel, initial_model, spec_of
from dpax.model.fitting import fit, prepare_fitting
from dpax.nn.arrays import placed
from dpax.train.origin import Origin, architecture, started, with_architecture
from dpax.train.settings import InputSettings
from oracle.deepmd_model import structures

from .support import content

ELEMENTS = {
    "subset": (["O", "C", "H"], ["O", "H"]),
    "superset": (["H", "O"], ["C", "O", "N", "H"]),
    "permutation": (["H", "O"], ["O", "H"]),
}
OPTIONS = {
    "concat": {"type": "se_atten", "set_davg_zero": True, "smooth_type_embedding": True},
    "strip": {"type": "se_atten_v2"},
    "electrons": {"type": "se_atten_v2", "use_econf_tebd": True},
}
STRIP = OPTIONS["strip"]  # its embedding has a residual where it is as wide as there are types


def small(type_map, options=None, **changes) -> InputSettings:
    """The tests' input for other types and descriptor options."""
    made = content({"model.type_map": type_map, **changes})
    made["model"]["descriptor"] |= options or {}
    return InputSettings.model_validate(made)


def random_model(type_map, options=None, seed=1) -> EnergyModel:
    """A model with random numbers everywhere, as a trained one has: nothing stands at its initial value."""
    model = initial_model(spec_of(small(type_map, options).model), seed=seed)
    rng = np.random.default_rng(seed)
    moved = {name: model.arrays[name] for name in sorted(model.trained)}
    moved = {name: array + 0.1 * rng.normal(size=array.shape) for name, array in moved.items()}
    n, descriptor = len(type_map), model.spec.descriptor
    mean = np.zeros((n, 4))
    mean[:, 0] = rng.uniform(0.02, 0.2, n)  # left at zero where set_davg_zero asks for it
    deviation = rng.uniform(0.1, 0.4, (n, 2))[:, [0, 1, 1, 1]]
    model = model.with_arrays(moved)
    arrays = descriptor_arrays.with_statistics(descriptor, model.descriptor, mean, deviation)
    return model.with_arrays(placed(arrays, "descriptor")).with_bias(rng.normal(-50, 10, n))


def silent(text: str) -> None:
    """Hears what the user would be told."""


@pytest.mark.parametrize(
    ("case", "options"),
    [(case, "strip") for case in ELEMENTS] + [("superset", "concat"), ("superset", "electrons")],
)
def test_energies_of_known_elements_stay(case, options):
    old, new = ELEMENTS[case]
    trained = random_model(old, OPTIONS[options])
    model = started(random_model(new, OPTIONS[options], 2), Origin(trained, "finetune"), silent)
    assert model.type_map == tuple(new)
    before, after = Potential(trained), Potential(model)
    coord, types, cell = structures()["triclinic"]
    atoms = ase.Atoms(np.array(["O", "H"])[types], coord, cell=cell, pbc=True)
    one, other = before.evaluate(atoms), after.evaluate(atoms)
    np.testing.assert_allclose(other.energies, one.energies, rtol=1e-12)
    np.testing.assert_allclose(other.forces, one.forces, rtol=1e-10, atol=1e-12)
    np.testing.assert_allclose(other.virial, one.virial, rtol=1e-10, atol=1e-12)


def embeddings(model: EnergyModel) -> dict[str, np.ndarray]:
    """The vector of each element."""
    rows = np.asarray(type_embedding(model.spec.descriptor, model.descriptor))
    return dict(zip(model.type_map, rows, strict=False))


def statistics(model: EnergyModel) -> dict[str, np.ndarray]:
    """Mean and deviation of each element."""
    mean, deviation = (model.descriptor[name][:, 0] for name in ("mean", "stddev"))
    return dict(zip(model.type_map, np.hstack([mean, deviation]), strict=True))


def test_new_elements_have_statistics_of_the_data_and_no_bias_yet():
    told = []
    trained, fresh = random_model(["H", "O"], STRIP), random_model(["C", "O", "N", "H"], STRIP, 2)
    model = started(fresh, Origin(trained, "finetune"), told.append)
    for element in "CONH":
        source = trained if element in "OH" else fresh
        np.testing.assert_array_equal(statistics(model)[element], statistics(source)[element])
        np.testing.assert_allclose(embeddings(model)[element], embeddings(source)[element], rtol=1e-14)
    assert model.bias == (0.0, trained.bias[1], 0.0, trained.bias[0])
    assert told[0].startswith("C, N: not in the trained model, which knows H O;")


def test_elements_the_trained_model_lacks_are_named_where_they_cannot_be():
    trained = random_model(["H", "O"], STRIP)
    with pytest.raises(InputError, match=r"does not know C, N, only H O; leave them out of model\.type_map"):
        started(random_model(["C", "O", "N"], STRIP), Origin(trained, "init-model"), silent)
    with pytest.raises(InputError, match="knows none of C, N, only H O"):
        started(random_model(["C", "N"], STRIP), Origin(trained, "finetune"), silent)


def test_a_model_whose_types_have_no_names_is_refused():
    trained = random_model(["H", "O"], STRIP)
    trained = replace(trained, spec=trained.spec.changed(type_map=()))
    with pytest.raises(InputError, match=r"have no names \(its type_map is empty\)"):
        started(random_model(["H", "O"], STRIP), Origin(trained, "finetune"), silent)


def test_another_architecture_is_refused_by_its_keys():
    trained = random_model(["O", "H"], STRIP)
    other = random_model(["O", "H"], STRIP | {"rcut": 3.0, "attn_layer": 0})
    with pytest.raises(InputError) as error:
        started(other, Origin(trained, "finetune"), silent)
    text = str(error.value)
    assert "descriptor.rcut is 3.0 and was 3.5; descriptor.attn_layer is 0 and was 1." in text
    assert "--use-pretrain-script" in text


def test_a_fresh_fitting_net_may_have_another_shape():
    trained = random_model(["O", "H"], STRIP)
    settings = small(["O", "H"], STRIP, **{"model.fitting_net.neuron": [6, 6]})
    fresh = initial_model(spec_of(settings.model), seed=3).with_bias([-1.0, -2.0])
    with pytest.raises(InputError, match=r"fitting_net\.neuron is \[6, 6\] and was \[8\]"):
        started(fresh, Origin(trained, "finetune"), silent)
    model = started(fresh, Origin(trained, "finetune", random_fitting=True), silent)
    assert model.bias == fresh.bias
    assert model.spec.fitting == fresh.spec.fitting
    assert model.fitting.keys() == fresh.fitting.keys()
    for name, array in fresh.fitting.items():
        np.testing.assert_array_equal(model.fitting[name], array)
    np.testing.assert_array_equal(embeddings(model)["H"], embeddings(trained)["H"])


def test_a_compressed_model_is_refused():
    trained = random_model(["O", "H"], STRIP)
    with pytest.warns(UserWarning, match="only the type embedding is compressed"):
        tables = compressed(trained.spec.descriptor, trained.descriptor, 0.8)
    trained = trained.with_arrays(placed(tables, "descriptor"))
    with pytest.raises(InputError, match="compressed; start from the model before its compression"):
        started(random_model(["O", "H"], STRIP), Origin(trained, "finetune"), silent)


def test_statistics_that_differ_between_directions_are_refused():
    data = model_dictionary(random_model(["O", "H"], STRIP))
    data["descriptor"]["@variables"]["dstd"] *= np.array([1.0, 1.0, 2.0, 3.0])
    trained = read_model(data)
    with pytest.raises(InputError, match=r"\(mean, stddev\) differ between directions"):
        started(random_model(["O", "H"], STRIP), Origin(trained, "init-model"), silent)


def test_precision_and_what_is_frozen_are_those_of_the_input():
    trained = random_model(["O", "H"], STRIP)
    single = small(["O", "H"], STRIP | {"precision": "float32", "trainable": False})
    model = started(initial_model(spec_of(single.model), seed=1), Origin(trained, "init-model"), silent)
    assert model.dtype == np.float32
    assert {array.dtype for array in model.descriptor.values()} == {np.dtype(np.float32)}
    assert {name.partition("/")[0] for name in model.trained} == {"fitting"}
    np.testing.assert_allclose(embeddings(model)["H"], embeddings(trained)["H"], rtol=1e-6)


@pytest.mark.parametrize("options", OPTIONS)
def test_an_architecture_is_read_back_as_the_settings_it_came_from(options):
    settings = small(["O", "H"], OPTIONS[options] | {"exclude_types": [[0, 1]]})
    model = initial_model(spec_of(settings.model), seed=1)
    bare = {"model": {"type_map": ["C", "H", "O"], "descriptor": {"trainable": False}}}
    read = with_architecture(
        {**content(), **bare},
        architecture(model, ["C", "H", "O"]),
    )
    found, expected = InputSettings.model_validate(read).resolved(), settings.resolved()
    expected["model"]["descriptor"] |= {"trainable": False, "exclude_types": [[2, 1]]}
    assert found["model"]["descriptor"] == expected["model"]["descriptor"]
    assert found["model"]["fitting_net"] == expected["model"]["fitting_net"]


def test_a_head_of_a_multi_task_model_becomes_a_model_of_one_task():
    trained = random_model(["O", "H"], STRIP)
    rng = np.random.default_rng(0)
    head = trained.spec.fitting.changed(dim_case_embd=3)
    arrays = fitting_arrays.initial_arrays(head, seed=4) | {"case_embd": np.array([0.0, 1.0, 0.0])}
    trained = replace(trained, spec=trained.spec.changed(fitting=head))
    trained = trained.with_arrays(placed(arrays, "fitting"))
    model = started(random_model(["O", "H"], STRIP, 2), Origin(trained, "finetune"), silent)
    assert not model.spec.fitting.dim_case_embd
    descriptors, nothing = jnp.asarray(rng.normal(size=(5, head.descriptor_width))), jnp.zeros((5, 0))
    one, other = (
        fit(prepare_fitting(which.spec.fitting, which.fitting), "tanh", descriptors, nothing)
        for which in (trained, model)
    )
    np.testing.assert_allclose(one, other, rtol=1e-12)
