"""Settings of the model: descriptor, fitting net, and how the statistics are taken."""

from collections.abc import Mapping, Sequence
from typing import Annotated, Any, ClassVar, Literal

from pydantic import BeforeValidator, Field, field_validator

from dpax.descriptor.settings import Activation, DescriptorSettings, Precision, Width
from dpax.settings import Refused, Settings


def _flag_or_flags(value: Any) -> Any:
    if isinstance(value, Sequence) and not isinstance(value, str) and all(isinstance(v, bool) for v in value):
        return tuple(value)
    if isinstance(value, bool):
        return value
    raise ValueError(f"should be true, false, or a list of these with one for each layer, got {value!r}")


def _energy_type(value: Any) -> Any:
    if value != "ener":
        raise ValueError(f"dpax fits energies: the only type is 'ener', got {value!r}")
    return value


class FittingSettings(Settings):
    """The net that turns the descriptor of an atom into its energy."""

    ALIASES: ClassVar[Mapping[str, str]] = {"n_neuron": "neuron"}
    REFUSED: ClassVar[Mapping[str, Refused]] = {
        "numb_fparam": Refused((0,)),
        "numb_aparam": Refused((0,)),
        "default_fparam": Refused((None, [])),
        "dim_case_embd": Refused((0,)),
        "layer_name": Refused((None, [])),
        "use_aparam_as_mask": Refused((False,)),
        "atom_ener": Refused((None, [])),
    }

    type: Annotated[Literal["ener"], BeforeValidator(_energy_type)] = Field(
        default="ener", description="What is fitted: `ener`, the energy."
    )
    neuron: tuple[Width, ...] = Field(default=(120, 120, 120), description="Widths of the hidden layers.")
    activation_function: Activation = Field(default="tanh", description="Activation of the hidden layers.")
    resnet_dt: bool = Field(default=True, description="Trainable step in the skip connections.")
    precision: Precision = Field(
        default="default", description="float16, bfloat16, float32, float64, or default (float64)."
    )
    trainable: Annotated[bool | tuple[bool, ...], BeforeValidator(_flag_or_flags)] = Field(
        default=True,
        description="Whether training changes the net; a list says it for each layer, the last included.",
    )
    rcond: float | None = Field(
        default=None,
        ge=0,
        description="Relative size below which singular values count as zero in the energy bias.",
    )
    seed: int | None = Field(
        default=None, ge=0, description="Seed of the net's initial weights. Unset: training.seed."
    )

    @field_validator("trainable")
    @classmethod
    def _one_flag_per_layer(cls, value: Any, info: Any) -> Any:
        layers = len(info.data.get("neuron", ())) + 1
        if isinstance(value, tuple) and "neuron" in info.data and len(value) != layers:
            raise ValueError(
                f"should have {layers} flags (the layers of neuron and the last one), got {len(value)}"
            )
        return value


class ModelSettings(Settings):
    """The model: which elements it knows, its descriptor and its fitting net."""

    REFUSED: ClassVar[Mapping[str, Refused]] = {
        "type": Refused(("standard", None)),
        "use_srtab": Refused(),
        "pair_exclude_types": Refused(([], None)),
        "atom_exclude_types": Refused(([], None)),
        "preset_out_bias": Refused((None, {})),
        "type_embedding": Refused(
            (None,),
            "refused: only TensorFlow models have this section; put tebd_dim and the rest into descriptor",
        ),
        "modifier": Refused(),
        "compress": Refused(),
        "spin": Refused(),
        "model_branch_alias": Refused(([], None)),
        "bridging_method": Refused(("None", "none", None)),
        "model_dict": Refused((None, {}), "multi-task training, not supported yet by dpax"),
        "shared_dict": Refused((None, {}), "multi-task training, not supported yet by dpax"),
    }
    IGNORED: ClassVar[Mapping[str, str]] = {
        "info": "a note of DeePMD-kit's on where a model comes from; models of dpax have their provenance",
        "data_stat_protect": "limits the scale of fparam and aparam, which dpax does not have",
        "data_bias_nsample": "concerns fits that dpax does not have",
        "smin_alpha": "qualifies use_srtab",
        "sw_rmin": "qualifies use_srtab",
        "sw_rmax": "qualifies use_srtab",
        "srtab_add_bias": "qualifies use_srtab",
        "bridging_r_inner": "qualifies bridging_method",
        "bridging_r_outer": "qualifies bridging_method",
    }

    type_map: tuple[str, ...] = Field(
        min_length=1,
        description="The element (or other name) of each type, in the order of the type numbers.",
    )
    descriptor: DescriptorSettings = Field(description="The descriptor of an atom's surroundings.")
    fitting_net: FittingSettings = Field(
        default_factory=FittingSettings, description="The net from descriptor to atomic energy."
    )
    finetune_head: str | None = Field(
        default=None,
        description="Fine-tuning: the branch of a multi-task model to start from, or RANDOM for a fresh "
        "fitting net; --model-branch says the same.",
    )
    data_stat_nbatch: int = Field(
        default=10, gt=0, description="Batches of every training system from which statistics are taken."
    )

    @field_validator("type_map")
    @classmethod
    def _names_differ(cls, value: tuple[str, ...]) -> tuple[str, ...]:
        repeated = sorted({name for name in value if value.count(name) > 1})
        if repeated:
            raise ValueError(f"names {repeated[0]!r} twice; each type needs a name of its own")
        return value

    @field_validator("descriptor")
    @classmethod
    def _excluded_types_exist(cls, value: DescriptorSettings, info: Any) -> DescriptorSettings:
        type_map = info.data.get("type_map")
        unknown = [t for pair in value.exclude_types for t in pair if type_map and not 0 <= t < len(type_map)]
        if unknown:
            raise ValueError(
                f"exclude_types names type {unknown[0]}, but type_map has types 0 to {len(type_map) - 1}"
            )
        return value

    @property
    def needs_x64(self) -> bool:
        """Whether any part of the model computes in float64."""
        return any(
            p in ("default", "float64") for p in (self.descriptor.precision, self.fitting_net.precision)
        )
