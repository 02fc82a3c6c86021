"""The reader of input files: JSON, YAML and TOML into plain dictionaries.

All three give the same for the same content. YAML is read by the core schema of YAML 1.2, in which `No` is a
word, `1e6` a number and 0060 sixty; keys are always strings; what anchors repeat is bounded.
"""

import json
import re
import tomllib
from collections.abc import Hashable, Iterator
from pathlib import Path
from typing import Any

import yaml

from dpax.errors import InputError, shortened

DEEPEST = 50
"""The deepest nesting of sections and lists; dpax's settings are a tenth as deep."""
MOST_REPEATED = 10_000
"""Values that the aliases of a YAML file may stand for, all together."""


def read_input(path: str | Path) -> dict[str, Any]:
    """Read a JSON, YAML or TOML input file into a plain dictionary.

    Args:
        path: ending in .json, .yaml, .yml or .toml.

    Raises:
        InputError: the file is missing, of another kind, or has a syntax error (named with its line), a key
            that is given twice, or values that are nested too deeply.
    """
    path = Path(path)
    parsers = {".json": _parse_json, ".yaml": _parse_yaml, ".yml": _parse_yaml, ".toml": _parse_toml}
    parse = parsers.get(path.suffix.lower())
    if parse is None:
        raise InputError(
            f"{path}: an input file ends in {', '.join(parsers)}, not in {path.suffix or 'nothing'}"
        )
    text = _text(path)
    try:
        content = parse(text)
        _check(content)
    except InputError as error:
        raise InputError(f"{path}: {error}") from None
    except RecursionError:
        raise InputError(f"{path}: {_TOO_DEEP}") from None
    if not isinstance(content, dict):
        raise InputError(
            f"{path}: an input file holds sections (model, training, …), got {shortened(content)}"
        )
    return content


_TOO_DEEP = f"sections or lists are nested more than {DEEPEST} levels deep; no setting is"


def _text(path: Path) -> str:
    try:
        # An editor may have put a byte order mark in front.
        text = path.read_text(encoding="utf-8-sig")
    except UnicodeDecodeError as error:
        raise InputError(
            f"{path}: not a text file in UTF-8 ({error.reason} at byte {error.start}); save it as UTF-8"
        ) from None
    except OSError as error:
        raise InputError(f"{path}: cannot be read: {error.strerror}") from None
    if "\0" in text:
        raise InputError(f"{path}: not a text file in UTF-8 (it has NUL characters); save it as UTF-8")
    return text


def _check(content: Any) -> None:
    """Check that the content can be walked through, printed and used as file names."""
    level = [content]
    for _ in range(DEEPEST):
        inner = []
        for value in level:
            for child in _children(value):
                if isinstance(child, str):
                    _check_word(child)
                elif isinstance(child, dict | list):
                    inner.append(child)
        if not inner:
            return
        level = inner
    raise InputError(_TOO_DEEP)


def _children(value: Any) -> Iterator[Any]:
    if isinstance(value, dict):
        yield from value
        yield from value.values()
    elif isinstance(value, list):
        yield from value


def _check_word(word: str) -> None:
    if not word.isprintable() and re.search("[\0\ud800-\udfff]", word):
        raise InputError(f"{ascii(word)[:60]} has a character that no name can have; correct it")


# The formats


def _parse_json(text: str) -> Any:
    try:
        return json.loads(text, object_pairs_hook=_without_repeats)
    except json.JSONDecodeError as error:
        raise InputError(f"line {error.lineno}, column {error.colno}: {error.msg}") from None
    except ValueError as error:
        raise InputError(_long_integer(error)) from None


def _without_repeats(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    content = dict(pairs)
    if len(content) < len(pairs):
        seen = set()
        for key, _ in pairs:
            if key in seen and not key.startswith("_"):
                raise InputError(f"the key {shortened(key)} is given twice in one section")
            seen.add(key)
    return content


def _parse_toml(text: str) -> Any:
    try:
        return tomllib.loads(text)
    except tomllib.TOMLDecodeError as error:
        place = re.search(r"\(at (line \d+, column \d+)\)", str(error))
        where = f"{place[1]}: " if place else ""
        raise InputError(f"{where}{str(error).split(' (at ')[0]}") from None
    except ValueError as error:
        raise InputError(_long_integer(error)) from None


def _long_integer(error: ValueError) -> str:
    return f"an integer of too many digits ({str(error).split(';')[0].lower()})"


def _parse_yaml(text: str) -> Any:
    try:
        return yaml.load(text, _CoreLoader)
    except yaml.MarkedYAMLError as error:
        mark = error.problem_mark or error.context_mark
        where = f"line {mark.line + 1}, column {mark.column + 1}: " if mark else ""
        problem = error.problem or error.context or "not YAML"
        if problem.startswith("but "):  # the context is the first half of the sentence
            problem = f"{error.context}, {problem}"
        raise InputError(f"{where}{_line(problem)}") from None
    except yaml.reader.ReaderError as error:
        line = text.count("\n", 0, error.position) + 1
        raise InputError(f"line {line}: the character {chr(error.character)!a} is not allowed") from None


def _line(text: str) -> str:
    return text if len(text) <= 200 else f"{text[:197]}..."


class _CoreLoader(yaml.SafeLoader):
    """The core schema of YAML 1.2, as far as JSON can express it too.

    Beyond it, as in YAML 1.1 and TOML: `<<` merges, and `_` may stand between digits.
    """

    def __init__(self, stream: str):
        super().__init__(stream)
        self._sizes: dict[int, int] = {}
        self._repeated = self._depth = 0

    def compose_node(self, parent: Any, index: Any) -> Any:
        """Bound the depth, and what aliases repeat, before anything walks through it."""
        event: Any = self.peek_event()
        alias = event if isinstance(event, yaml.AliasEvent) else None
        self._depth += 1
        if self._depth > DEEPEST:
            raise _mistake(_TOO_DEEP, event)
        node: Any = super().compose_node(parent, index)
        self._depth -= 1
        if alias is None:
            self._sizes[id(node)] = 1 + sum(self._sizes[id(child)] for child in _inner_nodes(node))
            return node
        if id(node) not in self._sizes:
            raise _mistake(f"*{alias.anchor} stands within &{alias.anchor}, which has no end", alias)
        self._repeated += self._sizes[id(node)]
        if self._repeated > MOST_REPEATED:
            raise _mistake(f"aliases repeat more than {MOST_REPEATED} values; write them out", alias)
        return node

    def compose_mapping_node(self, anchor: Any) -> yaml.MappingNode:
        """Refuse a key that is given twice; a comment, which begins with `_`, may be."""
        node = super().compose_mapping_node(anchor)
        seen = set()
        for key, _ in node.value:
            if not isinstance(key, yaml.ScalarNode):
                raise _mistake("a key is a word, not a list or a section", key)
            if key.value in seen and not key.value.startswith("_"):
                raise _mistake(f"the key {shortened(key.value)} is given twice in one section", key)
            seen.add(key.value)
        return node

    def construct_mapping(self, node: yaml.MappingNode, deep: bool = False) -> dict[Hashable, Any]:
        """A section, its keys strings as in JSON."""
        self.flatten_mapping(node)
        return {key.value: self.construct_object(value, deep) for key, value in node.value}

    def construct_integer(self, node: yaml.ScalarNode) -> int:
        """A whole number, leading zeros without a meaning."""
        digits = node.value.replace("_", "")
        base = {"0o": 8, "0x": 16}.get(digits[:2], 10)
        try:
            return int(digits, base)
        except ValueError as error:
            raise _mistake(
                f"{shortened(node.value)} is not a whole number: {_long_integer(error)}", node
            ) from None

    def construct_number(self, node: yaml.ScalarNode) -> float:
        """A number with a point or an exponent, or `.inf` and `.nan`."""
        digits = node.value.replace("_", "").lower()
        try:
            return float(re.sub(r"^([-+]?)\.(inf|nan)$", r"\1\2", digits))
        except ValueError:
            raise _mistake(f"{shortened(node.value)} is not a number", node) from None

    def construct_truth(self, node: yaml.ScalarNode) -> bool:
        """`true` or `false`."""
        if node.value.lower() not in ("true", "false"):
            raise _mistake(f"{shortened(node.value)} is neither true nor false", node)
        return node.value.lower() == "true"

    def construct_unknown(self, node: yaml.Node) -> Any:
        """A tag that only programs in another language, or other programs, know."""
        raise _mistake(f"the tag {shortened(node.tag)} has no meaning here; take it out", node)


def _inner_nodes(node: yaml.Node) -> Iterator[yaml.Node]:
    if isinstance(node, yaml.MappingNode):
        for pair in node.value:
            yield from pair
    elif isinstance(node, yaml.SequenceNode):
        yield from node.value


def _mistake(problem: str, place: Any) -> yaml.MarkedYAMLError:
    return yaml.MarkedYAMLError(problem=problem, problem_mark=place.start_mark)


_DIGITS = "[0-9]+(?:_[0-9]+)*"
_TAG = "tag:yaml.org,2002:"
_SCALARS = {
    "null": (r"~|null|Null|NULL|", "~nN", _CoreLoader.construct_yaml_null),
    "bool": (r"true|True|TRUE|false|False|FALSE", "tTfF", _CoreLoader.construct_truth),
    "int": (
        rf"[-+]?{_DIGITS}|0o[0-7]+|0x[0-9a-fA-F]+",
        "-+0123456789",
        _CoreLoader.construct_integer,
    ),
    "float": (
        rf"[-+]?(?:\.[0-9]+|{_DIGITS}(?:\.[0-9]*)?)(?:[eE][-+]?[0-9]+)?|[-+]?\.(?:inf|Inf|INF)|\.(?:nan|NaN|NAN)",
        "-+.0123456789",
        _CoreLoader.construct_number,
    ),
    "merge": ("<<", "<", _CoreLoader.construct_unknown),
}
"""The words that are no strings: their pattern, their first letters, and what is made of them."""
_CoreLoader.yaml_implicit_resolvers = {}
_CoreLoader.yaml_constructors = {
    f"{_TAG}str": _CoreLoader.construct_yaml_str,
    f"{_TAG}seq": _CoreLoader.construct_yaml_seq,
    f"{_TAG}map": _CoreLoader.construct_yaml_map,
    None: _CoreLoader.construct_unknown,
}
for _name, (_pattern, _first, _constructor) in _SCALARS.items():
    letters = ["", *_first] if _name == "null" else list(_first)
    _CoreLoader.add_implicit_resolver(f"{_TAG}{_name}", re.compile(rf"^(?:{_pattern})$"), letters)
    _CoreLoader.add_constructor(f"{_TAG}{_name}", _constructor)
