"""The description of a descriptor: everything except arrays."""

from typing import Annotated, Self

import numpy as np
from pydantic import Field, model_validator

from dpax.descriptor.attention import AttentionSpec, scaling
from dpax.descriptor.hyperparameters import DescriptorHyperparameters
from dpax.nn.electron_configuration import SPIN_ORBITALS
from dpax.nn.precision import numpy_dtype

Types = Annotated[int, Field(ge=1, le=1000)]
"""A number of types. The table of all pairs of more types would not fit into memory."""

_MOST_SLOTS = 1_000_000
"""Limit for an atom. DeePMD-kit's dictionary has statistics for every slot."""


class DescriptorSpec(DescriptorHyperparameters):
    """All constants of a descriptor."""

    sel: tuple[Annotated[int, Field(ge=0)], ...] = Field(
        description="Slots of each atom, one number or several that are added up."
    )
    ntypes: Types = Field(description="The number of types.")
    type_map: tuple[str, ...] | None = Field(
        default=None, description="The element of each type, where that is known."
    )
    isotropic: bool = Field(
        default=True,
        description="Whether the environment has no angular mean and one angular deviation, as statistics of "
        "data have; arrays that are set by hand need not.",
    )

    @model_validator(mode="after")
    def _types_exist(self) -> Self:
        for pair in self.exclude_types:
            if not all(0 <= t < self.ntypes for t in pair):
                raise ValueError(f"exclude_types has {pair}; the types are 0 to {self.ntypes - 1}")
        if self.use_econf_tebd and self.type_map is None:
            raise ValueError("use_econf_tebd needs type_map, the element symbols of the types")
        if self.type_map is not None and len(self.type_map) != self.ntypes:
            raise ValueError(f"type_map has {len(self.type_map)} names; there are {self.ntypes} types")
        if not 0 < self.nsel <= _MOST_SLOTS:
            raise ValueError(f"sel is {self.nsel}; an atom has 1 to {_MOST_SLOTS} slots")
        return self

    @property
    def nsel(self) -> int:
        """Slots of each atom. A constant of the model by which moments are divided, and not a limit."""
        return sum(self.sel)

    @property
    def dtype(self) -> np.dtype:
        """Of all arrays."""
        return numpy_dtype(self.precision)

    @property
    def strip(self) -> bool:
        """Whether types have their own net, instead of being inputs of the radial net."""
        return self.tebd_input_mode == "strip"

    @property
    def type_inputs(self) -> int:
        """Width of the input of the type embedding for each type."""
        return SPIN_ORBITALS if self.use_econf_tebd else self.ntypes

    @property
    def width(self) -> int:
        """Of the descriptor."""
        return self.neuron[-1] * self.axis_neuron + (self.tebd_dim if self.concat_output_tebd else 0)

    @property
    def attention(self) -> AttentionSpec:
        """The constants of each attention layer."""
        return AttentionSpec(
            num_heads=1,
            scaling=scaling(self.attn, self.scaling_factor, self.temperature),
            normalize=self.normalize,
            smooth=self.smooth_type_embedding,
            dotr=self.attn_dotr,
            ln_eps=self.ln_eps,
            attn_norm=self.attn_norm,
        )
