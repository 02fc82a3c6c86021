"""The base class of settings."""

from collections.abc import Mapping
from typing import ClassVar

import pytest
from pydantic import Field

from dpax.errors import InputError
from dpax.settings import Refused, Settings


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
    hours: tuple[int | None, ...] = ()
    open: bool | None = None
    tables: int | bool = 1


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
    assert (
        message({"oven": {"temperature": 1}, "xyz": 2})
        == "xyz: unknown key; known here are cooks, hours, open, oven, tables"
    )


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


@pytest.mark.parametrize(
    ("settings", "path"),
    [
        ({"oven": {"temperature": True}}, "oven.temperature"),
        ({"oven": {"temperature": 1, "shelves": False}}, "oven.shelves"),
        ({"oven": {"temperature": 1}, "hours": [8, None, True]}, "hours"),
        ({"oven": {"temperature": 1}, "cooks": [True]}, "cooks"),
    ],
)
def test_truth_is_no_number(settings, path):
    assert message(settings).startswith(f"{path}: should not be true or false, got ")


def test_truth_where_it_is_meant():
    kitchen = Kitchen.model_validate({"oven": {"temperature": 1}, "open": True, "tables": False})
    assert (kitchen.open, kitchen.tables) == (True, False)


@pytest.mark.parametrize("number", [2**63, -(2**70), 10**5000], ids=["63 bits", "70 bits", "5001 digits"])
def test_a_number_beyond_64_bits(number):
    assert "shelves: should be a smaller number, got " in message({"temperature": 1, "shelves": number}, Oven)


def test_a_whole_number_may_be_written_with_an_exponent():
    assert Oven(temperature=1, shelves=1e3).shelves == 1000  # pyright: ignore[reportArgumentType]
    assert "shelves" in message({"temperature": 1, "shelves": 1.5}, Oven)


def test_many_and_long_mistakes_stay_readable():
    text = message({"oven": {"temperature": 1}, "cooks": [1] * 5000, "k" * 9000: 1})
    assert text.startswith("5001 mistakes, the first 10: (1) ")
    assert len(text) < 6000
