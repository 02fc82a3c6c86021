"""The potential in JAX-MD's grammar: `neighbor_fn, energy_fn`, compiled and differentiated by JAX.

Everything else is JAX-MD's: its spaces, its neighbour lists, its integrators. Units are eV, Å and amu, so a
time of 1 is 10.18 fs (`ase.units.fs` is the length of a femtosecond in it), and kT is in eV.
"""

import os
from collections.abc import Callable, Sequence
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax_md import partition, space
from jaxtyping import Array
from numpy.typing import ArrayLike

from dpax.data import Frame, ParameterWidths
from dpax.data.frame import type_indices
from dpax.errors import InputError
from dpax.geometry.neighborhoods import Capacity, Neighborhoods, from_slots, slots_needed
from dpax.infer import Potential
from dpax.interfaces.model_files import load
from dpax.model.blocks import default_block_size, make_mesh
from dpax.model.derivatives import edge_gradients, energies_only
from dpax.model.energies import ModelWeights
from dpax.model.energy_model import EnergyModel
from dpax.nn.primitives import EXACT

EnergyFn = Callable[..., Array]


def dpa1_neighbor_list(
    displacement: Callable[..., Array],
    box: ArrayLike | None,
    model: str | os.PathLike | Potential,
    symbols: Sequence[str],
    dr_threshold: float = 0.5,
    fractional_coordinates: bool = False,
    *,
    fparam: ArrayLike | None = None,
    aparam: ArrayLike | None = None,
    devices: list[Any] | None = None,
    **neighbor_kwargs: Any,
) -> tuple[Any, EnergyFn]:
    """Neighbour lists and the energy of a DPA-1 potential, as JAX-MD's `energy.*_neighbor_list` give them.

    `energy_fn(R, neighbor, **kwargs)` is the energy in eV, energy bias included. Its gradient is computed
    block by block, so that memory does not grow with what the network does for each atom; it can be
    differentiated again. Keyword arguments (`box`, `perturbation`) are handed to `displacement`. As with all
    of JAX-MD, a list that overflowed (`did_buffer_overflow`) has lost neighbours: allocate another. Where
    a `box` handed over at run time becomes too small for the cutoff, the energy is NaN.

    Args:
        displacement: from one of JAX-MD's spaces.
        box: of the space: a length, lengths, or an upper triangular matrix whose columns are lattice vectors,
            Å; None for `space.free()`.
        model: a model file of any kind that `dpax.load` reads, or a loaded potential.
        symbols: element symbols of the atoms.
        dr_threshold: how far lists reach beyond the cutoff, Å; they are rebuilt when an atom has moved by
            half of it.
        fractional_coordinates: whether positions are fractions of the box. JAX-MD uses its cell list, whose
            cost grows only with the number of atoms, in a triclinic box only then.
        fparam: for a model that takes parameters of frames.
        aparam: for a model that takes parameters of atoms, [atoms, aparam].
        devices: JAX devices that share the work; all local ones by default.
        **neighbor_kwargs: for `jax_md.partition.neighbor_list` (`capacity_multiplier`, …).

    Raises:
        InputError: an element that the potential does not know, a box too small for JAX-MD's minimum image
            or not upper triangular, a format of lists other than dense, parameters that are missing, or a
            float64 model while JAX's 64-bit mode is off.
    """
    potential = model if isinstance(model, Potential) else load(model)
    reach = potential.rcut + dr_threshold
    _check_precision(potential.model)
    if neighbor_kwargs.get("format", partition.Dense) is not partition.Dense:
        raise InputError("the DPA-1 potential needs JAX-MD's dense neighbour lists: leave out `format`")
    if box is None:
        neighbor_kwargs["disable_cell_list"] = True
    else:
        _check_box(np.asarray(box, np.float64), reach, potential.rcut)
    neighbor_fn = partition.neighbor_list(
        _distance(displacement),
        jnp.asarray(1.0 if box is None else box),
        potential.rcut,
        dr_threshold,
        fractional_coordinates=fractional_coordinates,
        **neighbor_kwargs,
    )
    types = type_indices(symbols, potential.type_map, "symbols")
    nothing = np.zeros((len(types), 3))
    inputs = {"fparam": fparam, "aparam": aparam}
    arrays: dict[str, Any] = {
        name: np.atleast_1d(value) for name, value in inputs.items() if value is not None
    }
    frame = Frame(nothing, types, None, (False, False, False), "symbols", **arrays)
    parameters = ParameterWidths(*potential.model.spec.parameter_widths).of(frame)
    energy = _energy_of_edges(potential.model, types, parameters, devices)
    bias = float(np.sum(np.array(potential.model.bias)[types]))

    def energy_fn(R: Array, neighbor: partition.NeighborList, **kwargs: Any) -> Array:
        if R.shape != (len(types), 3):
            raise InputError(
                f"positions have the shape {list(R.shape)}; the potential was made for {len(types)} atoms"
            )
        vectors: Any = space.map_neighbor(lambda a, b: displacement(a, b, **kwargs))(R, R[neighbor.idx])
        listed = partition.neighbor_list_mask(neighbor, mask_self=True)
        occupied = listed & (_square(vectors) <= potential.rcut**2)
        total = energy(vectors, jnp.where(occupied, neighbor.idx, -1)).astype(R.dtype) + bias
        changed = kwargs.get("new_box", kwargs.get("box"))
        if changed is None:
            return total
        # A factor, so that forces are NaN too.
        return total * jnp.where(jnp.all(_heights(changed) >= 2.0 * potential.rcut), 1.0, jnp.nan)

    return neighbor_fn, energy_fn


def _energy_of_edges(
    model: EnergyModel, types: np.ndarray, parameters: np.ndarray, devices: list[Any] | None
) -> Callable[[Array, Array], Array]:
    """The energy (eV, without bias) as a function of edge vectors [atoms, slots, 3] and neighbours.

    A slot of a neighbour beyond the cutoff must be an empty one, as it is elsewhere in dpax.
    """
    spec, mesh = model.spec, make_mesh(devices)
    # As NumPy's, they are constants of whatever program the caller makes, on its devices.
    constants = jax.tree.map(np.asarray, model.evaluation_weights())

    def prepared(vectors: Array, neighbors: Array) -> tuple[ModelWeights, Neighborhoods, int]:
        atoms, slots = neighbors.shape
        capacity = Capacity(-(-atoms // mesh.size) * mesh.size, slots_needed(slots))
        neighborhoods = from_slots(
            vectors, neighbors, jnp.asarray(types), jnp.asarray(parameters), capacity, model.dtype
        )
        size = default_block_size(capacity.slots, mesh.devices.flat[0].platform)
        return jax.tree.map(jnp.asarray, constants), neighborhoods, size

    @jax.custom_jvp
    def energy(vectors: Array, neighbors: Array) -> Array:
        weights, neighborhoods, size = prepared(vectors, neighbors)
        return jnp.sum(energies_only(spec, weights, neighborhoods, mesh, size))

    @energy.defjvp
    def _derivative(primals: tuple[Array, Array], tangents: tuple[Array, Array]) -> tuple[Array, Array]:
        # The edge gradients are known as soon as the energy is: nothing is kept for a reverse pass.
        weights, neighborhoods, size = prepared(*primals)
        energies, gradient = edge_gradients(spec, weights, neighborhoods, mesh, size)
        rows, columns = primals[1].shape
        along = jnp.vdot(gradient[:rows, :columns].astype(tangents[0].dtype), tangents[0], precision=EXACT)
        return jnp.sum(energies), along.astype(energies.dtype)

    return energy


def _distance(displacement: Callable[..., Array]) -> Callable[..., Array]:
    """JAX-MD makes its lists with either; with a displacement it would sum over an axis."""

    def distance(a: Array, b: Array, **kwargs: Any) -> Array:
        return jnp.sqrt(_square(displacement(a, b, **kwargs)))

    return distance


def _square(vectors: Array) -> Array:
    """The squares of lengths, without a sum over an axis.

    On CPUs jaxlib 0.10.2 computes a product of matrices with more than 16,384 rows wrongly when the sum of
    its squares is taken along an axis (github.com/jax-ml/jax/issues/39103), and in a triclinic box that would
    silently lose neighbours.
    """
    x, y, z = jnp.moveaxis(vectors, -1, 0)
    return x * x + y * y + z * z


def _check_precision(model: EnergyModel) -> None:
    if model.needs_x64 and not jax.config.read("jax_enable_x64"):
        raise InputError(
            "the model computes in float64, but JAX's 64-bit mode is off; call "
            "jax.config.update('jax_enable_x64', True) first"
        )


def _check_box(box: np.ndarray, reach: float, rcut: float) -> None:
    """JAX-MD sees one image of each neighbour, which must be the only one within its lists' reach."""
    if box.ndim == 2 and np.tril(box, -1).any():
        raise InputError(
            f"the box {box.tolist()} is not upper triangular, as JAX-MD expects of a matrix with lattice "
            "vectors as columns; for ASE's atoms take atoms.cell.standard_form()[0].T with scaled positions"
        )
    least = float(np.min(_heights(box)))
    if least < 2.0 * reach:
        raise InputError(
            f"the box is {least:.3f} Å across; JAX-MD's minimum image needs at least {2.0 * reach:.3f} Å: "
            f"twice the cutoff of {rcut} Å and dr_threshold = {reach - rcut:.3f} Å; repeat the structure"
        )


def _heights(box: Any) -> Any:
    """Distances between opposite faces, of a box as JAX-MD has them: a length, lengths, or columns."""
    if np.ndim(box) < 2:
        return jnp.atleast_1d(box)
    return 1.0 / jnp.linalg.norm(jnp.linalg.inv(box), axis=1)
