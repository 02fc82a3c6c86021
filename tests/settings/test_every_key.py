"""Every key of DeePMD-kit's input file for these models is honoured, refused or ignored, and says so.

The keys come from DeePMD-kit's own argument definitions. One that is honoured names the test which shows that
it changes what it should (`PROOFS`); one that is refused or ignored carries the reason in the settings class.
"""

import ast
import json
import typing
from functools import cache
from pathlib import Path

import pytest

from dpax.errors import InputError
from dpax.report.reference import keys_without_effect
from dpax.settings import Settings
from dpax.train.settings import InputSettings
from settings.deepmd_arguments import Choice, Key, choices, keys

TESTS = Path(__file__).parents[1]
DOCS = TESTS.parent / "docs"
MINIMAL = {
    "model": {"type_map": ["O", "H"], "descriptor": {"type": "se_atten"}},
    "training": {
        "training_data": {"systems": "data"},
        "validation_data": {"systems": "data"},
        "numb_steps": 9,
    },
}

ALIASED_VALUES = {
    "axis_neuron": 8,
    "smooth_type_embedding": True,
    "neuron": [8],
    "auto_prob": "prob_uniform",
    "sys_probs": [1.0],
    "numb_btch": 2,
    "numb_steps": 5,
    "numb_epoch": 2,
}
"""A value that is not the default of each key that has aliases."""

_BUILT = "settings/test_effects.py::test_model_of_the_input_is_that_of_deepmd_kit"
_SEED = "settings/test_effects.py::test_seeds_decide_the_initial_weights"
_FROZEN = "train/test_finetune.py::test_frozen_parts_are_bit_identical_and_the_rest_moves"
_SCHEDULE = "train/test_schedule.py::test_every_step_of_every_schedule_is_deepmds"
_LOSS = "train/test_loss.py::test_loss_and_errors_are_deepmds"
_ADAM = "train/test_optimizer.py::test_adam_and_adamw"
_RUN = "settings/test_run_effects.py::test_names_numbers_and_files_of_a_run"
_SYSTEMS = "settings/test_run_effects.py::test_which_systems_are_drawn"
_DRAWN = "settings/test_run_effects.py::test_drawing_of_the_validation_data_follows_its_own_rules"
_SHORT_RANGE = "settings/test_run_effects.py::test_values_of_the_short_range_potential"
_STATISTICS_FILE = "train/test_options.py::test_statistics_are_shared"
_VALIDATED = "train/test_options.py::test_steps_of_full_validation_are_deepmds"

PROOFS: dict[str, str] = {
    "model.type_map": _BUILT,
    "model.data_stat_nbatch": "settings/test_run_effects.py::test_batches_from_which_statistics_are_taken",
    "model.data_stat_protect": "train/test_model_options.py::test_small_deviations_are_protected",
    "model.use_srtab": _SHORT_RANGE,
    "model.smin_alpha": _SHORT_RANGE,
    "model.sw_rmin": _SHORT_RANGE,
    "model.sw_rmax": _SHORT_RANGE,
    "model.srtab_add_bias": _SHORT_RANGE,
    "model.pair_exclude_types": _BUILT,
    "model.atom_exclude_types": _BUILT,
    "model.preset_out_bias": "train/test_model_options.py::test_what_is_preset_stays",
    "model.finetune_head": "cli/test_starting_models.py::test_a_fresh_fitting_net_on_a_model_of_deepmd",
    **{
        f"model.descriptor.{key}": _BUILT
        for key in (
            "sel",
            "rcut",
            "rcut_smth",
            "neuron",
            "axis_neuron",
            "lmax",
            "activation_function",
            "resnet_dt",
            "type_one_side",
            "precision",
            "exclude_types",
            "env_protection",
            "attn",
            "attn_layer",
            "attn_dotr",
            "smooth_type_embedding",
            "tebd_input_mode",
            "stripped_type_embedding",
            "ln_eps",
            "tebd_dim",
            "use_econf_tebd",
            "use_tebd_bias",
            "scaling_factor",
            "normalize",
            "temperature",
            "concat_output_tebd",
        )
    },
    "model.descriptor.set_davg_zero": (
        "settings/test_effects.py::test_mean_of_the_environment_is_left_at_zero_as_asked"
    ),
    "model.descriptor.seed": _SEED,
    "model.descriptor.trainable": _FROZEN,
    "model.descriptor.trainable_ln": "train/test_finetune.py::test_layer_normalisation_alone_can_be_frozen",
    **{
        f"model.fitting_net.{key}": _BUILT
        for key in (
            "neuron",
            "activation_function",
            "resnet_dt",
            "precision",
            "numb_fparam",
            "numb_aparam",
        )
    },
    "model.fitting_net.default_fparam": (
        "train/test_model_options.py::test_a_frame_without_its_parameters_is_named"
    ),
    "model.fitting_net.trainable": _FROZEN,
    "model.fitting_net.rcond": "settings/test_run_effects.py::test_small_singular_values_of_the_energy_fit",
    "model.fitting_net.seed": _SEED,
    "model.fitting_net.atom_ener": (
        "train/test_model_options.py::test_isolated_atoms_have_the_energy_that_was_asked"
    ),
    **{
        f"learning_rate.{key}": _SCHEDULE
        for key in (
            "start_lr",
            "stop_lr",
            "stop_lr_ratio",
            "warmup_steps",
            "warmup_ratio",
            "warmup_start_factor",
            "decay_steps",
            "decay_rate",
            "smooth",
            "decay_phase_ratio",
            "decay_type",
        )
    },
    **{
        f"loss.{edge}_pref_{term}": _LOSS
        for edge in ("start", "limit")
        for term in ("e", "f", "v", "ae", "pf", "gf", "h")
    },
    "loss.use_default_pf": "train/test_loss.py::test_default_weights_of_forces",
    **{
        f"loss.{key}": _LOSS
        for key in (
            "relative_f",
            "enable_atom_ener_coeff",
            "numb_generalized_coord",
            "use_huber",
            "loss_func",
            "f_use_norm",
            "huber_delta",
            "intensive_ener_virial",
        )
    },
    "optimizer.adam_beta1": _ADAM,
    "optimizer.adam_beta2": _ADAM,
    "optimizer.weight_decay": _ADAM,
    "training.training_data.systems": _SYSTEMS,
    "training.training_data.rglob_patterns": _SYSTEMS,
    "training.training_data.batch_size": "data/test_batch_sizes.py::test_the_rules",
    "training.training_data.auto_prob": "train/test_probabilities.py::test_by_size_and_uniformly",
    "training.training_data.sys_probs": (
        "train/test_probabilities.py::test_explicit_probabilities_and_negative_ones_that_are_filled_by_size"
    ),
    "training.training_data.min_pair_dist": "settings/test_run_effects.py::test_frames_with_close_pairs_go",
    "training.validation_data.systems": _DRAWN,
    "training.validation_data.rglob_patterns": _SYSTEMS,
    "training.validation_data.batch_size": (
        "settings/test_run_effects.py::test_several_batches_of_validation_are_shown"
    ),
    "training.validation_data.auto_prob": _DRAWN,
    "training.validation_data.sys_probs": _DRAWN,
    "training.validation_data.numb_btch": (
        "settings/test_run_effects.py::test_several_batches_of_validation_are_shown"
    ),
    "training.stat_file": _STATISTICS_FILE,
    "training.stat_file_mode": "train/test_options.py::test_statistics_of_other_data_are_not_read",
    "training.numb_steps": _RUN,
    "training.numb_epoch": "train/test_options.py::test_length_of_an_epoch_is_deepmds",
    "training.seed": "train/test_restart.py::test_same_seed_same_run_and_another_seed_another",
    "training.disp_file": _RUN,
    "training.disp_freq": _RUN,
    "training.save_freq": _RUN,
    "training.max_ckpt_keep": "train/test_restart.py::test_only_the_latest_checkpoints_are_kept",
    "training.ckpt_keep_ratio": "train/test_options.py::test_a_fraction_of_the_checkpoints_is_kept",
    "training.enable_ema": "train/test_options.py::test_averaged_weights_have_a_model_of_their_own",
    "training.ema_decay": "train/test_optimizer.py::test_averaged_weights_follow_slowly",
    "training.ema_ckpt_keep": _RUN,
    "training.change_bias_after_training": "train/test_options.py::test_bias_is_fitted_after_training",
    "training.disp_training": "cli/test_progress.py::test_errors_and_speed_can_be_switched_off",
    "training.time_training": "cli/test_progress.py::test_errors_and_speed_can_be_switched_off",
    "training.disp_avg": "train/test_options.py::test_means_of_the_displayed_interval",
    "training.profiling": "train/test_options.py::test_profile_of_a_few_steps",
    "training.enable_profiler": _RUN,
    "training.gradient_max_norm": "train/test_optimizer.py::test_long_gradients_are_shortened",
    "training.acc_freq": ("train/test_optimizer.py::test_accumulated_gradients_are_those_of_one_large_batch"),
    "validating.full_validation": _VALIDATED,
    "validating.ema_full_validation": "train/test_options.py::test_the_best_models_are_kept",
    "validating.validation_freq": _VALIDATED,
    "validating.full_val_start": _VALIDATED,
    "validating.save_best": "train/test_options.py::test_best_models_are_not_written_unless_wanted",
    "validating.max_best_ckpt": "train/test_options.py::test_the_best_models_are_kept",
    "validating.validation_metric": "train/test_options.py::test_models_are_ranked_by_the_metric",
    "validating.full_val_file": _RUN,
}
"""Dotted path of every key that is honoured, and the test that shows its effect: `file::function`."""

DIFFERENT_DEFAULTS: dict[str, tuple[object, str]] = {
    "model.smin_alpha": (0.1, "what an unset value means"),
    "model.descriptor.lmax": (1, "what an unset value means"),
    "model.descriptor.ln_eps": (1e-5, "what an unset value means"),
    "model.fitting_net.atom_ener": (None, "unset and an empty list mean the same"),
    "learning_rate.start_lr": (1e-3, "required by DeePMD-kit; this is the value of its examples"),
    "learning_rate.stop_lr": (5e-8, "what an unset value means if stop_lr_ratio is not given"),
    "training.gradient_max_norm": (0.0, "unset and 0 mean the same"),
}
"""Defaults that are not DeePMD-kit's, and why."""


def section_of(path: str) -> type[Settings] | None:
    """The settings class of a section; None if it or a section around it is not one of dpax."""
    found: type[Settings] = InputSettings
    for name in filter(None, path.split(".")):
        field = found.model_fields.get(name)
        inner = [field.annotation, *typing.get_args(field.annotation)] if field else []
        classes = [c for c in inner if isinstance(c, type) and issubclass(c, Settings)]
        if not classes:
            return None
        found = classes[0]
    return found


def known_keys() -> list[Key]:
    """The keys of all sections that dpax has; what a refused section holds is refused with it."""
    return [key for key in keys() if section_of(key.section) is not None]


def ways(key: Key) -> list[str]:
    """How dpax treats a key."""
    section = section_of(key.section)
    assert section is not None
    names = {
        "honoured": [*section.model_fields, *section.DEPRECATED],
        "refused": section.REFUSED,
        "ignored": section.IGNORED,
    }
    return [way for way, known in names.items() if key.name in known]


def honoured() -> set[str]:
    """The paths of the keys that are honoured and hold a value of their own."""
    return {key.path for key in known_keys() if ways(key) == ["honoured"] and section_of(key.path) is None}


@cache
def functions_of(file: str) -> frozenset[str]:
    """The names of the test functions of a file."""
    tree = ast.parse((TESTS / file).read_text(encoding="utf-8"))
    return frozenset(node.name for node in ast.walk(tree) if isinstance(node, ast.FunctionDef))


def with_value(key: Key, value: object, name: str | None = None) -> dict:
    """A small input file with one key set."""
    content = json.loads(json.dumps(MINIMAL))
    place = content
    for part in filter(None, key.section.split(".")):
        place = place.setdefault(part, {})
    if key.variant:
        place["type"] = key.variant
    if key.name in ("numb_steps", "numb_epoch"):
        del content["training"]["numb_steps"]
    place[name or key.name] = value
    return content


def test_no_key_is_unknown_or_treated_in_two_ways():
    treated = {key.path: ways(key) for key in known_keys()}
    assert {path: found for path, found in treated.items() if len(found) != 1} == {}


def test_sections_that_dpax_lacks_are_refused_as_a_whole():
    outside = {key.section for key in keys() if section_of(key.section) is None}
    for path in outside:
        section, _, name = path.rpartition(".")
        owner = section_of(section)
        assert owner is not None
        assert name in owner.REFUSED, path


def test_every_honoured_key_has_a_proof():
    assert set(PROOFS) == honoured()


@pytest.mark.parametrize("proof", sorted(set(PROOFS.values())))
def test_proof_exists(proof):
    file, _, function = proof.partition("::")
    assert function.startswith("test_")
    assert function in functions_of(file)


def test_aliases_are_those_of_deepmd_kit():
    for key in known_keys():
        section = section_of(key.section)
        assert section is not None
        for alias in key.aliases:
            assert section.ALIASES.get(alias) == key.name, f"{key.path}: {alias}"


@pytest.mark.parametrize("key", [k for k in known_keys() if k.aliases], ids=lambda k: k.path)
def test_alias_means_the_key(key):
    value = ALIASED_VALUES[key.name]
    settings = InputSettings.model_validate(with_value(key, value))
    assert settings != InputSettings.model_validate(MINIMAL)
    for alias in key.aliases:
        assert InputSettings.model_validate(with_value(key, value, alias)) == settings


def test_defaults_are_those_of_deepmd_kit():
    different = {}
    for key in known_keys():
        nothing = Key(key.section, key.variant, "_comment", (), None, False, False)
        content = with_value(nothing, None)
        settings = InputSettings.model_validate(content).resolved()
        for part in filter(None, key.section.split(".")):
            content, settings = content[part], settings[part]
        chosen_by_dpax = key.name in settings and key.name not in content and section_of(key.path) is None
        if chosen_by_dpax and settings[key.name] != key.default:
            different[key.path] = settings[key.name]
    assert different == {path: value for path, (value, _) in DIFFERENT_DEFAULTS.items()}


@pytest.mark.parametrize("key", [k for k in known_keys() if "refused" in ways(k)], ids=lambda k: k.path)
def test_refusal_says_why_and_asking_for_nothing_is_no_mistake(key):
    section = section_of(key.section)
    assert section is not None
    refused = section.REFUSED[key.name]
    assert len(refused.reason) > len("refused: ")
    InputSettings.model_validate(with_value(key, key.default))
    with pytest.raises(InputError) as error:
        InputSettings.model_validate(with_value(key, {"anything": "else"}))
    assert refused.reason in str(error.value)
    assert str(error.value).startswith(f"{key.path}: ")


@pytest.mark.parametrize("choice", choices(), ids=lambda c: f"{c.section}={c.value}")
def test_every_type_of_a_section_is_taken_or_refused(choice: Choice):
    content = with_value(Key(choice.section, None, "type", (), None, False, False), choice.value)
    if choice.is_ours:
        InputSettings.model_validate(content)
        return
    with pytest.raises(InputError) as error:
        InputSettings.model_validate(content)
    assert choice.value in str(error.value)
    assert "mistakes" not in str(error.value)


def test_documentation_lists_what_is_refused_and_ignored():
    page = (DOCS / "coming-from-deepmd-kit.md").read_text(encoding="utf-8")
    assert keys_without_effect() in page, "insert what python -m dpax.report.reference keys prints"
    for key in known_keys():
        if ways(key) != ["honoured"]:
            assert f"`{key.path}`" in page, key.path
