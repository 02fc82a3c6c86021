"""The formats that are fuzzed, by name; each is imported when it is first used."""

from importlib import import_module
from importlib.util import find_spec

from ..target import Target

NAMES = {
    "json": "settings",
    "yaml": "settings",
    "toml": "settings",
    "npy": "systems",
    "hdf5": "systems",
    "hdf5-content": "systems",
    "lmdb": "systems",
    "lmdb-content": "systems",
    "extxyz": "structures",
    "pair-table": "small_files",
    "list": "small_files",
    "dpax": "models",
    "dpax-first": "models",
    "dp": "models",
    "deepmd-yaml": "models",
    "hlo": "models",
    "jax": "models",
    **({"pt": "models", "pth": "models"} if find_spec("torch") else {}),
    "md-checkpoint": "checkpoints",
    "training-checkpoint": "checkpoints",
    "statistics": "checkpoints",
}
"""The name of every target, and the module in this folder that has it in its `TARGETS`."""


def target_named(name: str) -> Target:
    """The target of a name."""
    module = import_module(f".{NAMES[name]}", __name__)
    return next(target for target in module.TARGETS if target.name == name)
