"""Settings of the data: where they are, and how they are put into batches."""

from collections.abc import Mapping, Sequence
from typing import Annotated, Any, ClassVar

from pydantic import BeforeValidator, Field, field_validator

from dpax.data.ase_io import Reading
from dpax.data.batch_sizes import checked_rule
from dpax.data.label_keys import check_keys
from dpax.settings import Settings


def _one_or_many_paths(value: Any) -> Any:
    paths = (value,) if isinstance(value, str) else value
    if isinstance(paths, Sequence) and paths and all(isinstance(path, str) and path for path in paths):
        return tuple(paths)
    raise ValueError(f"should be a path or a list of paths, got {value!r}")


class DataSettings(Settings):
    """Where data is and how it is put into batches."""

    ALIASES: ClassVar[Mapping[str, str]] = {"auto_prob_style": "auto_prob", "sys_weights": "sys_probs"}
    IGNORED: ClassVar[Mapping[str, str]] = {
        "set_prefix": "without effect in DeePMD-kit too; the folders of frames are called set.*"
    }

    systems: Annotated[tuple[str, ...], BeforeValidator(_one_or_many_paths)] = Field(
        description="Folders in DeePMD-kit's layout, folders to be searched for these, HDF5 files (file.h5 "
        "or file.h5#/group), LMDB data sets, files that ASE reads, patterns: one path or a list, relative to "
        "the input file."
    )
    rglob_patterns: tuple[str, ...] | None = Field(
        default=None,
        description="Patterns of the system folders that are taken where a folder is searched; each may "
        "match at any depth. Unset: all that hold type.raw.",
    )
    batch_size: Annotated[int | tuple[int, ...] | str, BeforeValidator(checked_rule)] = Field(
        default="auto",
        description='Frames in a batch (a list: one number for each system). "auto:N": as many as have at '
        'least N atoms; "auto" is "auto:32"; "max:N": as many as have at most N atoms; "filter:N": the same, '
        'without frames of more atoms; "mixed:N": N frames drawn from all systems. Any other batch is of '
        "one system.",
    )
    auto_prob: str = Field(
        default="prob_sys_size",
        description='How often a system is drawn: "prob_uniform"; "prob_sys_size", in proportion to its '
        'batches; "prob_sys_size;0:2:0.3;2:5:0.7", with given weights for ranges of systems.',
    )
    sys_probs: tuple[float, ...] | None = Field(
        default=None,
        description="Probability of each system; takes the place of auto_prob. They add up to 1; systems "
        "with a negative number share what the others leave, in proportion to their batches.",
    )

    keys: dict[str, str] = Field(
        default_factory=dict,
        description="Keys of labels that go by another name in files that ASE reads, "
        "`{energy: REF_energy, forces: REF_forces}` for example; also of virial, stress, atom_energies and "
        "hessian. A label that is named here is read from there alone.",
    )
    keep_unconverged: bool = Field(
        default=False,
        description="Keep frames whose electronic loop did not converge. They are left out where the output "
        "of VASP, Gaussian or another code tells of it.",
    )

    @field_validator("keys")
    @classmethod
    def _known_quantities(cls, value: dict[str, str]) -> dict[str, str]:
        check_keys(value, "keys")
        return value

    @property
    def reading(self) -> Reading:
        """How files of other programs are read."""
        return Reading(self.keys, self.keep_unconverged)

    @field_validator("auto_prob")
    @classmethod
    def _known_rule(cls, value: str) -> str:
        if value not in ("prob_uniform", "prob_sys_size") and not value.startswith("prob_sys_size;"):
            raise ValueError(f'should be "prob_uniform", "prob_sys_size" or "prob_sys_size;…", got {value!r}')
        return value


class TrainingDataSettings(DataSettings):
    """The data that the model learns from."""

    min_pair_dist: float = Field(
        default=0.0,
        ge=0,
        description="Frames with two atoms closer than this, in Å, are left out: of the steps and of the "
        "statistics. 0: none are.",
    )


class ValidationDataSettings(DataSettings):
    """The data that the model is never trained on."""

    ALIASES: ClassVar[Mapping[str, str]] = {**DataSettings.ALIASES, "numb_batch": "numb_btch"}

    numb_btch: int = Field(
        default=1, gt=0, description="Batches whose errors a line of the learning curve shows."
    )
