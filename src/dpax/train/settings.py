"""Settings of a training: data, loss, learning rate, optimizer and the run itself.

`InputSettings` is a whole input file; a DPA-1 input file of DeePMD-kit is one too.
"""

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Annotated, Any, ClassVar, Literal

from pydantic import BeforeValidator, Field, field_validator

from dpax.errors import InputError
from dpax.model.settings import ModelSettings
from dpax.settings import Refused, Settings, read_input

_MULTI_TASK = Refused((None, {}), "multi-task training, not supported yet by dpax")


class LearningRateSettings(Settings):
    """The learning rate: start_lr · rate^(step / decay_steps), down to its final value."""

    REFUSED: ClassVar[Mapping[str, Refused]] = {
        "warmup_steps": Refused((0, None)),
        "warmup_ratio": Refused((None, 0)),
        "decay_phase_ratio": Refused(reason="a setting of the schedule wsd, not supported yet by dpax"),
        "decay_type": Refused(reason="a setting of the schedule wsd, not supported yet by dpax"),
    }
    IGNORED: ClassVar[Mapping[str, str]] = {
        "warmup_start_factor": "qualifies warmup_steps and warmup_ratio",
        "scale_by_worker": "the devices of dpax share one batch, so that nothing is to be scaled",
    }

    type: Literal["exp"] = Field(default="exp", description="The schedule: `exp`, exponential decay.")
    start_lr: float = Field(default=1e-3, gt=0, description="Learning rate of the first step.")
    stop_lr_ratio: float | None = Field(
        default=None,
        gt=0,
        le=1,
        description="Final learning rate as a fraction of start_lr, instead of stop_lr.",
    )
    stop_lr: float | None = Field(
        default_factory=lambda given: 5e-8 if given["stop_lr_ratio"] is None else None,
        gt=0,
        description="Learning rate at the end. Default: 5e-8, if stop_lr_ratio is not given.",
    )
    decay_steps: int = Field(default=5000, gt=0, description="Steps between two decays.")
    decay_rate: float | None = Field(
        default=None,
        gt=0,
        le=1,
        description="Factor of one decay. Unset: the one that ends at the final rate.",
    )
    smooth: bool = Field(default=False, description="Decay a little at every step instead of by stairs.")

    @field_validator("stop_lr")
    @classmethod
    def _one_way_to_stop(cls, value: float | None, info: Any) -> float | None:
        if value is not None and info.data.get("stop_lr_ratio") is not None:
            raise ValueError("stop_lr and stop_lr_ratio say the same thing; keep one of them")
        if value is not None and value > info.data.get("start_lr", value):
            raise ValueError(f"should be at most start_lr ({info.data['start_lr']}), got {value}")
        return value

    @property
    def final_lr(self) -> float:
        """Learning rate at the end of the training."""
        if self.stop_lr is not None:
            return self.stop_lr
        return self.start_lr * (self.stop_lr_ratio or 1.0)


class LossSettings(Settings):
    """The loss: mean squared errors, each with a prefactor that moves with the learning rate.

    A prefactor is limit + (start - limit) · lr / start_lr. Where both are 0 the term is left out.
    """

    REFUSED: ClassVar[Mapping[str, Refused]] = {
        "start_pref_pf": Refused((0,)),
        "limit_pref_pf": Refused((0,)),
        "start_pref_gf": Refused((0,)),
        "limit_pref_gf": Refused((0,)),
        "start_pref_h": Refused((0,)),
        "limit_pref_h": Refused((0,)),
        "use_default_pf": Refused((False,)),
        "relative_f": Refused(),
        "enable_atom_ener_coeff": Refused((False,)),
        "use_huber": Refused((False,)),
        "loss_func": Refused(("mse",)),
        "f_use_norm": Refused((False,)),
        "intensive_ener_virial": Refused((False,)),
    }
    IGNORED: ClassVar[Mapping[str, str]] = {
        "numb_generalized_coord": "qualifies start_pref_gf and limit_pref_gf",
        "huber_delta": "qualifies use_huber",
    }

    type: Literal["ener"] = Field(
        default="ener", description="The loss: `ener`, energies and their derivatives."
    )
    start_pref_e: float = Field(default=0.02, ge=0, description="Weight of the energy at the start, 1/eV².")
    limit_pref_e: float = Field(
        default=1.0, ge=0, description="Weight of the energy as the rate goes to 0, 1/eV²."
    )
    start_pref_f: float = Field(
        default=1000.0, ge=0, description="Weight of the forces at the start, Å²/eV²."
    )
    limit_pref_f: float = Field(
        default=1.0, ge=0, description="Weight of the forces as the rate goes to 0, Å²/eV²."
    )
    start_pref_v: float = Field(default=0.0, ge=0, description="Weight of the virial at the start, 1/eV².")
    limit_pref_v: float = Field(
        default=0.0, ge=0, description="Weight of the virial as the rate goes to 0, 1/eV²."
    )
    start_pref_ae: float = Field(
        default=0.0, ge=0, description="Weight of atomic energies at the start, 1/eV²."
    )
    limit_pref_ae: float = Field(
        default=0.0, ge=0, description="Weight of atomic energies as the rate goes to 0, 1/eV²."
    )


class OptimizerSettings(Settings):
    """The optimizer."""

    REFUSED: ClassVar[Mapping[str, Refused]] = {"weight_decay": Refused((0,))}

    type: Literal["Adam"] = Field(default="Adam", description="The optimizer: `Adam`.")
    adam_beta1: float = Field(default=0.9, ge=0, lt=1, description="Decay of the gradient's running mean.")
    adam_beta2: float = Field(default=0.999, ge=0, lt=1, description="Decay of its square's running mean.")


def _one_or_many_paths(value: Any) -> Any:
    paths = (value,) if isinstance(value, str) else value
    if isinstance(paths, Sequence) and paths and all(isinstance(path, str) and path for path in paths):
        return tuple(paths)
    raise ValueError(f"should be a path or a list of paths, got {value!r}")


def _batch_size(value: Any) -> Any:
    if isinstance(value, str):
        word, colon, number = value.partition(":")
        counted = number.isdecimal() and int(number) > 0
        if value == "auto" or (colon and counted and word in ("auto", "max", "filter", "mixed")):
            return value
    elif type(value) is int and value > 0:
        return value
    elif isinstance(value, Sequence) and value and all(type(size) is int and size > 0 for size in value):
        return tuple(value)
    raise ValueError(
        'should be a number of frames, a list with one for each system, "auto", "auto:N", "max:N", '
        f'"filter:N" or "mixed:N", got {value!r}'
    )


class DataSettings(Settings):
    """Where data is and how it is put into batches."""

    ALIASES: ClassVar[Mapping[str, str]] = {"auto_prob_style": "auto_prob", "sys_weights": "sys_probs"}
    REFUSED: ClassVar[Mapping[str, Refused]] = {
        "rglob_patterns": Refused((None, [])),
        "min_pair_dist": Refused((0, None)),
    }
    IGNORED: ClassVar[Mapping[str, str]] = {
        "set_prefix": "deprecated by DeePMD-kit itself; the folders are called set.* everywhere"
    }

    systems: Annotated[tuple[str, ...], BeforeValidator(_one_or_many_paths)] = Field(
        description="Folders in DeePMD-kit's layout, folders to be searched for these, files that ASE reads, "
        "patterns: one path or a list, relative to the input file."
    )
    batch_size: Annotated[int | tuple[int, ...] | str, BeforeValidator(_batch_size)] = Field(
        default="auto",
        description='Frames in a batch (a list: one number for each system). "auto:N": as many as have at '
        'least N atoms; "auto" is "auto:32"; "max:N": as many as have at most N atoms; "filter:N": the same, '
        'without systems of more atoms; "mixed:N": N. A batch is of one system.',
    )
    auto_prob: str = Field(
        default="prob_sys_size",
        description='How often a system is drawn: "prob_uniform"; "prob_sys_size", in proportion to its '
        'batches; "prob_sys_size;0:2:0.3;2:5:0.7", with given weights for ranges of systems.',
    )
    sys_probs: tuple[float, ...] | None = Field(
        default=None, description="Probability of each system; takes the place of auto_prob."
    )

    @field_validator("auto_prob")
    @classmethod
    def _known_rule(cls, value: str) -> str:
        if value not in ("prob_uniform", "prob_sys_size") and not value.startswith("prob_sys_size;"):
            raise ValueError(f'should be "prob_uniform", "prob_sys_size" or "prob_sys_size;…", got {value!r}')
        return value


class ValidationDataSettings(DataSettings):
    """The data that the model is never trained on."""

    ALIASES: ClassVar[Mapping[str, str]] = {**DataSettings.ALIASES, "numb_batch": "numb_btch"}
    REFUSED: ClassVar[Mapping[str, Refused]] = {"rglob_patterns": Refused((None, []))}

    numb_btch: int = Field(
        default=1, gt=0, description="Batches whose errors a line of the learning curve shows."
    )


class TrainingSettings(Settings):
    """The run: its data, its length, and what it writes how often."""

    ALIASES: ClassVar[Mapping[str, str]] = {
        "stop_batch": "numb_steps",
        "num_step": "numb_steps",
        "num_steps": "numb_steps",
        "numb_step": "numb_steps",
        "num_epochs": "numb_epoch",
        "num_epoch": "numb_epoch",
        "numb_epochs": "numb_epoch",
    }
    REFUSED: ClassVar[Mapping[str, Refused]] = {
        "numb_epoch": Refused(reason="not supported yet by dpax; give numb_steps"),
        "mixed_precision": Refused((None, {})),
        "save_dir": Refused(reason="refused: checkpoints of dpax lie in the run's folder"),
        "ckpt_keep_ratio": Refused(),
        "enable_ema": Refused((False,)),
        "change_bias_after_training": Refused((False,)),
        "disp_avg": Refused((False,)),
        "profiling": Refused((False,)),
        "enable_profiler": Refused((False,)),
        "tensorboard": Refused((False,)),
        "gradient_max_norm": Refused((None, 0)),
        "acc_freq": Refused((1,)),
        "zero_stage": Refused((0,)),
        "enable_tf32": Refused((False,)),
        "model_prob": _MULTI_TASK,
        "num_epoch_dict": _MULTI_TASK,
        "data_dict": _MULTI_TASK,
    }
    IGNORED: ClassVar[Mapping[str, str]] = {
        "stat_file": "a cache of statistics that dpax computes anew",
        "stat_file_mode": "qualifies stat_file",
        "save_ckpt": "checkpoints of dpax have a fixed place in the folder of the run",
        "neighbor_graph_method": "a choice of DeePMD-kit's neighbour search; every search finds the same",
        "enable_compile": "dpax compiles always",
        "ema_decay": "qualifies enable_ema",
        "ema_ckpt_keep": "qualifies enable_ema",
        "profiling_file": "qualifies profiling",
        "tensorboard_log_dir": "qualifies tensorboard",
        "tensorboard_freq": "qualifies tensorboard",
    }

    training_data: DataSettings = Field(description="The data that the model learns from.")
    validation_data: ValidationDataSettings | None = Field(
        default=None, description="The data on which its errors are watched."
    )
    numb_steps: int = Field(gt=0, description="Number of steps; each takes one batch.")
    seed: int | None = Field(
        default=None,
        ge=0,
        description="Seed of the order in which batches are drawn. Unset: one is drawn and noted in the run.",
    )
    disp_file: str = Field(
        default="lcurve.out",
        pattern=r"^[^/\\]+$",
        description="File of the learning curve, in the folder of the run.",
    )
    disp_freq: int = Field(default=1000, gt=0, description="Steps between two lines of the learning curve.")
    save_freq: int = Field(default=1000, gt=0, description="Steps between two checkpoints.")
    max_ckpt_keep: int = Field(
        default=5, gt=0, description="Number of checkpoints kept; older ones are deleted."
    )
    disp_training: bool = Field(default=True, description="Show the errors while training.")
    time_training: bool = Field(default=True, description="Show the speed while training.")


class ValidatingSettings(Settings):
    """DeePMD-kit's section on full validation, which dpax does always (see `dpax.valid_freq`)."""

    REFUSED: ClassVar[Mapping[str, Refused]] = {
        "full_validation": Refused(
            (False,), "refused: dpax always validates on all data; set dpax.valid_freq"
        ),
        "ema_full_validation": Refused((False,)),
    }
    IGNORED: ClassVar[Mapping[str, str]] = {
        "validation_freq": "qualifies full_validation",
        "save_best": "qualifies full_validation",
        "save_best_dir": "qualifies full_validation",
        "max_best_ckpt": "qualifies full_validation",
        "validation_metric": "qualifies full_validation",
        "full_val_file": "qualifies full_validation",
        "full_val_start": "qualifies full_validation",
        "compiled_infer": "dpax compiles always",
        "tf32_infer": "dpax never computes in TF32",
        "amp_infer": "dpax validates in the model's own precision",
    }


class StartedFromSettings(Settings):
    """The trained model that a run started from, as it is noted in the run's `input.json`."""

    how: Literal["init-model", "finetune"] = Field(description="The option that named the model.")
    model: str = Field(default="", description="Its file, or run. Empty: it was given in Python.")
    use_pretrain_script: bool = Field(
        default=False, description="Whether descriptor and fitting_net are those of the model."
    )


class DpaxSettings(Settings):
    """What dpax adds to DeePMD-kit's vocabulary."""

    init: Literal["dpax", "deepmd"] = Field(
        default="dpax",
        description="Rule of the initial weights: dpax's, which learns faster, or DeePMD-kit's.",
    )
    block_size: int | None = Field(
        default=None, gt=0, description="Atoms computed at a time. Unset: chosen for the machine."
    )
    valid_freq: int | None = Field(
        default=None,
        gt=0,
        description="Steps between two evaluations of the whole validation set, the best of which is kept as "
        "best.dpax. Unset: training.save_freq.",
    )
    started_from: StartedFromSettings | None = Field(
        default=None,
        description="A record that dpax writes: the model that was given with --init-model or --finetune.",
    )


class InputSettings(Settings):
    """A whole input file."""

    REFUSED: ClassVar[Mapping[str, Refused]] = {
        "nvnmd": Refused(reason="refused: NVNMD hardware is outside dpax; leave the section out"),
        "loss_dict": _MULTI_TASK,
        "learning_rate_dict": _MULTI_TASK,
    }

    model: ModelSettings = Field(description="The model.")
    learning_rate: LearningRateSettings = Field(
        default_factory=LearningRateSettings, description="The learning rate."
    )
    loss: LossSettings = Field(default_factory=LossSettings, description="The loss.")
    optimizer: OptimizerSettings = Field(default_factory=OptimizerSettings, description="The optimizer.")
    training: TrainingSettings = Field(description="The run.")
    validating: ValidatingSettings = Field(
        default_factory=ValidatingSettings, description="Accepted for the sake of DeePMD-kit's input files."
    )
    dpax: DpaxSettings = Field(default_factory=DpaxSettings, description="dpax's own settings.")

    @property
    def valid_freq(self) -> int:
        """Steps between two evaluations of the whole validation set."""
        return self.dpax.valid_freq or self.training.save_freq


def read_settings(
    path: str | Path, change: Callable[[dict[str, Any]], dict[str, Any]] | None = None
) -> InputSettings:
    """Read and check an input file.

    Args:
        path: of the file.
        change: what the command line changes of its content before it is checked.

    Raises:
        InputError: the file cannot be read, or anything in it is wrong.
    """
    content = read_input(path)
    if change is not None:
        content = change(content)
    try:
        return InputSettings.model_validate(content)
    except InputError as error:
        raise InputError(f"{path}: {error}") from None
