"""A potential evaluated by a program that finds neighbours itself and owns only a part of the atoms.

LAMMPS is one: each of its processes knows the atoms of its part of space and copies of those around it. A
program compiled for array sizes serves as long as the number of atoms and of neighbours stays near them.
"""

import threading
from collections.abc import Sequence
from typing import NamedTuple

import numpy as np

from dpax.data import CapacityPlanner
from dpax.data.capacity import cost
from dpax.errors import InputError
from dpax.geometry.neighbors import Capacity, Neighborhoods, slots_needed
from dpax.infer.potential import Potential

_PROGRAMS = 12
"""Array sizes to compile for before one size must serve parts much smaller than it."""
_ROOM = 1.05
"""Atoms come and go: arrays are longer than needed by this, so that a few more need no other program."""
_WASTE = 1.6
"""Arrays are exchanged for smaller ones where these would cost less by this factor."""
_BLOCK = 8
"""Atoms of each device are a multiple of it, so that blocks of many sizes divide them."""


class Surroundings(NamedTuple):
    """Some atoms and their neighbours within the cut-off, atom by atom."""

    types: np.ndarray
    """int [atoms], indices of the potential's `type_map`."""
    counts: np.ndarray
    """int [atoms], the number of neighbours of each atom."""
    neighbor_types: np.ndarray
    """int [pairs]."""
    vectors: np.ndarray
    """[pairs, 3], r_j - r_i, Å."""
    first_type: int
    """The type of the first atom of the structure, which stands in empty slots."""


class SubdomainPotential:
    """Atomic energies and their derivatives for atoms with neighbours that are given.

    Args:
        potential: evaluated on its own devices.
        fparam: what a model that takes parameters of frames is told; none means its own default.
        aparam: what a model that takes parameters of atoms is told of every atom.

    Raises:
        InputError: another number of parameters than the model takes.
    """

    def __init__(self, potential: Potential, fparam: Sequence[float] = (), aparam: Sequence[float] = ()):
        self.potential = potential
        of_frames, of_atoms, default = potential.model.spec.parameter_widths
        told = [*_expected("fparam", fparam or default or (), of_frames)]
        self._parameters = np.array([*told, *_expected("aparam", aparam, of_atoms)], np.float64)
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
        capacity = self._fitting(n, slots_needed(around.counts))
        counts = np.zeros(capacity.atoms, np.int64)
        counts[:n] = around.counts
        occupied = np.arange(capacity.slots) < counts[:, None]
        edges = np.zeros((*capacity, 3), self.potential.model.dtype)
        edges[occupied] = around.vectors
        neighbor_types = np.full(capacity, around.first_type, np.int32)
        neighbor_types[occupied] = around.neighbor_types
        types = np.full(capacity.atoms, -1, np.int32)
        types[:n] = around.types
        parameters = np.broadcast_to(self._parameters, (capacity.atoms, len(self._parameters)))
        # Which atoms the neighbours are is the caller's business: forces are not summed up here.
        neighbors = np.where(occupied, np.int32(0), np.int32(-1))
        arrays = (edges, neighbors, neighbor_types, types, np.zeros_like(types), parameters)
        energies, gradient = self.potential.edge_gradients(Neighborhoods(*arrays))  # pyright: ignore
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
