"""The settings of model and training against DeePMD-kit's own argument definitions."""

import inspect
import json
from pathlib import Path

import pytest

from dpax.deepmd import DescrptDPA1, DescrptSeAttenV2, keys
from dpax.descriptor.settings import DescriptorSettings
from dpax.descriptor.spec import DescriptorSpec
from dpax.errors import InputError
from dpax.model.settings import ModelSettings
from dpax.report.reference import reference
from dpax.train.settings import (
    InputSettings,
    LearningRateSettings,
    read_settings,
)

MINIMAL = {
    "model": {"type_map": ["O", "H"], "descriptor": {"type": "se_atten"}},
    "training": {"training_data": {"systems": "data"}, "numb_steps": 100},
}
# An input file in the shape that DeePMD-kit's users have, comments and all.
FULL = {
    "_comment": "water",
    "model": {
        "type_map": ["O", "H"],
        "descriptor": {
            "type": "se_atten_v2",
            "sel": 120,
            "rcut_smth": 0.5,
            "rcut": 6.0,
            "neuron": [25, 50, 100],
            "resnet_dt": False,
            "axis_neuron": 16,
            "seed": 1,
            "attn": 128,
            "attn_layer": 2,
            "attn_dotr": True,
            "attn_mask": False,
            "precision": "float64",
            "_comment": "descriptor",
        },
        "fitting_net": {"neuron": [240, 240, 240], "resnet_dt": True, "seed": 1, "_comment": "fitting"},
    },
    "learning_rate": {"type": "exp", "decay_steps": 5000, "start_lr": 0.001, "stop_lr": 3.51e-8},
    "loss": {
        "type": "ener",
        "start_pref_e": 0.02,
        "limit_pref_e": 1,
        "start_pref_f": 1000,
        "limit_pref_f": 1,
        "start_pref_v": 0,
        "limit_pref_v": 0,
    },
    "training": {
        "stat_file": "dpa1.hdf5",
        "training_data": {"systems": ["data_0", "data_1"], "batch_size": "auto"},
        "validation_data": {"systems": ["data_2"], "batch_size": 1, "numb_btch": 3},
        "numb_steps": 1000000,
        "seed": 10,
        "disp_file": "lcurve.out",
        "disp_freq": 100,
        "save_freq": 1000,
    },
}


def changed(path: str, value: object, content: dict = MINIMAL) -> dict:
    """A copy with one value set, by dotted path."""
    content = json.loads(json.dumps(content))
    *sections, key = path.split(".")
    place = content
    for section in sections:
        place = place.setdefault(section, {})
    place[key] = value
    return content


def message(path: str, value: object, content: dict = MINIMAL) -> str:
    with pytest.raises(InputError) as error:
        InputSettings.model_validate(changed(path, value, content))
    return str(error.value)


@pytest.mark.parametrize("content", [MINIMAL, FULL], ids=["minimal", "full"])
def test_resolved_settings_are_json_and_read_back_alike(content):
    settings = InputSettings.model_validate(content)
    again = InputSettings.model_validate(json.loads(json.dumps(settings.resolved())))
    assert again == settings
    assert again.resolved() == settings.resolved()


def test_descriptor_defaults_that_depend_on_the_type():
    v1, v2 = DescriptorSettings(type="dpa1"), DescriptorSettings(type="se_atten_v2")
    assert v1.type == "se_atten"
    assert (v1.set_davg_zero, v1.smooth_type_embedding, v1.tebd_input_mode) == (True, False, "concat")
    assert (v2.set_davg_zero, v2.smooth_type_embedding, v2.tebd_input_mode) == (False, True, "strip")


def test_v2_refuses_what_it_fixes():
    content = {"type": "se_atten_v2", "tebd_input_mode": "concat"}
    with pytest.raises(InputError, match="tebd_input_mode: se_atten_v2 always has 'strip'"):
        DescriptorSettings.model_validate(content)


@pytest.mark.parametrize("alias", ["n_axis_neuron", "axis_neuron"])
def test_descriptor_alias(alias):
    assert DescriptorSettings.model_validate({"type": "dpa1", alias: 8}).axis_neuron == 8


@pytest.mark.parametrize(("flag", "mode"), [(True, "strip"), (False, "concat")])
def test_stripped_type_embedding_is_deprecated(flag, mode):
    with pytest.warns(DeprecationWarning, match=f'tebd_input_mode: "{mode}"'):
        settings = DescriptorSettings.model_validate(
            {"type": "se_atten", "tebd_input_mode": "concat", "stripped_type_embedding": flag}
        )
    assert settings.tebd_input_mode == mode


@pytest.mark.parametrize(("sel", "fixed"), [(120, 120), ([46, 92], 138), ("auto", None), ("auto:1.5", None)])
def test_sel(sel, fixed):
    assert DescriptorSettings.model_validate({"type": "se_atten", "sel": sel}).fixed_sel == fixed


@pytest.mark.parametrize("sel", [0, -4, [], [0], [1.5], "auto:0.5", "auto:x", "max", None])
def test_wrong_sel(sel):
    assert message("model.descriptor.sel", sel).startswith(
        "model.descriptor.sel: should be a positive number"
    )


@pytest.mark.parametrize(("kind", "cls"), [("se_atten", DescrptDPA1), ("se_atten_v2", DescrptSeAttenV2)])
def test_arguments_fit_the_constructor(kind, cls):
    content = {"type": kind, "sel": [10, 10], "neuron": [4, 8], "axis_neuron": 2, "exclude_types": [[0, 1]]}
    spec = DescriptorSettings.model_validate(content).spec(["O", "H"])
    assert (spec.type, spec.ntypes, spec.sel, spec.neuron) == (kind, 2, (20,), (4, 8))
    # Whatever the class can be told, the settings tell: no default of the class is ever in force.
    taken = {*inspect.signature(cls.__init__).parameters, *(key.name for key in keys.OWN)} - {
        "own",
        "self",
        "attn_mask",
        "spin",
        "stripped_type_embedding",
        "seed",  # it draws the arrays, of which the description says nothing
        "arrays",
    }
    fixed = {"type"} | ({"tebd_input_mode", "smooth_type_embedding"} if kind == "se_atten_v2" else set())
    told = set(DescriptorSettings.model_fields) - {"seed"} | {"ntypes", "type_map"}
    assert told - fixed == taken
    assert cls(**{name: getattr(spec, name) for name in taken}).spec == spec


def test_values_of_the_settings_are_those_of_the_description():
    """All of them: the description has nothing of its own but what arrays set by hand need."""
    options = {"lmax": 2, "attn_norm": "branch", "exclude_types": [[1, 1]], "sel": 12, "trainable": False}
    settings = DescriptorSettings.model_validate({"type": "se_atten_v2", "rcut": 4.5, **options})
    spec = settings.spec(["O", "H"])
    shared = set(DescriptorSettings.model_fields) - {"seed", "sel"}
    assert {name: getattr(spec, name) for name in shared} == {n: getattr(settings, n) for n in shared}
    assert set(DescriptorSpec.model_fields) == shared | {"sel", "ntypes", "type_map", "isotropic"}


def test_a_description_needs_a_number_for_auto():
    settings = DescriptorSettings(type="se_atten")
    with pytest.raises(ValueError, match="auto"):
        settings.spec(["O"])
    assert settings.spec(["O"], sel=44).nsel == 44


@pytest.mark.parametrize(
    ("path", "value", "expected"),
    [
        (
            "model.descriptor.axis_neurn",
            4,
            "model.descriptor.axis_neurn: unknown key; did you mean axis_neuron?",
        ),
        ("model.descriptor.type", "se_e2_a", "model.descriptor.type: dpax is for DPA-1: se_atten (or dpa1)"),
        ("model.descriptor.type", "dpa2", "model.descriptor.type: dpax is for DPA-1: se_atten (or dpa1)"),
        ("model.descriptor.attn_mask", True, "model.descriptor.attn_mask: True is refused: no DPA-1 model"),
        ("model.descriptor.spin", {}, "model.descriptor.spin: {} is refused: DPA-1 here has no spin"),
        ("model.descriptor.rcut", 0.0, "model.descriptor.rcut: should be greater than 0"),
        ("model.descriptor.rcut_smth", 6.0, "model.descriptor.rcut_smth: should be smaller than rcut"),
        ("model.descriptor.neuron", [10, 0], "model.descriptor.neuron[1]: should be greater than 0"),
        (
            "model.descriptor.axis_neuron",
            41,
            "model.descriptor.axis_neuron: should be at most the last width",
        ),
        ("model.descriptor.activation_function", "tanhh", "model.descriptor.activation_function: activation"),
        (
            "model.descriptor.precision",
            "float8",
            "model.descriptor.precision: precision 'float8' is not one of",
        ),
        ("model.descriptor.lmax", 5, "model.descriptor.lmax: should be less than or equal to 4"),
        ("model.descriptor.exclude_types", [[0, 2]], "model.descriptor: exclude_types names type 2"),
        ("model.type_map", ["O", "O"], "model.type_map: names 'O' twice"),
        ("model.fitting_net.dim_case_embd", 1, "model.fitting_net.dim_case_embd: 1 is refused: it tells"),
        ("model.fitting_net.type", "dipole", "model.fitting_net.type: dpax fits energies"),
        ("model.fitting_net.trainable", [True], "model.fitting_net.trainable: should have 4 flags"),
        ("model.type_embedding", {}, "model.type_embedding: {} is refused: only TensorFlow models"),
        ("learning_rate.type", "linear", "learning_rate.type: should be 'exp', 'cosine' or 'wsd'"),
        ("learning_rate.stop_lr", 0.1, "learning_rate.stop_lr: should be at most start_lr (0.001)"),
        ("loss.type", "dos", "loss.type: dpax trains energies and their derivatives"),
        ("optimizer.type", "LKF", "optimizer.type: LKF is refused"),
        ("training.save_dir", "here", "training.save_dir: 'here' is refused: dpax writes checkpoints"),
        ("training.batch_size", 3, "training.batch_size: unknown key; it belongs to training.training_data"),
        (
            "training.training_data.batch_size",
            "auto:x",
            "training.training_data.batch_size: batch_size should be a number",
        ),
        ("training.training_data.systems", [], "training.training_data.systems: should be a path or a list"),
        ("training.training_data.auto_prob", "all", "training.training_data.auto_prob: should be"),
        (
            "validating.amp_infer",
            True,
            "validating.amp_infer: True is refused: dpax validates",
        ),
        ("nvnmd", {}, "nvnmd: {} is refused: NVNMD hardware"),
        ("model.model_dict", {"a": 1}, "model.model_dict: {'a': 1} is multi-task training"),
        ("dpax.init", "xavier", "dpax.init: should be 'dpax' or 'deepmd'"),
    ],
)
def test_mistake_is_named(path, value, expected):
    assert message(path, value).startswith(expected)


def test_one_mistake_is_not_reported_as_two():
    content = changed("model.descriptor.type", "se_e2_r")
    with pytest.raises(InputError) as error:
        InputSettings.model_validate(content)
    assert "mistakes" not in str(error.value)


def test_two_ways_to_stop():
    rate = LearningRateSettings(start_lr=1e-3, stop_lr_ratio=0.1)
    assert rate.final_lr == pytest.approx(1e-4)
    assert LearningRateSettings().final_lr == 5e-8
    with pytest.raises(InputError, match="set the same thing"):
        LearningRateSettings(start_lr=1e-3, stop_lr_ratio=0.1, stop_lr=1e-5)


def test_number_that_yaml_reads_as_text():
    assert LearningRateSettings.model_validate({"start_lr": "1e-3"}).start_lr == 1e-3


def test_validation_is_as_frequent_as_saving_unless_said():
    assert InputSettings.model_validate(changed("training.save_freq", 7)).valid_freq == 7
    assert InputSettings.model_validate(changed("dpax.valid_freq", 3)).valid_freq == 3


@pytest.mark.parametrize(("precision", "x64"), [("float32", False), ("default", True), ("double", True)])
def test_model_knows_whether_it_needs_float64(precision, x64):
    descriptor = {"type": "se_atten", "precision": precision}
    fitting = {"precision": "float32"}
    model = ModelSettings.model_validate(
        {"type_map": ["O"], "descriptor": descriptor, "fitting_net": fitting}
    )
    assert model.needs_x64 is x64


def test_file_is_named_in_the_error(tmp_path):
    path = tmp_path / "input.json"
    path.write_text(json.dumps(changed("training.numb_steps", 0)))
    with pytest.raises(
        InputError, match=r"input\.json: training\.numb_steps: should be greater than 0, got 0"
    ):
        read_settings(path)


def test_reference_is_up_to_date():
    page = Path(__file__).parents[2] / "docs" / "settings.md"
    assert page.read_text(encoding="utf-8") == reference(), (
        "run python -m dpax.report.reference > docs/settings.md"
    )
