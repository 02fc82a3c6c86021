"""LAMMPS without a compiler: its own `fix external`, which asks Python for forces.

Each rank sees the copies of atoms within twice the cutoff around its part of space, and computes all
energies that an atom of its own has a part in. So nothing has to be sent home; the price is that atoms near a
border are computed by several ranks. `pair_style dpax` computes each atom once.
"""

import sys
import time
import traceback
from collections.abc import Sequence
from typing import Any, NoReturn

import numpy as np

from dpax.errors import InputError
from dpax.geometry.neighborhoods import Surroundings, neighbor_counts
from dpax.geometry.neighbors import find_edges
from dpax.infer import Potential, SubdomainPotential


def attach(
    lmp: Any,
    potential: Potential,
    elements: Sequence[str],
    *,
    fparam: Sequence[float] = (),
    aparam: Sequence[float] = (),
    skin: float = 1.0,
    name: str = "dpax",
) -> None:
    """Let a potential move the atoms of a LAMMPS object, which has a box and atoms but no pair style.

    Sets `pair_style zero`, `neighbor`, `comm_modify cutoff` and a `fix external`, whose energy and virial are
    part of LAMMPS' own. Should an evaluation fail, the whole job ends (MPI_Abort) with the reason on stderr.

    Args:
        lmp: `lammps.lammps()`, for which `from mpi4py import MPI` has been imported.
        potential: of `dpax.load`.
        elements: of LAMMPS' types of atoms.
        fparam: frame parameters, for a model that takes them.
        aparam: atomic parameters, the same for every atom, for a model that takes them.
        skin: how far neighbours are searched beyond the cutoff, Å.
        name: of the fix.

    Raises:
        InputError: units other than metal, another number of elements than of types of atoms, an element that
            the potential does not know, or another number of parameters than it takes.
    """
    units, n_types = lmp.extract_global("units"), lmp.extract_setting("ntypes")
    if units != "metal":
        raise InputError(f"LAMMPS should have units metal, not {units}")
    if len(elements) != n_types:
        raise InputError(f"LAMMPS has {n_types} types of atoms, and {len(elements)} elements are given")
    unknown = [element for element in elements if element not in potential.type_map]
    if unknown:
        raise InputError(f"the model knows {' '.join(potential.type_map)}, not {' '.join(unknown)}")
    types = np.array([-1, *(potential.type_map.index(element) for element in elements)])
    callback = _Callback(lmp, SubdomainPotential(potential, fparam, aparam), types, name)
    for command in (
        f"pair_style zero {potential.rcut} nocoeff",
        "pair_coeff * *",
        f"neighbor {skin} bin",
        f"comm_modify cutoff {2 * potential.rcut + skin}",
        f"fix {name} all external pf/callback 1 1",
        f"fix_modify {name} energy yes virial yes",
    ):
        lmp.command(command)
    lmp.set_fix_external_callback(name, callback, lmp)


class _Callback:
    """What LAMMPS calls at every step: f becomes the forces on the atoms that this rank owns."""

    def __init__(self, lmp: Any, potential: SubdomainPotential, types: np.ndarray, name: str):
        self._lmp = lmp
        self._comm = lmp.get_mpi_comm()
        self._potential = potential
        self._types = types
        self._name = name

    def __call__(
        self, _caller: Any, step: int, n_own: int, tags: np.ndarray, _own: np.ndarray, f: np.ndarray
    ) -> None:
        try:
            self._evaluate(n_own, tags, f)
        except BaseException as error:
            self._end(step, error)

    def _evaluate(self, n_own: int, tags: np.ndarray, f: np.ndarray) -> None:
        lmp, name = self._lmp, self._name
        n = n_own + lmp.extract_setting("nghost")
        positions = lmp.numpy.extract_atom("x", nelem=n, dim=3)
        types = self._types[lmp.numpy.extract_atom("type", nelem=n)]
        edges = find_edges(positions, None, (False,) * 3, self._potential.potential.rcut)
        needed = np.arange(n) < n_own
        needed[edges.j[edges.i < n_own]] = True
        used = needed[edges.i]
        i, j, vectors = edges.i[used], edges.j[used], edges.vectors[used]
        around = Surroundings(
            types[needed], neighbor_counts(i, n)[needed], types[j], vectors, self._first_type(tags, types)
        )
        energies, gradient = self._potential.evaluate(around)
        energies = energies[:n_own]  # those of copies belong to other ranks
        forces, virials = np.zeros((n, 3)), np.zeros((n, 3, 3))
        np.add.at(forces, i, gradient)
        np.add.at(forces, j, -gradient)
        shares = -vectors[:, :, None] * gradient[:, None, :]
        np.add.at(virials, j, shares)
        f[:] = forces[:n_own]
        own = np.array([energies.sum(), *_voigt(shares[i < n_own].sum(axis=0))])
        energy, *virial = self._comm.allreduce(own)
        lmp.fix_external_set_energy_global(name, energy)
        lmp.fix_external_set_virial_global(name, virial)
        lmp.numpy.fix_external_set_energy_peratom(name, energies)
        lmp.numpy.fix_external_set_virial_peratom(name, np.ascontiguousarray(_voigt(virials[:n_own])))

    def _first_type(self, tags: np.ndarray, types: np.ndarray) -> int:
        """The type of the atom with the lowest id of all ranks."""
        none = (np.iinfo(np.int64).max, 0)
        own = min(zip(tags.tolist(), types.tolist(), strict=False), default=none)
        return min(self._comm.allgather(own))[1]

    def _end(self, step: int, error: BaseException) -> NoReturn:
        """End the job: LAMMPS ignores what a callback raises and would go on with wrong forces."""
        if not isinstance(error, InputError):
            traceback.print_exc()
        message = f"ERROR on rank {self._comm.rank}: dpax, step {step}: {error}"
        print(message, file=sys.stderr, flush=True)
        time.sleep(1.0)  # a launcher throws away what is still on its way when a job is aborted
        self._comm.Abort(1)
        raise SystemExit(1)


def _voigt(virial: np.ndarray) -> np.ndarray:
    """From [..., 3, 3] to LAMMPS' xx, yy, zz, xy, xz, yz."""
    symmetric = 0.5 * (virial + np.swapaxes(virial, -1, -2))
    return symmetric[..., (0, 1, 2, 0, 0, 1), (0, 1, 2, 1, 2, 2)]
