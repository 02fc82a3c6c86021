"""The formats that are fuzzed, by name; each is imported when it is first used."""

from importlib import import_module

from ..target import Target

NAMES = {
    "json": "settings",
    "yaml": "settings",
    "toml": "settings",
}
"""The name of every target, and the module in this folder that has it in its `TARGETS`."""


def target_named(name: str) -> Target:
    """The target of a name."""
    module = import_module(f".{NAMES[name]}", __name__)
    return next(target for target in module.TARGETS if target.name == name)
