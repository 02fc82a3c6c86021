"""A pair potential replaces the network where atoms are close: E_i = (1 - w_i) E_DP,i + w_i E_pair,i.

Source: H. Wang, X. Guo, L. Zhang, H. Wang and J. Xue, "Deep learning inter-atomic potential model for
accurate irradiation damage simulations", Appl. Phys. Lett. 114, 244101 (2019); DeePMD-kit's 'zbl' model.
"""

from collections.abc import Sequence
from typing import Self

import jax
import jax.numpy as jnp
from jaxtyping import Array, Bool, Float, Int
from pydantic import Field, InstanceOf, model_validator

from dpax.descriptor.environment import switch
from dpax.model.pair_table import PairTable
from dpax.settings import Settings


class ShortRange(Settings):
    """A pair potential, and where it takes over."""

    table: InstanceOf[PairTable] = Field(exclude=True, description="Energies of pairs.")
    sw_rmin: float = Field(
        ge=0, description="Softly nearest distance below which the pair potential acts alone, Å."
    )
    sw_rmax: float = Field(gt=0, description="Softly nearest distance above which it does not act, Å.")
    smin_alpha: float = Field(
        default=0.1, gt=0, description="Width of the soft minimum that picks the nearest neighbour, Å."
    )
    add_bias: bool = Field(
        default=True,
        description="Whether the energy bias of the types is added beside the pair potential too.",
    )
    fitting_bias: tuple[float, ...] | None = Field(
        default=None,
        description="[ntypes], eV: a part of the bias that is not, whatever add_bias says; it belongs to the "
        "network.",
    )

    @model_validator(mode="after")
    def _distances_rise(self) -> Self:
        if self.sw_rmin >= self.sw_rmax:
            raise ValueError(
                f"sw_rmin must lie between 0 and sw_rmax; got {self.sw_rmin} and {self.sw_rmax} Å"
            )
        return self

    def change_types(self, old: Sequence[str], new: Sequence[str]) -> Self:
        """The same for a new list of types.

        Raises:
            InputError: the table lacks a type.
        """
        bias = self.fitting_bias
        return self.changed(
            table=self.table.change_types(old, new),
            fitting_bias=None if bias is None else tuple(bias[old.index(name)] for name in new),
        )


def bridge(
    short: ShortRange,
    energies: Float[Array, " block"],
    missing_bias: Float[Array, " types"] | None,
    edges: Float[Array, "block slots 3"],
    occupied: Bool[Array, "block slots"],
    types: Int[Array, " block"],
    neighbor_types: Int[Array, "block slots"],
) -> Float[Array, " block"]:
    """Energies of the network passed over to those of the pair potential where atoms are close, eV.

    Args:
        short: the pair potential.
        energies: of the network.
        missing_bias: that the pair potential goes without; None if it has it too.
        edges: r_j - r_i, Å.
        occupied: whether a slot holds a neighbour.
        types: of the centres; negative for none.
        neighbor_types: of the neighbours.
    """
    square = jnp.sum(edges * edges, axis=-1)
    inside = occupied & (square <= short.table.rcut**2)
    # A distance in empty slots too: the root's derivative must stay finite.
    r = jnp.sqrt(jnp.where(inside, square, 1.0))
    types, neighbor_types = jnp.maximum(types, 0), jnp.maximum(neighbor_types, 0)
    pairs = jnp.where(inside, short.table.energies(r, types, neighbor_types), 0.0)
    paired = 0.5 * jnp.sum(pairs, axis=-1)
    if missing_bias is not None:
        paired = paired - missing_bias.astype(paired.dtype)[types]
    share = _share(short, r, inside)
    return energies + (share * (paired - energies)).astype(energies.dtype)


def _share(
    short: ShortRange, r: Float[Array, "block slots"], inside: Bool[Array, "block slots"]
) -> Float[Array, " block"]:
    """The pair potential's share w of each atom: 1 with a near neighbour, 0 without; smooth between.

    The nearest distance is a mean with the weights exp(-r/α). They are taken relative to the largest, as
    in a softmax: by themselves they leave the range of float32 at 9 Å.
    """
    nearest = jax.lax.stop_gradient(jnp.min(jnp.where(inside, r, jnp.inf), axis=-1, keepdims=True))
    farther = jnp.where(inside, r - nearest, 0.0)
    weights = jnp.where(inside, jnp.exp(-farther / short.smin_alpha), 0.0)
    total = jnp.sum(weights, axis=-1)
    alone = total == 0.0
    soft = jnp.sum(weights * r, axis=-1) / jnp.where(alone, 1.0, total)
    return jnp.where(alone, 0.0, switch(soft, short.sw_rmax, short.sw_rmin))
