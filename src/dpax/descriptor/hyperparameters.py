"""The options of a DPA-1 descriptor: each once, for input files and for descriptions of models."""

from typing import Annotated, Any, Literal

from pydantic import AfterValidator, BeforeValidator, Field, field_validator

from dpax.nn.activation import activation
from dpax.nn.precision import numpy_dtype
from dpax.settings import Settings


def _known_activation(name: str) -> str:
    activation(name)
    return name.lower()


def _known_precision(name: str) -> str:
    return "default" if name == "default" else numpy_dtype(name).name


Activation = Annotated[str, AfterValidator(_known_activation)]
"""The name of an activation function."""
Precision = Annotated[str, AfterValidator(_known_precision)]
"""A floating-point format; "default" is float64."""
Width = Annotated[int, Field(gt=0)]
"""The number of units of a layer."""

V2 = "se_atten_v2"
_FIXED_BY_V2 = {"tebd_input_mode": "strip", "smooth_type_embedding": True}


def _dpa1_type(value: Any) -> Any:
    """One name for one thing, and a word to those who look for another descriptor."""
    if value == "dpa1":
        return "se_atten"
    if value not in ("se_atten", V2):
        raise ValueError(f"dpax is for DPA-1: se_atten (or dpa1) and se_atten_v2; got {value!r}")
    return value


class DescriptorHyperparameters(Settings):
    """The options that an input file and a description share, in DeePMD-kit's vocabulary.

    Defaults are those of DeePMD-kit's input file.
    """

    type: Annotated[Literal["se_atten", "se_atten_v2"], BeforeValidator(_dpa1_type)] = Field(
        description="`se_atten` (also spelt `dpa1`), or `se_atten_v2`: the same with strip and smooth fixed."
    )
    rcut: float = Field(default=6.0, gt=0, description="Cutoff radius, Å.")
    rcut_smth: float = Field(
        default=0.5, ge=0, description="Distance from which the switch to zero begins, Å."
    )
    neuron: tuple[Width, ...] = Field(
        default=(10, 20, 40), min_length=1, description="Widths of the embedding net's layers."
    )
    axis_neuron: Width = Field(default=4, description="Number of columns kept in the second factor of D.")
    lmax: int = Field(default=1, ge=1, le=4, description="Largest angular degree of the moments.")
    activation_function: Activation = Field(default="tanh", description="Activation of the embedding net.")
    resnet_dt: bool = Field(
        default=False, description="Trainable step in the embedding net's skip connections."
    )
    type_one_side: bool = Field(
        default=False, description="The embedding net sees the neighbour's type only, not the central atom's."
    )
    precision: Precision = Field(
        default="default", description="float16, bfloat16, float32, float64, or default (float64)."
    )
    trainable: bool = Field(default=True, description="Whether training changes the descriptor.")
    trainable_ln: bool = Field(
        default=True, description="Whether it changes scale and shift of the LayerNorms."
    )
    exclude_types: tuple[tuple[int, int], ...] = Field(
        default=(), description="Pairs of types that do not interact."
    )
    env_protection: float = Field(
        default=0.0, ge=0, description="Added to every distance in a denominator, Å."
    )
    attn: Width = Field(default=128, description="Width of the attention's queries, keys and values.")
    attn_layer: int = Field(default=2, ge=0, description="Number of attention layers.")
    attn_dotr: bool = Field(
        default=True, description="Attention weights times the cosine between the two edges."
    )
    set_davg_zero: bool = Field(
        default_factory=lambda data: data["type"] != V2,
        description="Leave the environment's mean at zero. "
        "Default: true for se_atten, false for se_atten_v2.",
    )
    smooth_type_embedding: bool = Field(
        default_factory=lambda data: data["type"] == V2,
        description="Attention (and the type net of strip mode) goes smoothly to zero at the cutoff. "
        "Default: false for se_atten; always true for se_atten_v2.",
    )
    tebd_input_mode: Literal["concat", "strip"] = Field(
        default_factory=lambda data: "strip" if data["type"] == V2 else "concat",
        description="Type embedding as further input of the embedding net (concat), or through its own net "
        "(strip). Default: concat for se_atten; always strip for se_atten_v2.",
    )
    ln_eps: Annotated[float, BeforeValidator(lambda value: 1e-5 if value is None else value)] = Field(
        default=1e-5, gt=0, description="Added to the variance in LayerNorm."
    )
    tebd_dim: Width = Field(default=8, description="Length of the type embedding.")
    use_econf_tebd: bool = Field(
        default=False, description="Embed electron configurations instead of type numbers (elements only)."
    )
    use_tebd_bias: bool = Field(default=False, description="Bias in the type embedding's layer.")
    scaling_factor: float = Field(
        default=1.0, gt=0, description="Attention logits are multiplied by (attn · scaling_factor)^-1/2."
    )
    normalize: bool = Field(default=True, description="Queries, keys and values have length 1.")
    temperature: float | None = Field(
        default=None, gt=0, description="Factor on the logits, instead of the one from scaling_factor."
    )
    concat_output_tebd: bool = Field(default=True, description="Append the central type's embedding to D.")
    attn_norm: Literal["sum", "branch"] = Field(
        default="sum",
        description="dpax's own key. LayerNorm of the residual sum (as in all of DeePMD-kit's models), or of "
        "the attention's branch alone (as printed in the paper).",
    )
    empty_slots: Literal["dense", "ignore"] = Field(
        default="dense",
        description="dpax's own key. dense: each of the `sel` slots without a neighbour counts as it does in "
        "DeePMD-kit; ignore: only real neighbours count.",
    )
    output_scale: float = Field(
        default=1.0,
        gt=0,
        description="dpax's own key. Factor on the moments in D, which are small where atoms have far fewer "
        "neighbours than `sel`.",
    )

    @field_validator("tebd_input_mode", "smooth_type_embedding")
    @classmethod
    def _agrees_with_v2(cls, value: Any, info: Any) -> Any:
        fixed = _FIXED_BY_V2[info.field_name]
        if info.data.get("type") == V2 and value != fixed:
            raise ValueError(f"{V2} always has {fixed!r}, got {value!r}; take se_atten for another choice")
        return value

    @field_validator("rcut_smth")
    @classmethod
    def _below_rcut(cls, value: float, info: Any) -> float:
        if "rcut" in info.data and value >= info.data["rcut"]:
            raise ValueError(f"should be smaller than rcut ({info.data['rcut']} Å), got {value}")
        return value

    @field_validator("axis_neuron")
    @classmethod
    def _within_neuron(cls, value: int, info: Any) -> int:
        if "neuron" in info.data and value > info.data["neuron"][-1]:
            raise ValueError(
                f"should be at most the last width of neuron ({info.data['neuron'][-1]}), got {value}"
            )
        return value

    @property
    def order_dependent(self) -> bool:
        """Whether the energy depends on which atom comes first in a frame, as in DeePMD-kit.

        Its empty slots carry the type embedding of that atom, and count where the mean is not zero.
        """
        return self.tebd_input_mode == "concat" and not self.set_davg_zero and self.empty_slots == "dense"

    @property
    def jump(self) -> str | None:
        """Why the energy jumps where an atom crosses the cutoff; None if it does not."""
        strip, mean = self.tebd_input_mode == "strip", not self.set_davg_zero
        if not self.smooth_type_embedding and (self.attn_layer > 0 or (strip and mean)):
            return "smooth_type_embedding is false (DeePMD-kit's default for se_atten)"
        if self.empty_slots == "ignore" and (self.attn_layer > 0 or mean):
            return "empty_slots is 'ignore', and a neighbour counts in full up to the cutoff"
        if mean and not strip:
            return "set_davg_zero is false in concat mode"
        return None
