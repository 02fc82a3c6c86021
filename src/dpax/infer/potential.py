"""A trained model, ready to be evaluated on structures."""

import threading
import uuid
from collections import deque
from collections.abc import Sequence
from typing import Any, overload
from weakref import WeakValueDictionary

import ase
import numpy as np
from numpy.typing import ArrayLike

from dpax.data import Frame
from dpax.geometry.neighborhoods import Neighborhoods
from dpax.infer.computation import Computation
from dpax.infer.evaluation import Evaluation
from dpax.infer.once import once
from dpax.infer.parcel import Parcel
from dpax.infer.parcel import pack as pack_parcel
from dpax.infer.preparation import Demands, Preparation, demands
from dpax.model.energy_model import EnergyModel

_UNPICKLED = 4
"""Potentials from pickles that are kept: a worker's next task mostly brings one of them again."""


class Potential:
    """A DPA-1 potential.

    Programs are compiled for array sizes, not for structures: a structure that fits sizes used before is
    evaluated without compiling anything. Where structures come one at a time, their neighbour lists are
    reused as long as the atoms have hardly moved; no result depends on that.

    Threads may share a potential. It can be pickled: where it arrives it compiles its own programs, once for
    all pickles of the same potential, and leaves JAX alone until something is computed.

    Args:
        model: the model.
        provenance: where it comes from.
        devices: JAX devices that share the work; all local ones by default.
        block_size: most atoms computed at a time on a device; None chooses for the machine.
    """

    def __init__(
        self,
        model: EnergyModel,
        provenance: dict[str, Any] | None = None,
        devices: list[Any] | None = None,
        block_size: int | None = None,
    ):
        self._prepare(uuid.uuid4().hex, provenance or {}, block_size)
        vars(self).update(model=model, _devices=devices)

    def _prepare(self, name: str, provenance: dict[str, Any], block_size: int | None) -> None:
        """Everything but the model and the devices, or instead of them a parcel."""
        self.provenance = provenance
        self._block_size = block_size
        self._name = name
        self._lock = threading.RLock()

    def __deepcopy__(self, memo: dict[int, Any]) -> "Potential":
        """The potential itself: it never changes, and a copy would compile everything again."""
        return self

    def __reduce__(self) -> tuple[Any, ...]:
        parcel = self._parcel
        if "preparation" in vars(self):
            parcel = parcel._replace(capacities=self.capacities)
        with _POTENTIALS_LOCK:
            _POTENTIALS[self._name] = self
        return _unpickled, (self._name, parcel)

    @once
    def model(self) -> EnergyModel:
        """The model."""
        return self._parcel.model

    @once
    def _devices(self) -> list[Any] | None:
        return self._parcel.local_devices()

    @once
    def _parcel(self) -> Parcel:
        """A potential is made from this or from its parts, which make this."""
        return pack_parcel(self.model, self.provenance, self._devices, self._block_size)

    @once
    def computation(self) -> Computation:
        """The half of an evaluation that needs weights."""
        return Computation(self.model, self._devices, self._block_size)

    @once
    def demands(self) -> Demands:
        """What it asks of structures; potentials that ask the same can share prepared ones."""
        return demands(self.model, self.n_devices)

    @once
    def preparation(self) -> Preparation:
        """The half of an evaluation that needs no weights."""
        arrived = vars(self).get("_parcel")
        return Preparation(self.demands, None if arrived is None else arrived.capacities)

    @property
    def type_map(self) -> tuple[str, ...]:
        """Element symbols that the potential knows."""
        return self.model.type_map

    @property
    def rcut(self) -> float:
        """Cut-off radius, Å."""
        return self.model.rcut

    @property
    def n_devices(self) -> int:
        """The number of devices that share the work."""
        return self.computation.mesh.size

    @property
    def settings(self) -> dict[str, Any]:
        """The model's description, as plain JSON types."""
        return self.model.spec.model_dump(mode="json")

    @property
    def capacities(self) -> dict[str, Any]:
        """The array sizes used so far, as integers that JSON can hold.

        Sums over arrays of another size may differ in the last bit: a simulation that is to go on exactly as
        it would have gone on sets them again.
        """
        return self.preparation.capacities

    @capacities.setter
    def capacities(self, state: dict[str, Any]) -> None:
        self.preparation.capacities = state

    @overload
    def evaluate(
        self,
        structures: ase.Atoms | Frame,
        *,
        atomic_virials: bool = False,
        fparam: ArrayLike | None = None,
        aparam: ArrayLike | None = None,
    ) -> Evaluation: ...

    @overload
    def evaluate(
        self,
        structures: Sequence[ase.Atoms | Frame],
        *,
        atomic_virials: bool = False,
        fparam: ArrayLike | None = None,
        aparam: ArrayLike | None = None,
    ) -> list[Evaluation]: ...

    def evaluate(
        self,
        structures: Any,
        *,
        atomic_virials: bool = False,
        fparam: ArrayLike | None = None,
        aparam: ArrayLike | None = None,
    ) -> Evaluation | list[Evaluation]:
        """Energy, atomic energies, forces and virial of one structure, or of each of several.

        Args:
            structures: ASE's atoms, or frames whose types are indices of this potential's `type_map`.
            atomic_virials: compute each atom's share of the virial too.
            fparam: for a model that takes parameters of frames, one number or [fparam], the same for all
                structures. Without it each structure says its own (`atoms.info["fparam"]`).
            aparam: for a model that takes parameters of atoms, [atoms, aparam] or [aparam] for all atoms.
                Without it each structure says its own (`atoms.arrays["aparam"]`).

        Raises:
            InputError: an element that the potential does not know, atoms at the same position, a
                structure without atoms or without parameters that the model takes; in a list the message
                says which structure.
        """
        inputs = {"fparam": fparam, "aparam": aparam}
        if isinstance(structures, (ase.Atoms, Frame)):
            frame = self.preparation.frame(structures, "structure", **inputs)
            return self._evaluate([frame], atomic_virials)[0]
        frames = [
            self.preparation.frame(structure, f"structure {number}", **inputs)
            for number, structure in enumerate(structures)
        ]
        return self._evaluate(frames, atomic_virials)

    def _evaluate(self, frames: Sequence[Frame], atomic_virials: bool) -> list[Evaluation]:
        return [
            evaluation
            for prepared in self.preparation.prepare(frames)
            for evaluation in self.computation.evaluate(prepared, atomic_virials=atomic_virials)
        ]

    def hessian(
        self,
        structure: ase.Atoms | Frame,
        *,
        fparam: ArrayLike | None = None,
        aparam: ArrayLike | None = None,
    ) -> np.ndarray:
        """Second derivatives of the energy with respect to the positions, [3·atoms, 3·atoms], eV/Å².

        Every number of atoms has a program of its own: each atom that only pads the array would cost as
        much as a real one.

        Args:
            structure: as for `evaluate`.
            fparam: as for `evaluate`.
            aparam: as for `evaluate`.

        Raises:
            InputError: as `evaluate`.
        """
        frame = self.preparation.frame(structure, "structure", fparam, aparam)
        return self.computation.hessian(self.preparation.prepare_exactly(frame))

    def descriptors(self, structures: Sequence[ase.Atoms | Frame]) -> list[np.ndarray]:
        """The descriptor of every atom, as the fitting net sees it.

        Args:
            structures: as for `evaluate`.

        Returns:
            Of each structure an array [atoms, width] in the descriptor's own precision.

        Raises:
            InputError: as `evaluate`.
        """
        frames = [
            self.preparation.frame(structure, f"structure {number}")
            for number, structure in enumerate(structures)
        ]
        groups = map(self.computation.descriptors, self.preparation.prepare(frames))
        return [rows for group in groups for rows in group]

    def edge_gradients(self, neighborhoods: Neighborhoods) -> tuple[np.ndarray, np.ndarray]:
        """What forces and virials are sums of, for atoms whose neighbours somebody else has found.

        A program is compiled for every size of the arrays.

        Args:
            neighborhoods: atoms of any frames; their number is a multiple of `n_devices`.

        Returns:
            Atomic energies, float64 [atoms], eV, and dE/d(r_j - r_i), [atoms, slots, 3], eV/Å.
        """
        return self.computation.edge_gradients(neighborhoods)


_POTENTIALS: WeakValueDictionary[str, Potential] = WeakValueDictionary()
"""Those that were pickled here or came from a pickle, by name."""
_RECENT: deque[Potential] = deque(maxlen=_UNPICKLED)
_POTENTIALS_LOCK = threading.Lock()


def _unpickled(name: str, parcel: Parcel) -> Potential:
    """The potential in a pickle: the same one for all pickles of it, so that it compiles once.

    JAX is left alone. In a process that must not compute, an error while a task is unpickled would break a
    pool of workers, and one that comes when the task computes is reported.
    """
    with _POTENTIALS_LOCK:
        potential = _POTENTIALS.get(name)
        if potential is None:
            potential = Potential.__new__(Potential)
            potential._prepare(name, parcel.provenance, parcel.block_size)
            vars(potential)["_parcel"] = parcel
            _POTENTIALS[name] = potential
            _RECENT.append(potential)
        return potential
