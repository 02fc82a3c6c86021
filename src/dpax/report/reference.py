"""The reference of all settings, written from the settings classes themselves.

python -m dpax.report.reference > docs/settings.md

With the argument `keys` it prints the lists of docs/coming-from-deepmd-kit.md instead.
"""

import json
import sys
import typing
from collections.abc import Iterator, Mapping

from pydantic.fields import FieldInfo
from pydantic_core import PydanticUndefined

from dpax.settings import Settings
from dpax.train.settings import InputSettings

_INTRODUCTION = """# Settings

An input file is JSON, YAML or TOML. Its keys are those of DeePMD-kit's input file, so a DPA-1
`input.json` of DeePMD-kit is an input file of dpax; what dpax adds is marked or stands in the section
`dpax`. Energies are in eV, lengths in Å. A key that starts with `_` is a comment. `dpax validate`
checks an input file and its data before anything is trained.

This page is written by `python -m dpax.report.reference`.
"""


def reference(settings: type[Settings] = InputSettings) -> str:
    """The reference of a settings class and its sections, in Markdown."""
    return "\n".join([_INTRODUCTION, *_sections(settings, "")])


def keys_without_effect(settings: type[Settings] = InputSettings) -> str:
    """Tables of all keys of DeePMD-kit that are refused or ignored, with the reasons, in Markdown."""
    refused, ignored = {}, {}
    for path, section in _all_sections(settings, ""):
        refused |= {f"{path}{key}": refusal.reason for key, refusal in section.REFUSED.items()}
        ignored |= {f"{path}{key}": reason for key, reason in section.IGNORED.items()}
    titles = (("refused unless it asks for nothing", refused), ("accepted, without effect", ignored))
    return "\n".join(line for title, reasons in titles for line in _reasons(title, reasons))


def _all_sections(settings: type[Settings], path: str) -> Iterator[tuple[str, type[Settings]]]:
    """Every settings class, with what comes before its keys in a dotted path."""
    yield path, settings
    for name, field in settings.model_fields.items():
        section = _section(field)
        if section is not None:
            yield from _all_sections(section, f"{path}{name}.")


def _sections(settings: type[Settings], path: str) -> Iterator[str]:
    yield f"## {f'`{path}`' if path else 'The input file'}\n"
    yield f"{_paragraphs(settings.__doc__)}\n"
    inner = {name: _section(field) for name, field in settings.model_fields.items()}
    if settings.model_fields:
        yield "| key | default | meaning |"
        yield "| --- | --- | --- |"
        for name, field in settings.model_fields.items():
            yield f"| `{name}` | {_default(field, inner[name])} | {_cell(field.description)} |"
        yield ""
    yield from _other_keys(settings)
    for name, section in inner.items():
        if section is not None:
            yield from _sections(section, f"{path}.{name}" if path else name)


def _other_keys(settings: type[Settings]) -> Iterator[str]:
    if settings.ALIASES:
        pairs = ", ".join(f"`{alias}` for `{name}`" for alias, name in settings.ALIASES.items())
        yield f"Other spellings: {pairs}.\n"
    if settings.DEPRECATED:
        pairs = ", ".join(f"`{key}` (write `{new}`)" for key, new in settings.DEPRECATED.items())
        yield f"Deprecated, but read: {pairs}.\n"
    if settings.REFUSED:
        reasons = {key: refused.reason for key, refused in settings.REFUSED.items()}
        yield from _reasons("refused unless it asks for nothing", reasons)
    if settings.IGNORED:
        yield from _reasons("accepted, without effect", settings.IGNORED)


def _reasons(title: str, reasons: Mapping[str, str]) -> Iterator[str]:
    yield f"| {title} | why |"
    yield "| --- | --- |"
    for key, reason in reasons.items():
        yield f"| `{key}` | {_cell(reason.removeprefix('refused: '))} |"
    yield ""


def _section(field: FieldInfo) -> type[Settings] | None:
    candidates = (field.annotation, *typing.get_args(field.annotation))
    return next((c for c in candidates if isinstance(c, type) and issubclass(c, Settings)), None)


def _default(field: FieldInfo, section: type[Settings] | None) -> str:
    if field.is_required():
        return "required"
    if section is not None:
        return "" if field.default is PydanticUndefined else "none"
    if field.default is PydanticUndefined:
        return "see there"
    return "unset" if field.default is None else f"`{json.dumps(field.default)}`"


def _cell(description: str | None) -> str:
    return (description or "").replace("|", "\\|")


def _paragraphs(text: str | None) -> str:
    return "\n".join(line.strip() for line in (text or "").strip().splitlines())


if __name__ == "__main__":
    print(keys_without_effect() if sys.argv[1:] == ["keys"] else reference(), end="")
