"""Settings of a training: data, loss, learning rate, optimizer and the run itself.

`InputSettings` is a whole input file; a DPA-1 input file of DeePMD-kit is one too.
"""

import math
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Annotated, Any, ClassVar, Literal, Self

from pydantic import BeforeValidator, Field, model_validator

from dpax.errors import InputError
from dpax.input_file import read_input
from dpax.model.settings import ModelSettings
from dpax.settings import Refused, Settings
from dpax.train.data_settings import TrainingDataSettings, ValidationDataSettings
from dpax.train.file_names import comparable, is_reserved
from dpax.train.learning_settings import LearningRateSettings, LossSettings, OptimizerSettings

_MULTI_TASK = Refused((None, {}), "multi-task training, not supported yet by dpax")


class TrainingSettings(Settings):
    """The run: its data, its length, and how often it writes what."""

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
        "mixed_precision": Refused(
            (None, {}), "refused: the precisions of the network are those of its precision keys"
        ),
        "save_dir": Refused(reason="refused: dpax writes checkpoints to the run's folder"),
        "tensorboard": Refused(
            (False,), "refused: dpax writes the curve to log.jsonl, not for TensorBoard; leave it out"
        ),
        "zero_stage": Refused(
            (0,), "refused: every device holds all parameters, which are few; leave it out"
        ),
        "enable_tf32": Refused(
            (False,), "refused: dpax multiplies matrices in the precision of the model; leave it out"
        ),
        "model_prob": _MULTI_TASK,
        "num_epoch_dict": _MULTI_TASK,
        "data_dict": _MULTI_TASK,
    }
    IGNORED: ClassVar[Mapping[str, str]] = {
        "save_ckpt": "checkpoints of dpax have a fixed place and name in the folder of the run",
        "neighbor_graph_method": "a choice of DeePMD-kit's exportable PyTorch backend; dpax's numbers are "
        "those of the dense form, which all backends share",
        "enable_compile": "dpax compiles always",
        "profiling_file": "JAX names the files of a trace itself",
        "tensorboard_log_dir": "qualifies tensorboard",
        "tensorboard_freq": "qualifies tensorboard",
    }

    training_data: TrainingDataSettings = Field(description="The data that the model learns from.")
    validation_data: ValidationDataSettings | None = Field(
        default=None, description="The data on which its errors are monitored."
    )
    numb_steps: int | None = Field(default=None, gt=0, description="Number of steps; each takes one batch.")
    numb_epoch: float | None = Field(
        default=None,
        gt=0,
        description="Number of epochs instead of numb_steps. An epoch is so many steps that every system is "
        "expected to have been seen once: the largest of batches / probability.",
    )
    seed: int | None = Field(
        default=None,
        ge=0,
        description="Seed of the order of batches. Unset: one is drawn and recorded in the run.",
    )
    disp_file: str = Field(
        default="lcurve.out",
        pattern=r"^[^/\\]+$",
        description="File of the learning curve, in the folder of the run.",
    )
    disp_freq: int = Field(default=1000, gt=0, description="Steps between two lines of the learning curve.")
    disp_avg: bool = Field(
        default=False,
        description="Show the mean of the training errors since the last line, not those of the last batch.",
    )
    save_freq: int = Field(default=1000, gt=0, description="Steps between two checkpoints.")
    max_ckpt_keep: int = Field(
        default=5, gt=0, description="Number of checkpoints kept; older ones are deleted."
    )
    ckpt_keep_ratio: float | None = Field(
        default=None,
        gt=0,
        lt=1,
        description="Checkpoints kept as a fraction of all checkpoints of the run, instead of a number.",
    )
    gradient_max_norm: float = Field(
        default=0.0, ge=0, description="Gradients are clipped to this norm. 0: never."
    )
    acc_freq: int = Field(
        default=1,
        gt=0,
        description="Steps whose gradients are averaged for one change of the weights: larger batches in "
        "less memory.",
    )
    enable_ema: bool = Field(
        default=False,
        description="Keep an exponential moving average of the weights: model_ema.dpax beside model.dpax.",
    )
    ema_decay: float = Field(default=0.999, ge=0, lt=1, description="Decay of the average per step.")
    ema_ckpt_keep: int | None = Field(
        default=None,
        gt=0,
        description="Number of averages kept. A checkpoint holds weights and average, so that the larger of "
        "this and max_ckpt_keep counts.",
    )
    change_bias_after_training: bool = Field(
        default=False,
        description="Fit the energy bias of model.dpax to its errors on the training data.",
    )
    stat_file: str | None = Field(
        default=None,
        description="File of dpax's statistics (JSON), shared by runs on the same data. Each run keeps "
        "its own in statistics.json.",
    )
    stat_file_mode: Literal["update", "read"] = Field(
        default="update",
        description="`update` rewrites a file that does not fit the data; `read` refuses it.",
    )
    profiling: bool = Field(
        default=False, description="Write a trace of three steps of JAX's profiler to the folder of the run."
    )
    enable_profiler: bool = Field(default=False, description="The same as profiling.")
    disp_training: bool = Field(default=True, description="Show the errors while training.")
    time_training: bool = Field(default=True, description="Show the speed while training.")

    @model_validator(mode="after")
    def _consistent(self) -> Self:
        if self.numb_steps is None and self.numb_epoch is None:
            raise ValueError("numb_steps is required and was not given; or give numb_epoch")
        if self.numb_steps is not None and self.numb_epoch is not None:
            raise ValueError(
                "numb_steps and numb_epoch both set the length of the training run; keep one of them"
            )
        if self.stat_file_mode == "read" and not self.stat_file:
            raise ValueError("stat_file_mode 'read' needs a stat_file")
        return self

    def kept_checkpoints(self, total_steps: int) -> int:
        """Number of checkpoints kept."""
        if self.ckpt_keep_ratio is not None:
            return max(1, math.ceil(self.ckpt_keep_ratio * math.ceil(total_steps / self.save_freq)))
        averages = self.ema_ckpt_keep if self.enable_ema else None
        return max(self.max_ckpt_keep, averages or 0)


def _metric(value: Any) -> Any:
    metric = value.strip().upper() if isinstance(value, str) else value
    if metric in ("S:MAE", "S:RMSE"):
        raise ValueError(
            f"{metric} is refused: dpax ranks models by the virial per atom, not by the stress; "
            f"take V{metric[1:]}"
        )
    return metric


class ValidatingSettings(Settings):
    """Full validation: errors on the whole validation set, by which the best models are chosen.

    dpax always does it; with full_validation it does it when and by which error DeePMD-kit would. Otherwise
    every `dpax.valid_freq` steps and at the end, and the best model is the one with the smallest mean squared
    errors, weighed by the limit prefactors of the loss.
    """

    REFUSED: ClassVar[Mapping[str, Refused]] = {
        "save_best_dir": Refused(reason="refused: dpax writes the best models to the run's folder"),
        "tf32_infer": Refused((False,), "refused: dpax validates in the precision of the model"),
        "amp_infer": Refused((False,), "refused: dpax validates in the precision of the model"),
    }
    IGNORED: ClassVar[Mapping[str, str]] = {"compiled_infer": "dpax compiles always"}

    full_validation: bool = Field(default=False, description="Validate according to this section.")
    ema_full_validation: bool = Field(
        default=False,
        description="The same for the averaged weights (training.enable_ema): val_ema.log, best_ema.dpax. "
        "Without full_validation only they are validated.",
    )
    validation_freq: int = Field(default=5000, gt=0, description="Steps between two full validations.")
    save_best: bool = Field(default=True, description="Keep the best models.")
    max_best_ckpt: int = Field(
        default=1,
        gt=0,
        description="Number of best models: with more than one also best-STEP.dpax, beside best.dpax.",
    )
    validation_metric: Annotated[
        Literal["E:MAE", "E:RMSE", "F:MAE", "F:RMSE", "V:MAE", "V:RMSE"], BeforeValidator(_metric)
    ] = Field(
        default="E:MAE",
        description="The error by which models are ranked: `E` (per atom), `F` or `V` (per atom), `MAE` or "
        "`RMSE`.",
    )
    full_val_file: str = Field(
        default="val.log",
        pattern=r"^[^/\\]+$",
        description="File of the errors on the whole validation set, in the folder of the run.",
    )
    full_val_start: float = Field(
        default=0.5,
        ge=0,
        description="First full validation: a step, or below 1 a fraction of the run. 1: never.",
    )

    @property
    def scheduled(self) -> bool:
        """Whether this section sets when to validate."""
        return self.full_validation or self.ema_full_validation

    def log_name(self, *, averaged: bool) -> str:
        """The name of the file of errors, of the weights or of their average."""
        name = Path(self.full_val_file)
        return f"{name.stem}_ema{name.suffix}" if averaged else self.full_val_file


class StartedFromSettings(Settings):
    """The trained model that a run started from, as recorded in the run's `input.json`."""

    how: Literal["init-model", "finetune"] = Field(description="The option that named the model.")
    model: str = Field(default="", description="Its file, or run. Empty: it was given in Python.")
    branch: str | None = Field(default=None, description="Its branch, if it is a multi-task model.")
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
        "best.dpax, where validating.full_validation does not say when. Unset: training.save_freq.",
    )
    order_dependent: bool = Field(
        default=False,
        description="Train even a model whose energy depends on which atom comes first in a frame: "
        "tebd_input_mode concat with set_davg_zero false, in DeePMD-kit's dense semantics.",
    )
    started_from: StartedFromSettings | None = Field(
        default=None,
        description="A record that dpax writes: the model that was given with --init-model or --finetune.",
    )
    restarts: tuple[str, ...] = Field(
        default=(),
        description="A record that dpax writes: what had changed when the run was restarted, with the step.",
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
        default_factory=ValidatingSettings, description="Errors on the whole validation set."
    )
    dpax: DpaxSettings = Field(default_factory=DpaxSettings, description="dpax's own settings.")

    @model_validator(mode="after")
    def _order_of_atoms_is_free(self) -> Self:
        if self.model.descriptor.order_dependent and not self.dpax.order_dependent:
            raise ValueError(
                "model.descriptor: with set_davg_zero false in concat mode DeePMD-kit's empty slots carry "
                "the type of a frame's first atom, so that the energy depends on the order of the atoms; set "
                'set_davg_zero to true, or tebd_input_mode to "strip", or insist with '
                "dpax.order_dependent: true"
            )
        return self

    @model_validator(mode="after")
    def _files_differ(self) -> Self:
        seen: dict[str, str] = {}
        for key, name in self.named_files.items():
            if is_reserved(name):
                raise ValueError(f"{key}: {name!r} is a name of the run's own files; choose another")
            other = seen.setdefault(comparable(name), key)
            if other != key:
                raise ValueError(f"{key} and {other} would be the same file, {name!r}; choose another name")
        return self

    @model_validator(mode="after")
    def _validation_fits(self) -> Self:
        validating, metric = self.validating, self.validating.validation_metric
        if validating.ema_full_validation and not self.training.enable_ema:
            raise ValueError("validating.ema_full_validation needs training.enable_ema")
        if not validating.scheduled or validating.full_val_start == 1:
            return self
        if self.dpax.valid_freq is not None:
            raise ValueError(
                "dpax.valid_freq and validating.validation_freq both set when to validate; keep one of them"
            )
        if self.training.validation_data is None:
            raise ValueError("validating.full_validation needs training.validation_data")
        if not self.loss.weighs(metric[0].lower()):
            raise ValueError(
                f"validating.validation_metric {metric} is not in the loss (start_pref_{metric[0].lower()} "
                "and limit_pref are 0)"
            )
        return self

    @property
    def named_files(self) -> dict[str, str]:
        """The files in the run's folder whose names are settings, by key."""
        return {
            "training.disp_file": self.training.disp_file,
            "validating.full_val_file": self.validating.log_name(averaged=False),
            "validating.full_val_file (of the average)": self.validating.log_name(averaged=True),
        }

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
        return settings_from(content)
    except InputError as error:
        raise InputError(f"{path}: {error}") from None


def settings_from(content: Mapping[str, Any]) -> InputSettings:
    """The settings in the content of an input file, also of one written for an older version of DeePMD-kit.

    Raises:
        InputError: anything in it is wrong.
    """
    from dpax.deepmd.older_inputs import modernised

    return InputSettings.model_validate(modernised(content))
