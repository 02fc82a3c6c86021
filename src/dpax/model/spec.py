"""The description of a model: everything about it that is neither an array nor the energy bias."""

from collections.abc import Sequence
from typing import Annotated, Self

from pydantic import Field, model_validator

from dpax.descriptor.spec import DescriptorSpec
from dpax.model.fitting_spec import FittingSpec
from dpax.model.short_range import ShortRange
from dpax.settings import Settings

Type = Annotated[int, Field(ge=0)]
"""An index of `type_map`."""
PerType = tuple[float | None, ...]
"""A number for some of the types."""


class ModelSpec(Settings):
    """All constants of a model."""

    type_map: tuple[str, ...] = Field(description="The element of each type; empty where they have no names.")
    descriptor: DescriptorSpec = Field(description="Of the atoms' surroundings.")
    fitting: FittingSpec = Field(description="From the descriptor to the energy.")
    atom_exclude_types: tuple[Type, ...] = Field(
        default=(), description="Types without an energy, though others see them."
    )
    pair_exclude_types: tuple[tuple[Type, Type], ...] = Field(
        default=(), description="Pairs of types that are no neighbours of each other."
    )
    preset_out_bias: PerType | None = Field(
        default=None, description="[ntypes], eV; a bias that no statistics change, null where they may."
    )
    isolated_energies: PerType | None = Field(
        default=None,
        description="[ntypes], eV; the exact energy of an atom of the type without neighbours, null where it "
        "is what the net makes of it. Such a type has this bias, and the net's energy of an atom without "
        "neighbours, under the same parameters, is subtracted.",
    )
    short_range: ShortRange | None = Field(
        default=None, description="A pair potential that takes over where atoms are close."
    )

    @model_validator(mode="after")
    def _parts_fit(self) -> Self:
        ntypes, width = self.descriptor.ntypes, self.descriptor.width
        if self.fitting.descriptor_width != width:
            raise ValueError(
                f"the fitting net expects a descriptor of width {self.fitting.descriptor_width}; "
                f"this one has {width}"
            )
        if self.type_map and len(self.type_map) != ntypes:
            raise ValueError(f"type_map has {len(self.type_map)} names; the descriptor has {ntypes} types")
        if self.fitting.ntypes != ntypes:
            raise ValueError(f"the fitting net has {self.fitting.ntypes} types; the descriptor has {ntypes}")
        names = self.descriptor.type_map
        if names and self.type_map and names != self.type_map:
            raise ValueError(
                f"type_map is {' '.join(self.type_map)}, but {' '.join(names)} in the descriptor"
            )
        short = self.short_range
        bias = None if short is None else short.fitting_bias
        if bias is not None and len(bias) != ntypes:
            raise ValueError(f"fitting_bias has {len(bias)} entries; the model has {ntypes} types")
        if short is not None and short.table.ntypes != ntypes:
            raise ValueError(f"the short-range table has {short.table.ntypes} types; the model has {ntypes}")
        if short is not None and short.table.rcut != self.descriptor.rcut:
            raise ValueError(
                f"the model's short-range table has the cutoff {short.table.rcut} Å and its descriptor "
                f"{self.descriptor.rcut} Å; dpax reads models with one for both"
            )
        types = (*self.atom_exclude_types, *(t for pair in self.pair_exclude_types for t in pair))
        if any(t >= ntypes for t in types):
            raise ValueError(f"excludes type {max(types)}; the types are 0 to {ntypes - 1}")
        for name in ("preset_out_bias", "isolated_energies"):
            values = getattr(self, name)
            if values is not None and len(values) != ntypes:
                raise ValueError(f"{name} has {len(values)} entries; the model has {ntypes} types")
        if len(set(self.type_map)) < len(self.type_map):
            raise ValueError(f"type_map names a type twice: {' '.join(self.type_map)}")
        return self

    @property
    def parameter_widths(self) -> tuple[int, int, tuple[float, ...] | None]:
        """The parameters that the model takes: `fparam`, `aparam`, and the default of `fparam`.

        The arguments of `dpax.data.ParameterWidths`.
        """
        return *self.fitting.parameters, self.fitting.default_fparam

    @property
    def fixed_bias(self) -> PerType:
        """[ntypes], eV: the bias of each type that no statistics may change, None where they may."""
        nothing = (None,) * self.descriptor.ntypes
        pairs = zip(self.preset_out_bias or nothing, self.isolated_energies or nothing, strict=True)
        return tuple(preset if alone is None else alone for preset, alone in pairs)

    @property
    def relative_types(self) -> frozenset[str]:
        """Elements whose energies from the net are relative to another energy of the net."""
        if self.isolated_energies is not None:
            pairs = zip(self.type_map, self.isolated_energies, strict=True)
            return frozenset(name for name, energy in pairs if energy is not None)
        return frozenset(self.type_map if self.fitting.subtracts_zero_descriptor else ())


def some_given(values: Sequence[float | None] | None) -> PerType | None:
    """One entry a type, or None where no type has one."""
    if values is None or all(value is None for value in values):
        return None
    return tuple(None if value is None else float(value) for value in values)
