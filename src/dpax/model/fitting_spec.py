"""The options of a fitting net, and its description: everything except arrays."""

from collections.abc import Sequence
from typing import Annotated, Any, Self

import numpy as np
from pydantic import BeforeValidator, Field, field_validator, model_validator

from dpax.descriptor.hyperparameters import Activation, Precision, Width
from dpax.nn.precision import numpy_dtype
from dpax.settings import Settings


def _flag_or_flags(value: Any) -> Any:
    if isinstance(value, Sequence) and not isinstance(value, str) and all(isinstance(v, bool) for v in value):
        return tuple(value)
    if isinstance(value, bool):
        return value
    raise ValueError(f"should be true, false, or a list of these with one for each layer, got {value!r}")


def none_if_empty(value: Any) -> Any:
    """DeePMD-kit writes an empty list for an absent value."""
    return None if isinstance(value, Sequence) and len(value) == 0 else value


class FittingHyperparameters(Settings):
    """The options that an input file and a description share, in DeePMD-kit's vocabulary."""

    neuron: tuple[Width, ...] = Field(default=(120, 120, 120), description="Widths of the hidden layers.")
    activation_function: Activation = Field(default="tanh", description="Activation of the hidden layers.")
    resnet_dt: bool = Field(default=True, description="Trainable step in the skip connections.")
    precision: Precision = Field(
        default="default", description="float16, bfloat16, float32, float64, or default (float64)."
    )
    trainable: Annotated[bool | tuple[bool, ...], BeforeValidator(_flag_or_flags)] = Field(
        default=True,
        description="Whether training changes the net; a list has one entry per layer, the last included.",
    )
    rcond: float | None = Field(
        default=None,
        ge=0,
        description="Relative size below which singular values count as zero in the energy bias.",
    )
    numb_fparam: int = Field(
        default=0,
        ge=0,
        description="Number of frame parameters (fparam.npy), a temperature for example.",
    )
    numb_aparam: int = Field(default=0, ge=0, description="Number of atomic parameters (aparam.npy).")
    default_fparam: Annotated[tuple[float, ...] | None, BeforeValidator(none_if_empty)] = Field(
        default=None, description="Frame parameters of frames without fparam.npy."
    )

    @field_validator("default_fparam")
    @classmethod
    def _as_many_as_fparam(cls, value: Any, info: Any) -> Any:
        wanted = info.data.get("numb_fparam")
        if value is not None and wanted is not None and len(value) != wanted:
            raise ValueError(f"should have the {wanted} numbers given by numb_fparam, got {len(value)}")
        return value

    @field_validator("trainable")
    @classmethod
    def _one_flag_per_layer(cls, value: Any, info: Any) -> Any:
        layers = len(info.data.get("neuron", ())) + 1
        if isinstance(value, tuple) and "neuron" in info.data and len(value) != layers:
            raise ValueError(
                f"should have {layers} flags (the layers of neuron and the last one), got {len(value)}"
            )
        return value


class FittingSpec(FittingHyperparameters):
    """All constants of a fitting net."""

    ntypes: int = Field(ge=1, description="The number of types.")
    descriptor_width: Width = Field(description="Width of the descriptor.")
    dim_case_embd: int = Field(
        default=0, ge=0, description="Number of heads of the multi-task model that the net was part of."
    )
    use_aparam_as_mask: bool = Field(
        default=False,
        description="aparam is DeePMD-kit's mask for another descriptor and no input of the net.",
    )
    zero_energies: tuple[float | None, ...] | None = Field(
        default=None,
        description="DeePMD-kit's atom_ener: where any entry is given, the net's energy of a descriptor of "
        "zeros is subtracted from every atom. The numbers themselves have no effect.",
    )
    exclude_types: tuple[Annotated[int, Field(ge=0)], ...] = Field(
        default=(), description="Types whose energy is the bias of the model alone."
    )

    @model_validator(mode="after")
    def _types_exist(self) -> Self:
        if any(t >= self.ntypes for t in self.exclude_types):
            raise ValueError(
                f"exclude_types has {max(self.exclude_types)}; the types are 0 to {self.ntypes - 1}"
            )
        if self.zero_energies and len(self.zero_energies) != self.ntypes:
            raise ValueError(
                f"atom_ener has {len(self.zero_energies)} entries; there are {self.ntypes} types"
            )
        return self

    @property
    def dtype(self) -> np.dtype:
        """Of all arrays."""
        return numpy_dtype(self.precision)

    @property
    def parameters(self) -> tuple[int, int]:
        """The numbers of frame parameters and of atomic parameters."""
        return self.numb_fparam, 0 if self.use_aparam_as_mask else self.numb_aparam

    @property
    def inputs(self) -> int:
        """Width of the first layer's input."""
        return self.descriptor_width + sum(self.parameters) + self.dim_case_embd

    @property
    def trained_layers(self) -> tuple[bool, ...]:
        """Whether training changes each layer, the last included."""
        layers = len(self.neuron) + 1
        return (self.trainable,) * layers if isinstance(self.trainable, bool) else self.trainable

    @property
    def subtracts_zero_descriptor(self) -> bool:
        """Whether the net's energy of a descriptor of zeros is subtracted from every atom."""
        return any(energy is not None for energy in self.zero_energies or ())
