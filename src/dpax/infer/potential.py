"""A trained model, ready to be evaluated on structures."""

import threading
import uuid
from collections import deque
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from functools import lru_cache, partial
from typing import Any, overload
from weakref import WeakValueDictionary

import ase
import jax
import numpy as np
from jax.sharding import NamedSharding, PartitionSpec
from numpy.typing import ArrayLike

from dpax.computing import computing
from dpax.data import CapacityPlanner, Frame, ParameterWidths, frame_from_atoms
from dpax.errors import InputError
from dpax.geometry.cell import volume
from dpax.geometry.neighbors import (
    Capacity,
    EdgeList,
    Neighborhoods,
    find_edges,
    neighbor_counts,
    pack,
    slots_needed,
)
from dpax.geometry.skin import SkinLists
from dpax.infer.once import once
from dpax.infer.parcel import Parcel
from dpax.infer.parcel import pack as pack_parcel
from dpax.model.blocks import compiled, default_block_size, make_mesh
from dpax.model.derivatives import (
    Prediction,
    atomic_descriptors,
    atomic_virials_from,
    edge_gradients,
    forces_from,
    hessian,
    virials_from,
)
from dpax.model.energies import ModelWeights
from dpax.model.energy_model import EnergyModel
from dpax.model.spec import ModelSpec

_ATOMS_AT_ONCE = 8192
"""Frames are put together up to this many atoms."""
_PROGRAMS = 32
"""Array sizes to compile for before one size must serve structures much smaller than it."""
_HESSIANS = 8
"""Programs of Hessians that are kept; each serves one size, and has a few MB."""
_UNPICKLED = 4
"""Potentials from pickles that are kept: a worker's next task mostly brings one of them again."""
_VOIGT = ((0, 1, 2, 1, 0, 0), (0, 1, 2, 2, 2, 1))
"""Rows and columns of xx, yy, zz, yz, xz, xy."""


@dataclass(frozen=True)
class Evaluation:
    """What a potential says of one structure."""

    energy: float
    """eV."""
    energies: np.ndarray
    """[atoms], eV."""
    forces: np.ndarray
    """[atoms, 3], eV/Å."""
    virial: np.ndarray
    """[3, 3], eV; -dE/d(strain)."""
    volume: float | None
    """Å³; None unless periodic in all directions."""
    virials: np.ndarray | None = None
    """[atoms, 3, 3], eV, where asked for; they add up to `virial`."""

    @property
    def stress(self) -> np.ndarray:
        """Stress in ASE's sign and order xx, yy, zz, yz, xz, xy, eV/Å³.

        Raises:
            InputError: the structure is not periodic in all directions, so it has no volume.
        """
        return _voigt_stress(self.virial, self.volume)

    @property
    def stresses(self) -> np.ndarray:
        """Each atom's share of the stress, [atoms, 6], eV/Å³.

        Raises:
            InputError: no volume, or `virials` were not asked for.
        """
        if self.virials is None:
            raise InputError("atomic stresses need evaluate(..., atomic_virials=True)")
        return _voigt_stress(self.virials, self.volume)


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
        if "_planner" in vars(self):
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
    def _bias(self) -> np.ndarray:
        return np.array(self.model.bias)

    @once
    def _parameters(self) -> ParameterWidths:
        return ParameterWidths(*self.model.spec.parameter_widths)

    @once
    def _spec(self) -> ModelSpec:
        return self.model.spec

    @once
    def _edge_gradients(self) -> Any:
        return compiled(self._compute, self._mesh)

    @once
    def _derived(self) -> Any:
        return jax.jit(_derive, static_argnames=("n_frames", "atomic_virials"))

    @once
    def _hessian_for(self) -> Callable[[Capacity], Any]:
        """The program for each size; only the latest are kept, since every size has its own."""
        function = partial(self._compute, function=hessian)
        return lru_cache(_HESSIANS)(lambda _: compiled(partial(function), self._mesh))

    @once
    def _descriptors(self) -> Any:
        return compiled(partial(self._compute, function=atomic_descriptors), self._mesh)

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
        return self._mesh.size

    @property
    def settings(self) -> dict[str, Any]:
        """The model's description, as plain JSON types."""
        return self.model.spec.model_dump(mode="json")

    @once
    def _mesh(self) -> jax.sharding.Mesh:
        return make_mesh(self._devices)

    @once
    def _planner(self) -> CapacityPlanner:
        """Under the lock only."""
        planner = CapacityPlanner(atom_multiple=self._mesh.size, programs=_PROGRAMS)
        arrived = vars(self).get("_parcel")
        if arrived is not None and arrived.capacities is not None:
            planner.restore(arrived.capacities)
        return planner

    @once
    def _skin_lists(self) -> SkinLists:
        return SkinLists(self.rcut)

    @property
    def capacities(self) -> dict[str, Any]:
        """The array sizes used so far, as integers that JSON can hold.

        Sums over arrays of another size may differ in the last bit: a simulation that is to go on exactly as
        it would have gone on sets them again.
        """
        with self._lock:
            return self._planner.state()

    @capacities.setter
    def capacities(self, state: dict[str, Any]) -> None:
        with self._lock:
            self._planner.restore(state)

    @once
    def _weights(self) -> ModelWeights:
        """On all devices, where every call needs them."""
        return jax.device_put(self.model.evaluation_weights(), NamedSharding(self._mesh, PartitionSpec()))

    def _compute(
        self, weights: ModelWeights, neighborhoods: Neighborhoods, function: Any = edge_gradients
    ) -> Any:
        platform = self._mesh.devices.flat[0].platform
        size = self._block_size or default_block_size(neighborhoods.edges.shape[1], platform)
        return function(self._spec, weights, neighborhoods, self._mesh, size)

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
        told = {"fparam": fparam, "aparam": aparam}
        if isinstance(structures, (ase.Atoms, Frame)):
            return self._evaluate([self._frame(structures, "structure", **told)], atomic_virials)[0]
        frames = [self._frame(one, f"structure {n}", **told) for n, one in enumerate(structures)]
        return self._evaluate(frames, atomic_virials)

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
        frame = self._frame(structure, "structure", fparam, aparam)
        n = len(frame.types)
        with computing(self.model.needs_x64):
            neighborhoods = self._pack([frame], CapacityPlanner(atom_multiple=self._mesh.size))
            program = self._hessian_for(Capacity(*neighborhoods.neighbors.shape))
            rows = program(self._weights, neighborhoods)
        return np.asarray(rows, np.float64)[:n, :, :n].reshape(3 * n, 3 * n)

    def descriptors(self, structures: Sequence[ase.Atoms | Frame]) -> list[np.ndarray]:
        """What the fitting net is told of every atom's surroundings.

        Args:
            structures: as for `evaluate`.

        Returns:
            Of each structure an array [atoms, width] in the descriptor's own precision.

        Raises:
            InputError: as `evaluate`.
        """
        frames = [self._frame(structure, f"structure {n}") for n, structure in enumerate(structures)]
        results: list[np.ndarray] = []
        with computing(self.model.needs_x64):
            for group in _groups(frames):
                rows = np.asarray(self._descriptors(self._weights, self._pack(group, self._planner)))
                ends = np.cumsum([len(frame.types) for frame in group])
                results += np.split(rows[: ends[-1]], ends[:-1])
        return results

    def edge_gradients(self, neighborhoods: Neighborhoods) -> tuple[np.ndarray, np.ndarray]:
        """What forces and virials are sums of, for atoms whose neighbours somebody else has found.

        A program is compiled for every size of the arrays.

        Args:
            neighborhoods: atoms of any frames; their number is a multiple of `n_devices`.

        Returns:
            Atomic energies, float64 [atoms], eV, and dE/d(r_j - r_i), [atoms, slots, 3], eV/Å.
        """
        with computing(self.model.needs_x64):
            energies, gradient = self._edge_gradients(self._weights, neighborhoods)
        types = np.asarray(neighborhoods.types)
        bias = np.where(types >= 0, self._bias[types], 0.0)
        return np.asarray(energies, np.float64) + bias, np.asarray(gradient)

    def _frame(
        self,
        structure: ase.Atoms | Frame,
        name: str = "structure",
        fparam: ArrayLike | None = None,
        aparam: ArrayLike | None = None,
    ) -> Frame:
        """A structure as a frame, with the parameters given for it."""
        frame = self._known(structure, name)
        given: dict[str, Any] = {}
        if fparam is not None:
            given["fparam"] = np.atleast_1d(np.asarray(fparam, np.float64))
        if aparam is not None:
            array = np.atleast_1d(np.asarray(aparam, np.float64))
            alike = (len(frame.types), *array.shape[-1:])
            given["aparam"] = np.broadcast_to(array, alike) if array.ndim == 1 else array
        return replace(frame, **given) if given else frame

    def _known(self, structure: ase.Atoms | Frame, name: str) -> Frame:
        if not isinstance(structure, Frame):
            return frame_from_atoms(structure, self.type_map, source=name)
        if structure.types.max() >= len(self.type_map):
            raise InputError(
                f"{structure.source}: has type {structure.types.max()}; the potential's types are "
                f"0 to {len(self.type_map) - 1}: {' '.join(self.type_map)}"
            )
        return structure

    def _pack(self, frames: Sequence[Frame], planner: CapacityPlanner) -> Neighborhoods:
        edges = self._edges(frames)
        slots = max(
            slots_needed(neighbor_counts(e.i, len(f.types))) for e, f in zip(edges, frames, strict=True)
        )
        with self._lock:
            capacity = planner.fit(sum(len(f.types) for f in frames), slots)
        told = [self._parameters.of(frame) for frame in frames]
        return pack(edges, [f.types for f in frames], capacity, self.model.dtype, parameters=told)

    def _edges(self, frames: Sequence[Frame]) -> list[EdgeList]:
        """A structure that comes alone is probably one of a trajectory."""
        find = self._skin_lists.find if len(frames) == 1 else partial(find_edges, cutoff=self.rcut)
        return [_found(find, frame) for frame in frames]

    def _evaluate(self, frames: Sequence[Frame], atomic_virials: bool) -> list[Evaluation]:
        results: list[Evaluation] = []
        with computing(self.model.needs_x64):
            for group in _groups(frames):
                results += self._evaluate_group(group, atomic_virials)
        return results

    def _evaluate_group(self, frames: Sequence[Frame], atomic_virials: bool) -> list[Evaluation]:
        neighborhoods = self._pack(frames, self._planner)
        energies, gradient = self._edge_gradients(self._weights, neighborhoods)
        # Frames come in groups of any number: rounding it up keeps the programs few.
        n_frames = 1 << (len(frames) - 1).bit_length()
        prediction, virials = self._derived(
            energies, gradient, neighborhoods, n_frames=n_frames, atomic_virials=atomic_virials
        )
        found = (prediction.energies, prediction.forces, prediction.virials, virials)
        arrays = [None if a is None else np.asarray(a, np.float64) for a in found]
        results, start = [], 0
        for number, frame in enumerate(frames):
            atoms = slice(start, start := start + len(frame.types))
            results.append(self._evaluation(frame, number, atoms, *arrays))
        return results

    def _evaluation(
        self, frame: Frame, number: int, atoms: slice, energies: Any, forces: Any, virials: Any, shares: Any
    ) -> Evaluation:
        atomic = energies[atoms] + self._bias[frame.types]
        return Evaluation(
            energy=float(np.sum(atomic)),
            energies=atomic,
            forces=forces[atoms],
            virial=virials[number],
            volume=volume(frame.cell) if frame.cell is not None and all(frame.pbc) else None,
            virials=None if shares is None else shares[atoms],
        )


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


def _found(find: Callable[..., EdgeList], frame: Frame) -> EdgeList:
    try:
        return find(frame.positions, frame.cell, frame.pbc)
    except InputError as error:
        raise InputError(f"{frame.source}: {error}") from None


def _derive(
    energies: Any, gradient: Any, neighborhoods: Neighborhoods, n_frames: int, atomic_virials: bool
) -> tuple[Prediction, Any]:
    forces = forces_from(gradient, neighborhoods)
    prediction = Prediction(energies, forces, virials_from(gradient, neighborhoods, n_frames))
    return prediction, atomic_virials_from(gradient, neighborhoods) if atomic_virials else None


def _groups(frames: Sequence[Frame]) -> Iterator[list[Frame]]:
    """Consecutive frames with at most `_ATOMS_AT_ONCE` atoms together; a larger frame stands alone."""
    group: list[Frame] = []
    atoms = 0
    for frame in frames:
        if group and atoms + len(frame.types) > _ATOMS_AT_ONCE:
            yield group
            group, atoms = [], 0
        group.append(frame)
        atoms += len(frame.types)
    if group:
        yield group


def _voigt_stress(virial: np.ndarray, volume: float | None) -> np.ndarray:
    if volume is None:
        raise InputError("the stress needs a structure that is periodic in all three directions")
    symmetric = 0.5 * (virial + np.swapaxes(virial, -1, -2))
    return -symmetric[..., _VOIGT[0], _VOIGT[1]] / volume
