"""Input files of older versions of DeePMD-kit mean what DeePMD-kit 3.2 makes of them."""

import json
import warnings

import pytest

from dpax.errors import InputError
from dpax.train.settings import InputSettings, settings_from

update_deepmd_input = pytest.importorskip("deepmd.utils.compat").update_deepmd_input

MODEL = {"type_map": ["O", "H"], "descriptor": {"type": "se_atten"}}
VERSION_1 = {
    "model": MODEL,
    "learning_rate": {"type": "exp", "start_lr": 0.002, "decay_steps": 50, "decay_rate": 0.95},
    "training": {
        "systems": ["a", "b"],
        "set_prefix": "set",
        "batch_size": [1, 2],
        "auto_prob_style": "prob_uniform",
        "stop_batch": 400,
        "numb_test": 3,
        "seed": 1,
    },
}
VERSION_3 = {
    "model": MODEL,
    "learning_rate": {"start_lr": 0.002, "stop_lr": 1e-5},
    "training": {
        "training_data": {"systems": "a"},
        "numb_steps": 400,
        "warmup_steps": 20,
        "warmup_start_factor": 0.5,
        "opt_type": "AdamW",
        "weight_decay": 0.01,
        "numb_test": 3,
    },
}


def settings_of(content: dict) -> InputSettings:
    return settings_from(content)


@pytest.mark.parametrize("content", [VERSION_1, VERSION_3], ids=["1.x", "3.1"])
def test_same_settings_as_after_the_conversion_by_deepmd_kit(content):
    with warnings.catch_warnings(record=True) as seen:
        warnings.simplefilter("always")
        found = settings_of(content)
    assert any("numb_test has no effect" in str(one.message) for one in seen)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        converted = update_deepmd_input(json.loads(json.dumps(content)), warning=False)
    assert found.resolved() == settings_of(converted).resolved()


def test_values_of_the_old_forms_arrive():
    with pytest.warns(DeprecationWarning, match="deprecated"):
        old, young = settings_of(VERSION_1), settings_of(VERSION_3)
    assert old.training.training_data.systems == ("a", "b")
    assert old.training.training_data.batch_size == (1, 2)
    assert old.learning_rate.stop_lr == pytest.approx(0.002 * 0.95**8)
    assert (young.learning_rate.warmup_steps, young.learning_rate.warmup_start_factor) == (20, 0.5)
    assert (young.optimizer.type, young.optimizer.weight_decay) == ("AdamW", 0.01)


@pytest.mark.parametrize(("section", "key"), [("learning_rate", "warmup_steps"), ("optimizer", "adam_beta1")])
def test_old_and_new_form_together_are_refused(section, key):
    content = json.loads(json.dumps(VERSION_3))
    content["training"][key] = 0.5
    content[section] = {**content.get(section, {}), key: 0.5}
    with pytest.raises(InputError, match=f"training and {section} both have {key}"):
        settings_of(content)


def test_data_named_twice_are_refused():
    content = json.loads(json.dumps(VERSION_1))
    content["training"]["training_data"] = {"systems": "c"}
    with pytest.raises(InputError, match=r"training\.systems and training\.training_data both name the data"):
        settings_of(content)
