"""dpax: from quantum-mechanical data to molecular dynamics with a DPA-1 potential, in pure JAX.

The names below are loaded when first used, so that importing dpax is instant and touches no device.
"""

from importlib import import_module
from typing import TYPE_CHECKING, Any

import dpax.computing  # noqa: F401  # watches forks from now on
from dpax.errors import InputError as InputError
from dpax.version import __version__ as __version__

if TYPE_CHECKING:
    from dpax.infer import Potential as Potential
    from dpax.interfaces.ase import Calculator as Calculator
    from dpax.interfaces.model_files import load as load
    from dpax.machine import configure as configure
    from dpax.train import train as train

__all__ = ["Calculator", "InputError", "Potential", "__version__", "configure", "load", "train"]

_LAZY = {
    "Calculator": "dpax.interfaces.ase",
    "Potential": "dpax.infer",
    "configure": "dpax.machine",
    "load": "dpax.interfaces.model_files",
    "train": "dpax.train",
}


def __getattr__(name: str) -> Any:
    if name in _LAZY:
        return getattr(import_module(_LAZY[name]), name)
    raise AttributeError(f"module 'dpax' has no attribute {name!r}")


def __dir__() -> list[str]:
    return __all__
