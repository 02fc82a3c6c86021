"""DeePMD-kit's own argument definitions of the sections that dpax reads, as a flat list of keys."""

from collections.abc import Iterator
from typing import Any, NamedTuple

import pytest

argcheck = pytest.importorskip("deepmd.utils.argcheck")

CHOICES = {
    "model": ("standard",),
    "model.descriptor": ("se_atten", "se_atten_v2"),
    "model.fitting_net": ("ener",),
    "learning_rate": ("exp", "cosine", "wsd"),
    "optimizer": ("Adam", "AdamW"),
    "loss": ("ener",),
}
"""Of each section with a `type`, the types that a DPA-1 energy model has to do with."""


class Key(NamedTuple):
    """One key of DeePMD-kit's input file."""

    section: str
    """Dotted path of the section that holds it."""
    variant: str | None
    """The type of that section of which the key is one, if not of all types."""
    name: str
    aliases: tuple[str, ...]
    default: Any
    """None where DeePMD-kit leaves it unset."""
    required: bool
    is_section: bool

    @property
    def path(self) -> str:
        return f"{self.section}.{self.name}" if self.section else self.name


class Choice(NamedTuple):
    """One value of the `type` of a section."""

    section: str
    value: str
    is_ours: bool


def keys() -> list[Key]:
    """Every key of DeePMD-kit's input file in the sections of an energy model with a DPA-1 descriptor."""
    return [key for argument in argcheck.gen_args() for key in _keys(argument, "", None)]


def choices() -> list[Choice]:
    """Every type of every section that has types, aliases included."""
    found = []
    for section, ours in CHOICES.items():
        for value, aliases in _types(section).items():
            found += [Choice(section, name, value in ours) for name in (value, *aliases)]
    return found


def _keys(argument: Any, section: str, variant: str | None) -> Iterator[Key]:
    yield Key(
        section,
        variant,
        argument.name,
        tuple(argument.alias or ()),
        argument.default if isinstance(argument.default, (bool, int, float, str, list, dict)) else None,
        not argument.optional,
        bool(argument.sub_fields or argument.sub_variants),
    )
    path = f"{section}.{argument.name}" if section else argument.name
    for inner in argument.sub_fields.values():
        yield from _keys(inner, path, None)
    for choice in CHOICES.get(path, ()):
        for inner in argument.sub_variants["type"].choice_dict[choice].sub_fields.values():
            yield from _keys(inner, path, None if choice == "standard" else choice)


def _types(section: str) -> dict[str, tuple[str, ...]]:
    """The types of a section with their aliases."""
    found = {argument.name: argument for argument in argcheck.gen_args()}
    outer, _, inner = section.partition(".")
    argument = found[outer]
    if inner:
        argument = argument.sub_variants["type"].choice_dict["standard"].sub_fields[inner]
    choices = argument.sub_variants["type"].choice_dict
    return {name: tuple(choice.alias or ()) for name, choice in choices.items()}
