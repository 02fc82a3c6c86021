"""Training DPA-1 models."""

import sys
from types import ModuleType
from typing import Any

from dpax.train.loop import TrainResult as TrainResult
from dpax.train.loop import train as train
from dpax.train.settings import InputSettings as InputSettings
from dpax.train.settings import read_settings as read_settings


class _Room(ModuleType):
    """This module, made callable: `dpax.train(…)` is `dpax.train.train(…)`.

    Python sets a submodule as an attribute of its package when it is imported, so the name `dpax.train` is
    this module's as soon as anything of the room is in use, whatever the package itself says.
    """

    def __call__(self, *args: Any, **kwargs: Any) -> TrainResult:
        return train(*args, **kwargs)


sys.modules[__name__].__class__ = _Room
