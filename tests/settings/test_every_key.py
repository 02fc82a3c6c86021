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

PROOFS: dict[str, str] = {}
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
    for key in known_keys():
        if ways(key) != ["honoured"]:
            assert f"`{key.path}`" in page, key.path
