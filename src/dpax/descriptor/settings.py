"""The section `descriptor` of an input file."""

import warnings
from collections.abc import Mapping, Sequence
from typing import Annotated, Any, ClassVar

from pydantic import BeforeValidator, Field, model_validator

from dpax.descriptor.hyperparameters import DescriptorHyperparameters
from dpax.descriptor.spec import DescriptorSpec
from dpax.errors import InputError
from dpax.settings import Refused


def _sel(value: Any) -> Any:
    """Accept a number, a list of numbers or "auto[:factor]"; anything else gets one clear message."""
    if isinstance(value, str):
        if _factor(value) is not None:
            return value
    elif isinstance(value, int) and not isinstance(value, bool):
        if value > 0:
            return value
    elif (
        isinstance(value, Sequence)
        and all(type(count) is int and count >= 0 for count in value)
        and sum(value)
    ):
        return tuple(value)
    raise ValueError(
        f'should be a positive number, a list of them, "auto" or "auto:f" with a factor f >= 1; got {value!r}'
    )


def _factor(rule: str) -> float | None:
    """The factor of "auto" or "auto:FACTOR"; None if the rule has another form."""
    word, _, factor = rule.partition(":")
    try:
        number = float(factor or 1.1)
    except ValueError:
        return None
    return number if word.strip() == "auto" and 1.0 <= number < float("inf") else None


class DescriptorSettings(DescriptorHyperparameters):
    """The descriptor of an atom's surroundings: DPA-1.

    Defaults are those of DeePMD-kit's input file. Its default for `se_atten` is not smooth: the energy
    jumps where an atom crosses the cutoff. Set `smooth_type_embedding: true`, or take `se_atten_v2`.
    """

    ALIASES: ClassVar[Mapping[str, str]] = {
        "n_axis_neuron": "axis_neuron",
        "smooth_type_embdding": "smooth_type_embedding",
    }
    REFUSED: ClassVar[Mapping[str, Refused]] = {
        "attn_mask": Refused(
            (False, None), "refused: no DPA-1 model in use masks the diagonal; leave it false"
        ),
        "spin": Refused(reason="refused: DPA-1 here has no spin degrees of freedom; leave it out"),
    }

    DEPRECATED: ClassVar[Mapping[str, str]] = {
        "stripped_type_embedding": 'tebd_input_mode: "strip" or "concat"'
    }

    sel: Annotated[int | tuple[int, ...] | str, BeforeValidator(_sel)] = Field(
        default="auto",
        description="The number of neighbours by which the descriptor is divided (a list: its sum). "
        '"auto:f" is the largest count in the data times f, rounded up to a multiple of 4; '
        '"auto" is "auto:1.1".',
    )
    seed: int | None = Field(
        default=None, ge=0, description="Seed of the descriptor's initial weights. Unset: training.seed."
    )

    @model_validator(mode="before")
    @classmethod
    def _replace_stripped_type_embedding(cls, data: Any) -> Any:
        if not isinstance(data, Mapping) or "stripped_type_embedding" not in data:
            return data
        remaining = {key: value for key, value in data.items() if key != "stripped_type_embedding"}
        stripped = data["stripped_type_embedding"]
        if stripped is None:
            return remaining
        if not isinstance(stripped, bool):
            raise ValueError(f"stripped_type_embedding should be true or false, got {stripped!r}")
        mode = "strip" if stripped else "concat"
        warnings.warn(
            f'stripped_type_embedding is deprecated; write tebd_input_mode: "{mode}"',
            DeprecationWarning,
            stacklevel=2,
        )
        return remaining | {"tebd_input_mode": mode}

    @property
    def fixed_sel(self) -> int | None:
        """The number of slots, if it does not depend on the data."""
        if isinstance(self.sel, str):
            return None
        return self.sel if isinstance(self.sel, int) else sum(self.sel)

    def spec(self, type_map: Sequence[str], sel: int | None = None) -> DescriptorSpec:
        """The description of such a descriptor.

        Args:
            type_map: element of each type.
            sel: the number of slots; needed where the settings say "auto".

        Raises:
            ValueError: the settings say "auto" and no number was given.
        """
        slots = self.fixed_sel if sel is None else sel
        if slots is None:
            raise ValueError('sel is "auto": count the neighbours of the data first and pass the number')
        shared = {name: getattr(self, name) for name in DescriptorHyperparameters.model_fields}
        return DescriptorSpec(**shared, sel=(slots,), ntypes=len(type_map), type_map=tuple(type_map))


def automatic_sel(largest: int, rule: str) -> int:
    """DeePMD-kit's rule for `sel: "auto[:factor]"`: neighbours times the factor, up to a multiple of 4.

    Raises:
        InputError: the rule is not of this form.
    """
    factor = _factor(rule)
    if factor is None:
        raise InputError(f"sel {rule!r} is neither a number nor 'auto' nor 'auto:FACTOR' with a factor >= 1")
    count = int(largest * factor)
    return max(4, -(-count // 4) * 4)
