"""dpax's first model file: DeePMD-kit's dictionary with each array replaced by {"@array": name}."""

from typing import Any

from dpax.deepmd.model_dictionary import read_model
from dpax.model.energy_model import EnergyModel
from dpax.model.file import ModelFile

VERSION = 1


def first_model_in(file: ModelFile) -> EnergyModel:
    """The model in a file of the first format.

    Raises:
        InputError: as `read_model`.
    """
    return read_model(_with_arrays(file.model, file))


def _with_arrays(tree: Any, file: ModelFile) -> Any:
    if isinstance(tree, dict):
        if set(tree) == {"@array"}:
            return file.arrays[tree["@array"]]
        return {key: _with_arrays(value, file) for key, value in tree.items()}
    return [_with_arrays(value, file) for value in tree] if isinstance(tree, list) else tree
