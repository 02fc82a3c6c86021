"""What keys of the input file do: models are built as DeePMD-kit builds them from the same input.

What the numbers in a built model mean is shown by the parity tests of descriptor and model; here it is shown
that each key reaches them.
"""

import json
import warnings

import numpy as np
import pytest

from dpax.deepmd.model_dictionary import model_dictionary
from dpax.model.energy_model import initial_model, spec_of
from dpax.train.settings import InputSettings
from dpax.train.setup import fresh_model
from dpax.train.statistics import Statistics

pytest.importorskip("deepmd")

from deepmd.dpmodel.model.model import get_model
from deepmd.utils.argcheck import normalize

BASE = {
    "type": "se_atten",
    "sel": 20,
    "rcut": 4.0,
    "rcut_smth": 1.0,
    "neuron": [4, 8],
    "axis_neuron": 2,
    "attn": 6,
    "attn_layer": 1,
    "seed": 1,
}
INPUT = {
    "model": {"type_map": ["O", "H"], "descriptor": BASE, "fitting_net": {"neuron": [6, 6], "seed": 1}},
    "learning_rate": {"start_lr": 1e-3},
    "training": {"training_data": {"systems": "data"}, "numb_steps": 5},
}
STATISTICS = Statistics(
    mean=np.zeros((2, 4)),
    stddev=np.ones((2, 4)),
    bias=np.zeros(2),
    sel=20,
    max_neighbors=0,
    crowded="",
    parameter_mean=np.zeros(0),
    parameter_deviation=np.zeros(0),
    observed=[],
    min_distance=np.inf,
)
VALUES = [
    ("model.type_map", ["H", "O", "C"]),
    ("model.descriptor.sel", 24),
    ("model.descriptor.sel", [10, 16]),
    ("model.descriptor.rcut", 4.5),
    ("model.descriptor.rcut_smth", 0.5),
    ("model.descriptor.neuron", [8, 8]),
    ("model.descriptor.axis_neuron", 4),
    ("model.descriptor.lmax", 2),
    ("model.descriptor.activation_function", "gelu"),
    ("model.descriptor.resnet_dt", True),
    ("model.descriptor.type_one_side", True),
    ("model.descriptor.precision", "float32"),
    ("model.descriptor.exclude_types", [[0, 1]]),
    ("model.descriptor.env_protection", 0.1),
    ("model.descriptor.attn", 5),
    ("model.descriptor.attn_layer", 2),
    ("model.descriptor.attn_dotr", False),
    ("model.descriptor.smooth_type_embedding", True),
    ("model.descriptor.tebd_input_mode", "strip"),
    ("model.descriptor.stripped_type_embedding", True),
    ("model.descriptor.ln_eps", 1e-3),
    ("model.descriptor.tebd_dim", 4),
    ("model.descriptor.use_econf_tebd", True),
    ("model.descriptor.use_tebd_bias", True),
    ("model.descriptor.scaling_factor", 2.0),
    ("model.descriptor.normalize", False),
    ("model.descriptor.temperature", 1.5),
    ("model.descriptor.concat_output_tebd", False),
    ("model.fitting_net.neuron", [8]),
    ("model.fitting_net.activation_function", "silu"),
    ("model.fitting_net.resnet_dt", False),
    ("model.fitting_net.precision", "float32"),
    ("model.fitting_net.numb_fparam", 2),
    ("model.fitting_net.numb_aparam", 3),
    ("model.pair_exclude_types", [[0, 1]]),
    ("model.atom_exclude_types", [1]),
]


def with_value(path: str, value: object, content: dict = INPUT) -> dict:
    content = json.loads(json.dumps(content))
    *sections, key = path.split(".")
    place = content
    for section in sections:
        place = place.setdefault(section, {})
    place[key] = value
    return content


def built_here(content: dict) -> dict:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", DeprecationWarning)
        return model_dictionary(initial_model(spec_of(InputSettings.model_validate(content).model)))


def built_there(content: dict) -> dict:
    return get_model(normalize(json.loads(json.dumps(content)))["model"]).serialize()


def shape_of(tree: object) -> object:
    """A serialised model with every array replaced by its shape and precision.

    Only the sum of `sel` means anything, the default precision is float64, and DeePMD-kit notes the atoms
    that a model leaves out in the fitting net a second time.
    """
    if isinstance(tree, dict):
        shapes = {key: shape_of(value) for key, value in tree.items()}
        if tree.get("@class") == "Fitting":
            del shapes["exclude_types"]
        return shapes | ({"sel": sum(tree["sel"])} if "sel" in tree else {})
    if isinstance(tree, list | tuple):
        return [shape_of(value) for value in tree]
    if isinstance(tree, np.ndarray):
        return tree.shape, tree.dtype.name
    return "float64" if tree == "default" else tree


@pytest.mark.parametrize("version", ["se_atten", "se_atten_v2"])
def test_smallest_model_is_that_of_deepmd_kit(version):
    content = with_value("model.descriptor", {"type": version, "sel": 20})
    content["model"]["fitting_net"] = {}
    assert shape_of(built_here(content)) == shape_of(built_there(content))


@pytest.mark.parametrize(("path", "value"), VALUES, ids=[f"{path}={value}" for path, value in VALUES])
def test_model_of_the_input_is_that_of_deepmd_kit(path, value):
    content = with_value(path, value)
    found = shape_of(built_here(content))
    assert found == shape_of(built_there(content))
    assert found != shape_of(built_here(INPUT))


def test_mean_of_the_environment_is_left_at_zero_as_asked():
    strip = with_value("model.descriptor.tebd_input_mode", "strip")
    content = with_value("model.descriptor.set_davg_zero", False, strip)
    found = shape_of(built_here(content))
    assert found == shape_of(built_there(content))
    assert found != shape_of(built_here(strip))


@pytest.mark.parametrize("part", ["descriptor", "fitting_net"])
def test_seeds_decide_the_initial_weights(part):
    """In a training, whose own seed is that of parts without one."""

    def weights(seed: int | None, of_training: int = 5) -> np.ndarray:
        content = with_value(f"model.{part}.seed", seed)
        model = fresh_model(InputSettings.model_validate(content), STATISTICS, of_training)
        layer = {"descriptor": "descriptor/embedding/0/w", "fitting_net": "fitting/0/w"}[part]
        return np.asarray(model.arrays[layer])

    np.testing.assert_array_equal(weights(1), weights(1, of_training=6))
    assert np.all(weights(1) != weights(2))
    assert np.all(weights(None) != weights(None, of_training=6))
