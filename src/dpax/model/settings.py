"""Settings of the model: descriptor, fitting net, and how the statistics are taken."""

from collections.abc import Mapping, Sequence
from typing import Annotated, Any, ClassVar, Literal

import numpy as np
from pydantic import BeforeValidator, Field, field_validator

from dpax.descriptor.settings import DescriptorSettings
from dpax.model.fitting_spec import FittingHyperparameters, FittingSpec, none_if_empty
from dpax.settings import Refused, Settings

RANDOM = "RANDOM"
"""The name of no branch: a fitting net with new weights on the descriptor of a trained model."""


def _energies_of_preset(value: Any) -> Any:
    """The numbers of {"energy": [null, 1.5, [2.0]]}; DeePMD-kit has this form for outputs of any shape."""
    if value is None or value == {}:
        return None
    if isinstance(value, Mapping) and set(value) == {"energy"}:
        entries = value["energy"]
        if isinstance(entries, Sequence) and not isinstance(entries, str):
            return {"energy": [e[0] if isinstance(e, (list, tuple)) and len(e) == 1 else e for e in entries]}
    raise ValueError(f'should be {{"energy": [a number or null for each type]}}, got {value!r}')


def _energy_type(value: Any) -> Any:
    if value != "ener":
        raise ValueError(f"dpax fits energies: the only type is 'ener', got {value!r}")
    return value


class FittingSettings(FittingHyperparameters):
    """The net that turns the descriptor of an atom into its energy."""

    ALIASES: ClassVar[Mapping[str, str]] = {"n_neuron": "neuron"}
    REFUSED: ClassVar[Mapping[str, Refused]] = {
        "dim_case_embd": Refused(
            (0,),
            "refused: it tells the heads of a multi-task training apart, and this is one of a single task "
            "(heads that have it are read and evaluated); leave it out",
        ),
        "layer_name": Refused(
            (None, []),
            "refused: layers shared by name exist in DeePMD-kit's TensorFlow models only; leave it out",
        ),
        "use_aparam_as_mask": Refused(
            (False,),
            "refused: it makes aparam the mask of the descriptor se_a_mask; a DPA-1 model would take no "
            "notice of aparam at all. Leave it out, and numb_aparam with it",
        ),
    }

    type: Annotated[Literal["ener"], BeforeValidator(_energy_type)] = Field(
        default="ener", description="What is fitted: `ener`, the energy."
    )
    seed: int | None = Field(
        default=None, ge=0, description="Seed of the net's initial weights. Unset: training.seed."
    )
    atom_ener: Annotated[tuple[float | None, ...] | None, BeforeValidator(none_if_empty)] = Field(
        default=None,
        description="For each type the exact energy of an isolated atom, eV; null where it is not known. It "
        "holds whatever the net learns (in DeePMD-kit it does not).",
    )

    def spec(self, ntypes: int, descriptor_width: int) -> FittingSpec:
        """The description of such a net.

        Args:
            ntypes: the number of types.
            descriptor_width: width of the descriptor.
        """
        shared = {name: getattr(self, name) for name in FittingHyperparameters.model_fields}
        return FittingSpec(**shared, ntypes=ntypes, descriptor_width=descriptor_width)


class ModelSettings(Settings):
    """The model: which elements it knows, its descriptor and its fitting net."""

    REFUSED: ClassVar[Mapping[str, Refused]] = {
        "type": Refused(("standard", None), "refused: dpax trains single energy models, type 'standard'"),
        "type_embedding": Refused(
            (None,),
            "refused: only TensorFlow models have this section; put tebd_dim and the rest into descriptor",
        ),
        "modifier": Refused(
            reason="refused: long-range electrostatics (DPLR) are outside dpax; leave the section out"
        ),
        "compress": Refused(reason="refused: models are compressed after training, not by their input file"),
        "spin": Refused(reason="refused: dpax has no spin degrees of freedom; leave the section out"),
        "model_branch_alias": Refused(([], None), "refused: it names a branch of a multi-task model"),
        "bridging_method": Refused(
            ("None", "none", "", None),
            "refused: DeePMD-kit has it for the descriptor DPA-4 only; for DPA-1 a pair potential at short "
            "distances is use_srtab",
        ),
        "model_dict": Refused((None, {}), "multi-task training, not supported yet by dpax"),
        "shared_dict": Refused((None, {}), "multi-task training, not supported yet by dpax"),
    }
    IGNORED: ClassVar[Mapping[str, str]] = {
        "info": "a note of DeePMD-kit's on where a model comes from; models of dpax have their provenance",
        "data_bias_nsample": "frames that DeePMD-kit's TensorFlow backend alone counts, when it changes the "
        "bias of a model before fine-tuning; its other backends ignore it too",
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
        "fitting net; same as --model-branch.",
    )
    data_stat_nbatch: int = Field(
        default=10, gt=0, description="Batches of every training system from which statistics are taken."
    )
    data_stat_protect: float = Field(
        default=1e-2, gt=0, description="Smallest deviation that fparam and aparam are divided by."
    )
    atom_exclude_types: tuple[int, ...] = Field(
        default=(), description="Types whose atoms have no energy of their own, though others see them."
    )
    pair_exclude_types: tuple[tuple[int, int], ...] = Field(
        default=(),
        description="Pairs of types that are no neighbours of each other: slots without a neighbour take "
        "their place, whereas descriptor.exclude_types leaves a neighbour of zeros.",
    )
    preset_out_bias: Annotated[
        dict[Literal["energy"], tuple[float | None, ...]] | None, BeforeValidator(_energies_of_preset)
    ] = Field(
        default=None,
        description='{"energy": [...]}: for each type the energy bias, eV, or null where statistics of the '
        "data give it.",
    )
    use_srtab: str | None = Field(
        default=None,
        min_length=1,
        description="File of a pair potential that takes over where atoms are close (ZBL, say): a row for "
        "each distance, Å, with the energies of the pairs of types 00, 01, …, 11, …, eV. Relative to the "
        "input file.",
    )
    smin_alpha: float = Field(
        default=0.1,
        gt=0,
        description="use_srtab: width of the soft minimum that picks the nearest neighbour, Å.",
    )
    sw_rmin: float | None = Field(
        default=None, ge=0, description="use_srtab: below this distance the pair potential acts alone, Å."
    )
    sw_rmax: float | None = Field(
        default=None, gt=0, description="use_srtab: above this distance it does not act, Å."
    )
    srtab_add_bias: bool = Field(
        default=True,
        description="use_srtab: whether the energy bias is added to the pair potential's energies too.",
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

    @field_validator("fitting_net")
    @classmethod
    def _energies_for_each_type(cls, value: FittingSettings, info: Any) -> FittingSettings:
        type_map = info.data.get("type_map")
        if type_map and value.atom_ener is not None and len(value.atom_ener) != len(type_map):
            got = len(value.atom_ener)
            raise ValueError(
                f"atom_ener should have one entry for each of the {len(type_map)} types, got {got}"
            )
        return value

    @field_validator("atom_exclude_types", "pair_exclude_types")
    @classmethod
    def _model_excludes_types_that_exist(cls, value: Any, info: Any) -> Any:
        type_map = info.data.get("type_map")
        if type_map and any(not 0 <= t < len(type_map) for t in np.ravel(value)):
            raise ValueError(f"should name types 0 to {len(type_map) - 1} of type_map, got {value}")
        return value

    @field_validator("preset_out_bias")
    @classmethod
    def _preset_for_each_type(cls, value: Any, info: Any) -> Any:
        type_map, net = info.data.get("type_map"), info.data.get("fitting_net")
        if value is None or type_map is None:
            return value
        preset, alone = value["energy"], net and net.atom_ener
        if len(preset) != len(type_map):
            raise ValueError(
                f"should have one entry for each of the {len(type_map)} types, got {len(preset)}"
            )
        twice = [n for n, e in enumerate(preset) if e is not None and alone and alone[n] is not None]
        if twice:
            name = type_map[twice[0]]
            raise ValueError(f"{name} has an entry in fitting_net.atom_ener too; keep one of them")
        silent = [n for n in info.data.get("atom_exclude_types", ()) if preset[n] is not None]
        if silent:
            raise ValueError(f"type {silent[0]} has no energy (atom_exclude_types), so it cannot have a bias")
        return value

    @field_validator("srtab_add_bias")
    @classmethod
    def _table_has_a_switch(cls, value: bool, info: Any) -> bool:
        data = info.data
        if data.get("use_srtab") is not None and {"sw_rmin", "sw_rmax"} <= set(data):
            low, high = data["sw_rmin"], data["sw_rmax"]
            if low is None or high is None or low >= high:
                raise ValueError(f"use_srtab needs sw_rmin < sw_rmax beside it, got {low} and {high}")
        return value

    @property
    def warnings(self) -> list[str]:
        """What is allowed, but not what one would want in new work."""
        messages = []
        if self.descriptor.jump is not None:
            messages.append(
                f"{self.descriptor.jump}: the energy jumps where an atom crosses the cutoff; "
                "smooth_type_embedding true with empty_slots dense, or se_atten_v2, is better for molecular "
                "dynamics"
            )
        if self.descriptor.order_dependent:
            messages.append("the energy depends on which atom comes first in a frame (dpax.order_dependent)")
        return messages

    @property
    def fixed_bias(self) -> tuple[float | None, ...]:
        """[ntypes], eV: the bias of each type that is given, None where it comes from the data."""
        nothing = (None,) * len(self.type_map)
        pairs = zip(self.preset_energies or nothing, self.fitting_net.atom_ener or nothing, strict=True)
        return tuple(preset if alone is None else alone for preset, alone in pairs)

    @property
    def preset_energies(self) -> tuple[float | None, ...] | None:
        """[ntypes], eV: the numbers of `preset_out_bias`."""
        return None if self.preset_out_bias is None else self.preset_out_bias["energy"]

    @property
    def needs_x64(self) -> bool:
        """Whether any part of the model computes in float64."""
        return any(
            p in ("default", "float64") for p in (self.descriptor.precision, self.fitting_net.precision)
        )
