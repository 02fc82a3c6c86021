"""The potential inside i-PI, without a socket: a driver for its `<ffdirect>`.

i-PI loads it from a file of the user's with three lines (examples/ipi/dpax_pes.py).
"""

import json
import os
from collections.abc import Sequence
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
from ipi.pes.dummy import Dummy_driver
from ipi.utils.units import unit_to_internal, unit_to_user

from dpax.data.structure_files import iterate_structures
from dpax.errors import InputError
from dpax.infer import Evaluation
from dpax.interfaces.model_files import load

Answer = tuple[Any, Any, Any, str]
"""Energy, forces and virial in atomic units, and a note; i-PI declares its conversions for single numbers."""
_angstrom: Any = partial(unit_to_user, "length", "angstrom")
_internal: Any = unit_to_internal


class Driver(Dummy_driver):
    """What i-PI asks for energy, forces and virial, in its atomic units.

    With `<batch_size>` above 1 the beads of a path integral are evaluated together.

    Args:
        model: a model file of any kind that `dpax.load` reads.
        template: a file that ASE reads: the elements in i-PI's order, and where the structure is periodic.
        *args: as i-PI gives them.
        **kwargs: as i-PI gives them.

    Raises:
        InputError: the template cannot be read, or has an element that the potential does not know.
    """

    def __init__(self, model: str | os.PathLike, template: str | os.PathLike, *args: Any, **kwargs: Any):
        self.potential = load(model)
        atoms = next(iterate_structures(Path(template), str(template), -1), None)
        if atoms is None:
            raise InputError(f"{template}: holds no structure")
        self.atoms = atoms
        self.potential.evaluate(self.atoms)  # errors appear before i-PI starts
        super().__init__(*args, **kwargs)

    def compute(self, cell: Any, pos: Any) -> Any:
        """One structure, or lists of several."""
        if isinstance(cell, list):
            return self._answers(cell, pos)
        return self._answers([cell], [pos])[0]

    def _answers(self, cells: Sequence[np.ndarray], positions: Sequence[np.ndarray]) -> list[Answer]:
        structures = []
        for cell, x in zip(cells, positions, strict=True):
            structure = self.atoms.copy()
            structure.positions = _angstrom(x)
            # i-PI's lattice vectors are columns.
            structure.set_cell(_angstrom(cell.T))
            structures.append(structure)
        return [_in_atomic_units(evaluation) for evaluation in self.potential.evaluate(structures)]


def _in_atomic_units(evaluation: Evaluation) -> Answer:
    return (
        _internal("energy", "electronvolt", evaluation.energy),
        _internal("force", "ev/ang", evaluation.forces),
        _internal("energy", "electronvolt", evaluation.virial),
        json.dumps({}),
    )
