"""The base class of settings, and the readers of input files."""

import json
from collections.abc import Mapping
from typing import ClassVar

import pytest
from pydantic import Field

from dpax.errors import InputError
from dpax.settings import Refused, Settings, read_input


class Oven(Settings):
    ALIASES: ClassVar[Mapping[str, str]] = {"heat": "temperature"}
    REFUSED: ClassVar[Mapping[str, Refused]] = {
        "steam": Refused((False, None)),
        "gas": Refused(reason="refused: this oven is electric"),
    }
    IGNORED: ClassVar[Mapping[str, str]] = {"colour": "invisible here"}

    temperature: float = Field(description="°C.", gt=0)
    shelves: int = 3


class Kitchen(Settings):
    oven: Oven
    cooks: tuple[str, ...] = ()


def message(settings: dict, cls: type[Settings] = Kitchen) -> str:
    with pytest.raises(InputError) as error:
        cls.model_validate(settings)
    return str(error.value)


def test_unknown_key_gets_path_and_nearest_spelling():
    assert message({"oven": {"temprature": 200}}).endswith(
        "oven.temprature: unknown key; did you mean temperature?"
    )


def test_misspelt_alias_is_answered_with_the_real_name():
    assert "did you mean temperature?" in message({"oven": {"heatt": 200}})


def test_key_in_the_wrong_section_is_told_its_home():
    assert message({"oven": {"temperature": 1}, "shelves": 2}) == "shelves: unknown key; it belongs to oven"


def test_key_like_nothing_lists_what_is_known():
    assert message({"oven": {"temperature": 1}, "xyz": 2}) == "xyz: unknown key; known here are cooks, oven"


def test_all_mistakes_are_reported():
    text = message({"oven": {"temperature": -1, "shelves": "many"}, "cooks": "one"})
    assert text.startswith(
        "3 mistakes: (1) oven.temperature: should be greater than 0, got -1; (2) oven.shelves: "
    )
    assert text.endswith("(3) cooks: should be a list, got 'one'")


def test_missing_key_says_what_it_is():
    assert message({"oven": {}}) == "oven.temperature: is required and was not given (°C.)"


def test_section_that_is_no_section():
    assert message({"oven": 200}) == "oven: should be a section with keys of its own, got 200"


def test_list_element_is_numbered():
    assert message({"oven": {"temperature": 1}, "cooks": ["a", 2]}).startswith(
        "cooks[1]: should be a valid string"
    )


def test_mistake_in_a_constructor_is_an_input_error_too():
    with pytest.raises(InputError, match="temperature: should be greater than 0"):
        Oven(temperature=-1)


def test_comments_are_dropped_at_any_level():
    kitchen = Kitchen.model_validate({"_comment": "x", "oven": {"temperature": 1, "_note": {"any": "thing"}}})
    assert kitchen.oven.temperature == 1


def test_alias():
    assert Oven.model_validate({"heat": 7}).temperature == 7


def test_alias_beside_its_key_is_refused():
    assert message({"heat": 7, "temperature": 8}, Oven).startswith("heat: means the same as temperature")


@pytest.mark.parametrize("neutral", [False, None])
def test_neutral_value_of_a_refused_key_is_accepted(neutral):
    assert Oven.model_validate({"temperature": 7, "steam": neutral}) == Oven(temperature=7)


def test_other_value_of_a_refused_key_gives_the_reason():
    assert message({"temperature": 7, "steam": True}, Oven) == "steam: True is not supported yet by dpax"
    assert message({"temperature": 7, "gas": 1}, Oven) == "gas: 1 is refused: this oven is electric"


def test_ignored_key():
    assert Oven.model_validate({"temperature": 7, "colour": "any"}) == Oven(temperature=7)


def test_settings_are_frozen():
    with pytest.raises(Exception, match="frozen"):
        Oven(temperature=7).shelves = 2


@pytest.mark.parametrize("number", ["nan", "inf"])
def test_numbers_are_finite(number):
    assert "finite" in message({"temperature": float(number)}, Oven)


CONTENT = {"model": {"rcut": 6.0, "names": ["O", "H"]}, "steps": 10}
TEXTS = {
    "input.json": json.dumps(CONTENT),
    "input.yaml": "model:\n  rcut: 6.0\n  names: [O, H]\nsteps: 10\n",
    "input.yml": "model: {rcut: 6.0, names: [O, H]}\nsteps: 10\n",
    "input.toml": 'steps = 10\n[model]\nrcut = 6.0\nnames = ["O", "H"]\n',
}


@pytest.mark.parametrize("name", TEXTS)
def test_formats_are_read_alike(tmp_path, name):
    path = tmp_path / name
    path.write_text(TEXTS[name])
    assert read_input(path) == CONTENT


@pytest.mark.parametrize(
    ("name", "text", "line"),
    [
        ("input.json", '{\n  "a": 1,\n  "b": ,\n}', "line 3"),
        ("input.yaml", "a: 1\nb: [1, 2\nc: 3\n", "line 3"),
        ("input.toml", "a = 1\nb = \n", "line 2"),
    ],
)
def test_syntax_error_names_its_line(tmp_path, name, text, line):
    path = tmp_path / name
    path.write_text(text)
    with pytest.raises(InputError, match=f"{name}: {line}"):
        read_input(path)


def test_key_given_twice_in_json(tmp_path):
    path = tmp_path / "input.json"
    path.write_text('{"a": 1, "a": 2, "_comment": 1, "_comment": 2}')
    with pytest.raises(InputError, match="'a' is given twice"):
        read_input(path)


def test_missing_file_other_suffix_and_other_content(tmp_path):
    with pytest.raises(InputError, match=r"none\.json: cannot be read: No such file"):
        read_input(tmp_path / "none.json")
    with pytest.raises(InputError, match=r"ends in \.json, \.yaml, \.yml, \.toml, not in \.ini"):
        read_input(tmp_path / "input.ini")
    (tmp_path / "list.json").write_text("[1]")
    with pytest.raises(InputError, match=r"holds sections .* got \[1\]"):
        read_input(tmp_path / "list.json")
    (tmp_path / "bytes.json").write_bytes(b"\xff\xfe")
    with pytest.raises(InputError, match="UTF-8"):
        read_input(tmp_path / "bytes.json")
