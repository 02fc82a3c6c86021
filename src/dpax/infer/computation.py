"""The second half of an evaluation: from packed neighbourhoods to energies and forces."""

import threading
from collections.abc import Callable
from functools import lru_cache, partial
from typing import Any

import jax
import numpy as np
from jax.sharding import NamedSharding, PartitionSpec
from jaxtyping import Array, Float

from dpax.computing import computing
from dpax.geometry.cell import volume
from dpax.geometry.neighborhoods import Capacity, Neighborhoods
from dpax.infer.evaluation import Evaluation
from dpax.infer.once import once
from dpax.infer.preparation import Prepared
from dpax.model.blocks import compiled, default_block_size, make_mesh
from dpax.model.derivatives import (
    EdgeGradients,
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

_HESSIANS = 8
"""Programs of Hessians that are kept; each serves one size, and has a few MB."""


class Computation:
    """A model with its compiled programs. Threads may share it.

    Programs are compiled for array sizes, not for structures.

    Args:
        model: the model.
        devices: JAX devices that share the work; all local ones by default.
        block_size: most atoms computed at a time on a device; None chooses for the machine.
    """

    def __init__(self, model: EnergyModel, devices: list[Any] | None, block_size: int | None):
        self.model = model
        self.mesh = make_mesh(devices)
        self._block_size = block_size
        self._bias = np.array(model.bias)
        self._lock = threading.RLock()

    @once
    def weights(self) -> ModelWeights:
        """On all devices, where every call needs them."""
        return jax.device_put(self.model.evaluation_weights(), NamedSharding(self.mesh, PartitionSpec()))

    @once
    def program(self) -> Callable[[ModelWeights, Neighborhoods], EdgeGradients]:
        """Atomic energies and edge gradients."""
        return compiled(partial(self._of_blocks, edge_gradients), self.mesh)

    @once
    def _derived(self) -> Callable[..., tuple[Prediction, Array | None]]:
        return jax.jit(_derive, static_argnames=("n_frames", "atomic_virials"))

    @once
    def _hessian_for(self) -> Callable[[Capacity], Callable[[ModelWeights, Neighborhoods], Array]]:
        """The program for each size; only the latest are kept, since every size has its own."""
        return lru_cache(_HESSIANS)(lambda _: compiled(partial(self._of_blocks, hessian), self.mesh))

    @once
    def _descriptors(self) -> Callable[[ModelWeights, Neighborhoods], Array]:
        return compiled(partial(self._of_blocks, atomic_descriptors), self.mesh)

    def _of_blocks(self, function: Any, weights: ModelWeights, neighborhoods: Neighborhoods) -> Any:
        platform = self.mesh.devices.flat[0].platform
        size = self._block_size or default_block_size(neighborhoods.edges.shape[1], platform)
        return function(self.model.spec, weights, neighborhoods, self.mesh, size)

    def predict(
        self, neighborhoods: Neighborhoods, n_frames: int, *, atomic_virials: bool = False
    ) -> tuple[Prediction, Array | None]:
        """Energies without bias, forces, virials, and if wanted the virials of atoms, on the devices."""
        with computing(self.model.needs_x64):
            energies, gradient = self.program(self.weights, neighborhoods)
            return self._derived(
                energies, gradient, neighborhoods, n_frames=n_frames, atomic_virials=atomic_virials
            )

    def evaluate(self, prepared: Prepared, *, atomic_virials: bool = False) -> list[Evaluation]:
        """Energy, atomic energies, forces and virial of every structure.

        Args:
            prepared: the structures.
            atomic_virials: compute each atom's share of the virial too.
        """
        frames, neighborhoods = prepared
        # Frames come in groups of any number: rounding it up keeps the programs few.
        n_frames = 1 << (len(frames) - 1).bit_length()
        prediction, shares = self.predict(neighborhoods, n_frames, atomic_virials=atomic_virials)
        energies, forces, virials = (np.asarray(array, np.float64) for array in prediction[:3])
        of_atoms = None if shares is None else np.asarray(shares, np.float64)
        results, start = [], 0
        for number, frame in enumerate(frames):
            atoms = slice(start, start := start + len(frame.types))
            atomic = energies[atoms] + self._bias[frame.types]
            results.append(
                Evaluation(
                    energy=float(np.sum(atomic)),
                    energies=atomic,
                    forces=forces[atoms],
                    virial=virials[number],
                    volume=volume(frame.cell) if frame.cell is not None and all(frame.pbc) else None,
                    virials=None if of_atoms is None else of_atoms[atoms],
                )
            )
        return results

    def hessian(self, prepared: Prepared) -> np.ndarray:
        """Second derivatives of the energy of one structure, [3·atoms, 3·atoms], eV/Å²."""
        (frame,), neighborhoods = prepared
        n = len(frame.types)
        with computing(self.model.needs_x64):
            program = self._hessian_for(Capacity(*neighborhoods.neighbors.shape))
            rows = program(self.weights, neighborhoods)
        return np.asarray(rows, np.float64)[:n, :, :n].reshape(3 * n, 3 * n)

    def descriptors(self, prepared: Prepared) -> list[np.ndarray]:
        """The descriptors of each structure, [atoms, width], as the fitting net sees them."""
        with computing(self.model.needs_x64):
            rows = np.asarray(self._descriptors(self.weights, prepared.neighborhoods))
        ends = np.cumsum([len(frame.types) for frame in prepared.frames])
        return np.split(rows[: ends[-1]], ends[:-1])

    def edge_gradients(
        self, neighborhoods: Neighborhoods
    ) -> tuple[Float[np.ndarray, " atoms"], Float[np.ndarray, "atoms slots 3"]]:
        """Atomic energies with their bias, float64, eV, and dE/d(r_j - r_i), eV/Å."""
        with computing(self.model.needs_x64):
            energies, gradient = self.program(self.weights, neighborhoods)
        types = np.asarray(neighborhoods.types)
        bias = np.where(types >= 0, self._bias[types], 0.0)
        return np.asarray(energies, np.float64) + bias, np.asarray(gradient)


def _derive(
    energies: Array, gradient: Array, neighborhoods: Neighborhoods, n_frames: int, atomic_virials: bool
) -> tuple[Prediction, Array | None]:
    forces = forces_from(gradient, neighborhoods)
    prediction = Prediction(energies, forces, virials_from(gradient, neighborhoods, n_frames))
    return prediction, atomic_virials_from(gradient, neighborhoods) if atomic_virials else None
