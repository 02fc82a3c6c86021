"""A potential evaluated by a program that finds neighbours itself and owns only a part of the atoms.

LAMMPS is one: each of its processes knows the atoms of its part of space and copies of those around it. A
program compiled for array sizes serves as long as the number of atoms and of neighbours stays near them.
"""

import threading
from collections.abc import Sequence

import numpy as np

from dpax.data import CapacityPlanner
from dpax.data.capacity import cost
from dpax.errors import InputError
from dpax.geometry.neighborhoods import Capacity, Surroundings, capacity_needed, pack
from dpax.infer.potential import Potential

_PROGRAMS = 12
"""Array sizes to compile for before one size must serve parts much smaller than it."""
_ROOM = 1.05
"""Atoms come and go: arrays are longer than needed by this, so that a few more need no other program."""
_WASTE = 1.6
"""Arrays are exchanged for smaller ones where these would cost less by this factor."""
_BLOCK = 8
"""Atoms of each device are a multiple of it, so that blocks of many sizes divide them."""


class SubdomainPotential:
    """Atomic energies and their derivatives for atoms with neighbours that are given.

    Args:
        potential: evaluated on its own devices.
        fparam: frame parameters, for a model that takes them; none means the default of the model.
        aparam: atomic parameters, the same for every atom, for a model that takes them.

    Raises:
        InputError: another number of parameters than the model takes.
    """

    def __init__(self, potential: Potential, fparam: Sequence[float] = (), aparam: Sequence[float] = ()):
        self.potential = potential
        of_frames, of_atoms, default = potential.model.spec.parameter_widths
        expected = [*_expected("fparam", fparam or default or (), of_frames)]
        self._parameters = np.array([*expected, *_expected("aparam", aparam, of_atoms)], np.float64)
        self._planner = CapacityPlanner(atom_multiple=_BLOCK * potential.n_devices, programs=_PROGRAMS)
        self._capacity = Capacity(0, 0)
        self._lock = threading.Lock()

    def evaluate(self, around: Surroundings) -> tuple[np.ndarray, np.ndarray]:
        """Atomic energies, [atoms], eV, and dE/d(r_j - r_i) of each pair, [pairs, 3], eV/Å.

        The energy of all atoms of a structure is the sum over its parts; the force on an atom is the sum of
        the derivatives of the pairs that it is the first atom of, less that of those it is the second of.
        """
        n = len(around.types)
        if n == 0:
            return np.zeros(0), np.zeros((0, 3))
        capacity = self._fitting(*capacity_needed([around]))
        parameters = np.broadcast_to(self._parameters, (n, len(self._parameters)))
        neighborhoods = pack([around], capacity, self.potential.model.dtype, parameters=[parameters])
        energies, gradient = self.potential.edge_gradients(neighborhoods)
        occupied = np.asarray(neighborhoods.neighbors) >= 0
        return energies[:n], np.asarray(gradient[occupied], np.float64)

    def _fitting(self, atoms: int, slots: int) -> Capacity:
        """The sizes of the last evaluation as long as they hold the need and waste little."""
        with self._lock:
            now, need = self._capacity, Capacity(atoms, slots)
            holds = now.atoms >= atoms and now.slots >= slots
            if not (holds and cost(now) <= _WASTE * cost(need)):
                self._capacity = self._planner.fit(int(_ROOM * atoms), slots)
            return self._capacity


def _expected(name: str, values: Sequence[float], number: int) -> Sequence[float]:
    if len(values) != number:
        raise InputError(f"the model takes {number or 'no'} {name}, got {len(values)} numbers")
    return values
