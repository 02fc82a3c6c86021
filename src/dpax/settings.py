"""The base of every settings class.

Each part of dpax has its own settings class beside the code that it configures. All of them share
this base: they are frozen, know no key that is not declared, treat keys that start with `_`
as comments, accept DeePMD-kit's alternative spellings, and report every mistake with its dotted path.
"""

import difflib
import typing
from collections.abc import Iterator, Mapping
from typing import Any, ClassVar, NamedTuple, Self

from pydantic import (
    BaseModel,
    ConfigDict,
    ValidationError,
    ValidationInfo,
    field_validator,
    model_validator,
)

from dpax.errors import InputError, shortened

MOST_MISTAKES = 10
"""Mistakes of a section that are spelled out."""
_LONGEST = 500
"""Characters of one mistake; a longer one loses its middle."""


class Refused(NamedTuple):
    """A key of DeePMD-kit that is accepted only at a neutral value."""

    neutral: tuple[Any, ...] = (None,)
    """The values that mean "not used"."""
    reason: str = "not supported yet by dpax"
    """Why any other value is refused, for the error message."""


class _RaisesInputError(type(BaseModel)):
    """Lets `SomeSettings(key=value)` fail with `InputError`.

    The conversion cannot stand in `__init__`: pydantic would then call it for nested sections too,
    and the path from the root would be lost.
    """

    def __call__(cls, *args: Any, **keywords: Any) -> Any:
        try:
            return super().__call__(*args, **keywords)
        except ValidationError as error:
            raise InputError(explain(typing.cast(type[BaseModel], cls), error)) from None


class Settings(BaseModel, metaclass=_RaisesInputError):
    """Base of all settings: frozen, unknown keys forbidden, mistakes reported as `InputError`."""

    model_config = ConfigDict(frozen=True, extra="forbid", allow_inf_nan=False, validate_default=True)

    ALIASES: ClassVar[Mapping[str, str]] = {}
    """Other accepted spellings of a key, and the key each stands for."""
    REFUSED: ClassVar[Mapping[str, Refused]] = {}
    """Keys that are accepted at a neutral value only."""
    DEPRECATED: ClassVar[Mapping[str, str]] = {}
    """Keys that a validator of the class still reads, and what to write instead."""
    IGNORED: ClassVar[Mapping[str, str]] = {}
    """Keys that are accepted at any value, and why each can change no result of dpax."""

    @classmethod
    def model_validate(cls, obj: Any, **options: Any) -> Self:
        """Build the settings from a plain dictionary.

        Raises:
            InputError: any mistake in it; the message lists all of them with their dotted paths.
        """
        try:
            return super().model_validate(obj, **options)
        except ValidationError as error:
            raise InputError(explain(cls, error)) from None

    def changed(self, **values: Any) -> Self:
        """The same with other values, which are checked."""
        return type(self).model_validate({**dict(self), **values})

    @classmethod
    def from_plain(cls, tree: Mapping[str, Any]) -> Self:
        """Build the settings from JSON types; each value must have its own type.

        Raises:
            InputError: any mistake in it.
        """
        values = {}
        for key, value in tree.items():
            section = _section(cls, key)
            if section is not None and issubclass(section, Settings) and isinstance(value, Mapping):
                try:
                    values[key] = section.from_plain(value)
                except InputError as error:
                    raise InputError(f"{key}: {error}") from None
            else:
                values[key] = as_tuples(value)
        return cls.model_validate(values, strict=True)

    @model_validator(mode="before")
    @classmethod
    def _accept_deepmd_spelling(cls, data: Any) -> Any:
        """Drop comments and neutral keys, rename aliases; what stays unknown is refused later."""
        if not isinstance(data, Mapping):
            return data
        renamed: dict[str, Any] = {}
        for key, value in data.items():
            if str(key).startswith("_") or key in cls.IGNORED or cls._is_neutral(key, value):
                continue
            name = cls.ALIASES.get(key, key)
            renamed[key if name in data else name] = value
        return renamed

    @field_validator("*", mode="before")
    @classmethod
    def _numbers_are_numbers(cls, value: Any, info: ValidationInfo) -> Any:
        """Refuse what Python and pydantic take for a number: true for 1; and integers beyond 64 bits."""
        truth_is_meant = _mentions_bool(cls.model_fields[str(info.field_name)].annotation)
        for number in _scalars(value):
            if isinstance(number, bool) and not truth_is_meant:
                raise ValueError(f"should not be true or false, got {shortened(value)}")
            if isinstance(number, int) and abs(number) >= 2**63:
                raise ValueError(f"should be a smaller number, got {shortened(number)}")
        return value

    @classmethod
    def _is_neutral(cls, key: str, value: Any) -> bool:
        return key in cls.REFUSED and value in cls.REFUSED[key].neutral

    def resolved(self) -> dict[str, Any]:
        """All values, defaults included, as plain JSON types; reading them again gives the same settings."""
        return self.model_dump(mode="json")


def as_tuples(value: Any) -> Any:
    """Lists as tuples, those in lists too."""
    return tuple(map(as_tuples, value)) if isinstance(value, (list, tuple)) else value


def _mentions_bool(annotation: Any) -> bool:
    return annotation in (bool, Any) or any(map(_mentions_bool, typing.get_args(annotation)))


def _scalars(value: Any) -> Iterator[Any]:
    if isinstance(value, list | tuple):
        for item in value:
            yield from _scalars(item)
    else:
        yield value


# Explaining mistakes


def explain(settings: type[BaseModel], error: ValidationError) -> str:
    """Turn pydantic's report into one line: every mistake with its path, the value and what is expected."""
    explanations: dict[str, str] = {}
    for detail in error.errors():
        # A default that waits for another key is not a second mistake when that key is wrong.
        if detail["type"] == "default_factory_not_called":
            continue
        owner, path = _locate(settings, detail["loc"])
        explanations.setdefault(path, _describe(settings, owner, detail))
    mistakes = [_clipped(f"{path}: {message}" if path else message) for path, message in explanations.items()]
    if len(mistakes) == 1:
        return mistakes[0]
    shown = "; ".join(f"({n}) {text}" for n, text in enumerate(mistakes[:MOST_MISTAKES], 1))
    first = f", the first {MOST_MISTAKES}" if len(mistakes) > MOST_MISTAKES else ""
    return f"{len(mistakes)} mistakes{first}: {shown}"


def _locate(settings: type[BaseModel], location: tuple[int | str, ...]) -> tuple[type[BaseModel], str]:
    """The section that holds the last key of a location, and the dotted path of that key."""
    owner: type[BaseModel] = settings
    section: type[BaseModel] | None = settings
    path = ""
    for part in location:
        if isinstance(part, int):
            path += f"[{part}]"
        elif section is not None:
            owner, section = section, _section(section, part)
            path += f".{part}" if path else part
        # Names below a plain value are pydantic's labels of a union's branches, not keys.
    return owner, path


def _section(settings: type[BaseModel], key: str) -> type[BaseModel] | None:
    """The settings class of a key that is a section of its own."""
    field = settings.model_fields.get(key)
    if field is None:
        return None
    candidates = (field.annotation, *typing.get_args(field.annotation))
    return next((c for c in candidates if isinstance(c, type) and issubclass(c, BaseModel)), None)


def _describe(root: type[BaseModel], owner: type[BaseModel], detail: Any) -> str:
    got = shortened(detail["input"])
    match detail["type"]:
        case "extra_forbidden":
            return _describe_unknown(root, owner, str(detail["loc"][-1]), got)
        case "missing":
            field = owner.model_fields[str(detail["loc"][-1])]
            return f"is required and was not given ({field.description})"
        case "value_error":
            return str(detail["ctx"]["error"])
        case "literal_error":
            return f"should be {detail['ctx']['expected']}, got {got}"
        case "model_type" | "model_attributes_type" | "dict_type":
            return f"should be a section with keys of its own, got {got}"
        case "tuple_type":
            return f"should be a list, got {got}"
    return f"{detail['msg'].removeprefix('Input ')}, got {got}"


def _describe_unknown(root: type[BaseModel], owner: type[BaseModel], key: str, got: str) -> str:
    section = owner if issubclass(owner, Settings) else Settings
    if key in section.REFUSED:
        return f"{got} is {section.REFUSED[key].reason}"
    if key in section.ALIASES:
        return f"means the same as {section.ALIASES[key]}, which is given too; keep one of them"
    known = [*owner.model_fields, *section.ALIASES, *section.REFUSED, *section.DEPRECATED]
    close = difflib.get_close_matches(key, known, n=1, cutoff=0.6)
    if close:
        return f"unknown key; did you mean {section.ALIASES.get(close[0], close[0])}?"
    homes = list(_homes(root, key))
    if homes:
        return f"unknown key; it belongs to {' or '.join(homes)}"
    return f"unknown key; known here are {', '.join(sorted(owner.model_fields))}"


def _homes(settings: type[BaseModel], key: str, path: str = "") -> Iterator[str]:
    """The dotted paths of the sections that have this key."""
    if path and key in settings.model_fields:
        yield path
    for name in settings.model_fields:
        section = _section(settings, name)
        if section is not None:
            yield from _homes(section, key, f"{path}.{name}" if path else name)


def _clipped(text: str) -> str:
    half = _LONGEST // 2
    return text if len(text) <= _LONGEST else f"{text[:half]} ... {text[-half:]}"
