"""The readers of input files: JSON, YAML and TOML give the same, and say what is wrong."""

import json
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from dpax.errors import InputError
from dpax.input_file import read_input

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


def refusal(folder: Path, name: str, content: str | bytes) -> str:
    path = folder / name
    path.write_bytes(content if isinstance(content, bytes) else content.encode())
    with pytest.raises(InputError) as error:
        read_input(path)
    text = str(error.value)
    assert text.startswith(f"{path}: ")
    assert len(text) < 400
    return text


@pytest.mark.parametrize(
    ("name", "text", "words"),
    [
        ("i.json", '{"a": 1, "a": 2}', "the key 'a' is given twice"),
        ("i.json", '{"b": {"a": 1, "a": 1}}', "the key 'a' is given twice"),
        ("i.yaml", "b: 1\na:\n  c: 1\n  c: 2\n", "line 4, column 3: the key 'c' is given twice"),
        ("i.yaml", "{a: 1, b: 2, 'a': 3}", "line 1, column 14: the key 'a' is given twice"),
        ("i.yaml", "x: &x {a: 1}\ny:\n  <<: *x\n  b: 1\n  b: 2", "line 5, column 3: the key 'b'"),
        ("i.toml", "a = 1\na = 2\n", "line 2"),
    ],
)
def test_key_given_twice(tmp_path, name, text, words):
    assert words in refusal(tmp_path, name, text)


@pytest.mark.parametrize(
    ("name", "text"),
    [("i.json", '{"_note": 1, "_note": 2, "a": 3}'), ("i.yaml", "_note: 1\n_note: 2\na: 3\n")],
)
def test_a_comment_may_be_repeated(tmp_path, name, text):
    (tmp_path / name).write_text(text)
    assert read_input(tmp_path / name) == {"_note": 2, "a": 3}


# YAML means what JSON and TOML mean


@pytest.mark.parametrize(
    ("text", "value"),
    [
        *((word, word) for word in ("No", "no", "NO", "Yes", "y", "N", "on", "Off", "OFF", "O", "tRUE")),
        *((word, word) for word in ("1:30", "12:30:45", "2024-01-01", "2024-99-99", "=", "0b11", "_1", "1_")),
        *((word, True) for word in ("true", "True", "TRUE")),
        *((word, None) for word in ("null", "~", "Null", "")),
        *((word, 60) for word in ("60", "0060", "+60", "0x3c", "0o74", "6_0")),
        *((word, 1e6) for word in ("1e6", "1E6", "1.e+6", "+1e6", "1_000_000.0")),
        *((word, 0.5) for word in (".5", "0.5", "5e-1", "00.5")),
        *((word, float("inf")) for word in (".inf", "+.INF")),
        ("'60'", "60"),
        ("!!str 60", "60"),
        ("-7", -7),
    ],
)
def test_scalars_of_yaml(tmp_path, text, value):
    (tmp_path / "i.yaml").write_text(f"a: {text}\n")
    got = read_input(tmp_path / "i.yaml")["a"]
    assert got == value
    assert type(got) is type(value)


@given(
    st.recursive(
        st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False) | st.text("aNo1:.-e_ \"'#&*é"),
        lambda inner: (
            st.lists(inner, max_size=4) | st.dictionaries(st.text("abN1.", min_size=1), inner, max_size=4)
        ),
        max_leaves=12,
    )
)
def test_json_is_yaml(tmp_path_factory, value):
    """What JSON can say, YAML says with the same text and means the same by it."""
    folder = tmp_path_factory.mktemp("same")
    text = json.dumps({"key": value})
    for name in ("i.json", "i.yaml"):
        (folder / name).write_text(text)
    assert read_input(folder / "i.yaml") == read_input(folder / "i.json")


def test_keys_of_yaml_are_strings(tmp_path):
    (tmp_path / "i.yaml").write_text("1: a\nNo: b\ntrue: c\nnull: d\n1.5: e\n2024-01-01: f\n")
    assert list(read_input(tmp_path / "i.yaml")) == ["1", "No", "true", "null", "1.5", "2024-01-01"]


def test_anchors_and_merges(tmp_path):
    (tmp_path / "i.yaml").write_text(
        "_net: &net {neuron: [4, 8], seed: 1}\na:\n  <<: *net\n  seed: 2\nb: *net\n"
    )
    content = read_input(tmp_path / "i.yaml")
    assert content["a"] == {"neuron": [4, 8], "seed": 2}
    assert content["b"] == {"neuron": [4, 8], "seed": 1}


def bomb(levels: int, wide: int) -> str:
    lines = ["a0: &a0 [x]"]
    lines += [f"a{n}: &a{n} [{', '.join([f'*a{n - 1}'] * wide)}]" for n in range(1, levels)]
    return "\n".join(lines)


@pytest.mark.parametrize(
    ("text", "words"),
    [
        (bomb(10, 9), "aliases repeat more than 10000 values"),
        (bomb(200, 2), "aliases repeat more than 10000 values"),
        (bomb(10, 9).replace("[", "{k: [").replace("]", "]}"), "aliases repeat more than"),
        ("a: &a {b: *a}", "*a stands within &a"),
        ("a: &a\n  - 1\n  - [*a]\n", "line 3, column 6: *a stands within &a"),
        ("a: *b", "undefined alias 'b'"),
        ("a: 1\n---\nb: 2", "expected a single document in the stream, but found another document"),
        ("a: !!python/name:os.system", "the tag 'tag:yaml.org,2002:python/name:os.system' has no meaning"),
        ("a: !!binary aGk=", "has no meaning here"),
        ("a: !!timestamp 2024-01-01", "has no meaning here"),
        ("a: !mine x", "line 1, column 4: the tag '!mine' has no meaning here"),
        ("a: !!int x", "'x' is not a whole number"),
        ("a: !!float x", "'x' is not a number"),
        ("a: !!bool 7", "'7' is neither true nor false"),
        ("a: !!set {x}", "has no meaning here"),
        ("? [1, 2]\n: 3", "a key is a word"),
        ("a:\n\tb: 1", "line 2, column 1"),
        ("a: \x07", "line 1: the character '\\x07' is not allowed"),
        ("a: " + "9" * 5000, "too many digits"),
        ("- 1", "holds sections"),
        ("", "holds sections (model, training, …), got None"),
        ("a" * 9000 + ": &", "line 1"),
    ],
)
def test_what_yaml_cannot_mean_here(tmp_path, text, words):
    assert words in refusal(tmp_path, "i.yaml", text)


# All formats


@pytest.mark.parametrize(
    ("name", "text", "words"),
    [
        *(("i.json", '{"a":' + "[" * n + "]" * n + "}", "deep") for n in (60, 900, 100_000)),
        *(("i.json", '{"a":' * n + "1" + "}" * n, "deep") for n in (60, 100_000)),
        *(("i.yaml", "a: " + "[" * n + "]" * n, "deep") for n in (60, 900, 5000)),
        *(("i.yaml", "\n".join(" " * k + "a:" for k in range(n)), "deep") for n in (60, 400)),
        *(("i.toml", "a = " + "[" * n + "]" * n, "deep") for n in (60, 900, 5000)),
        ("i.toml", "a" + ".a" * 100 + " = 1", "deep"),
        ("i.json", '{"a": ' + "9" * 5000 + "}", "too many digits"),
        ("i.toml", "a = -" + "9" * 5000, "too many digits"),
        ("i.toml", "a = 2024-02-31", "line 1"),
        ("i.toml", "a = 2024-99-99", "line 1"),
        ("i.json", r'{"a": "\u0000"}', "a character that no name can have"),
        ("i.json", r'{"\ud800": 1}', "a character that no name can have"),
        ("i.yaml", r'a: ["\0"]', "a character that no name can have"),
        ("i.json", '{"a": 1}'.encode("utf-16"), "save it as UTF-8"),
        ("i.yaml", "a: 1".encode("utf-16-le"), "save it as UTF-8"),
        ("i.toml", b'a = "\xff"', "not a text file in UTF-8 (invalid start byte at byte 5); save it"),
    ],
)
def test_what_no_format_may_hold(tmp_path, name, text, words):
    assert words in refusal(tmp_path, name, text)


@pytest.mark.parametrize("name", TEXTS)
def test_a_byte_order_mark_is_no_content(tmp_path, name):
    (tmp_path / name).write_bytes(b"\xef\xbb\xbf" + TEXTS[name].encode())
    assert read_input(tmp_path / name) == CONTENT


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
