"""What a simulation that has blown up looks like."""

from typing import Any

import ase
import numpy as np

from dpax.geometry.neighbors import find_edges
from dpax.simulate.settings import MDSettings

CLOSE = 0.8
"""Atoms closer than this part of the smallest distance in the training data count as blown up."""
MIN_DISTANCE = 0.5
"""Å, where the model does not state the smallest distance in its training data."""
HOT, HOT_ENOUGH = 10.0, 5000.0
"""Times the highest temperature asked for, and K: the higher is the limit."""
STEPS_BETWEEN_SEARCHES = 10
"""A search for close atoms costs more than the other checks, and a collapse takes some steps."""


class Guard:
    """Looks after every step whether the atoms still behave like atoms.

    Args:
        settings: of the simulation; what they leave open is chosen here.
        provenance: of the model; its `min_nbor_dist` is the smallest distance in the training data, Å.
        kelvin: temperature at the beginning.
    """

    def __init__(self, settings: MDSettings, provenance: dict[str, Any], kelvin: float):
        highest = max([kelvin, *(settings.temperature or ())])
        self.max_temperature = settings.max_temperature or max(HOT * highest, HOT_ENOUGH)
        if settings.min_distance is not None:
            self.min_distance = settings.min_distance
        else:
            seen = provenance.get("min_nbor_dist")
            self.min_distance = CLOSE * seen if seen else MIN_DISTANCE

    def complaint(self, atoms: ase.Atoms, step: int) -> str | None:
        """What is wrong with the atoms after a step, if anything is."""
        forces = atoms.get_forces(apply_constraint=False)
        if not np.isfinite(forces).all():
            atom = int(np.flatnonzero(~np.isfinite(forces).all(axis=1))[0])
            return f"the force on atom {atom} (counted from 0) is NaN or infinite"
        kelvin = atoms.get_temperature()
        if not kelvin <= self.max_temperature:
            return (
                f"the temperature is {kelvin:.4g} K, above the limit of {self.max_temperature:.4g} K "
                "(--max-temperature)"
            )
        return None if step % STEPS_BETWEEN_SEARCHES else self._close_pair(atoms)

    def _close_pair(self, atoms: ase.Atoms) -> str | None:
        edges = find_edges(atoms.positions, atoms.cell.array, atoms.pbc, self.min_distance)
        if not len(edges.i):
            return None
        lengths = np.linalg.norm(edges.vectors, axis=1)
        pair = int(lengths.argmin())
        named = [f"{atom} ({atoms.symbols[atom]})" for atom in (int(edges.i[pair]), int(edges.j[pair]))]
        return (
            f"the atoms {' and '.join(named)}, counted from 0, are {lengths[pair]:.3f} Å apart, closer than "
            f"the limit of {self.min_distance:.3g} Å (--min-distance)"
        )
