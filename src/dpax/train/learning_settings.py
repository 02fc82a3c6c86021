"""Settings of what is minimised and how: learning rate, loss and optimizer."""

from collections.abc import Mapping, Sequence
from typing import Annotated, Any, ClassVar, Literal, Self

from pydantic import BeforeValidator, Field, create_model, field_validator, model_validator

from dpax.data.quantities import LABELS
from dpax.settings import Refused, Settings

_OF_SCHEDULE = {
    "decay_steps": ("exp", 5000),
    "decay_rate": ("exp", None),
    "smooth": ("exp", False),
    "decay_phase_ratio": ("wsd", 0.1),
    "decay_type": ("wsd", "inverse_linear"),
}
"""Keys that only one schedule knows: that schedule, and their default there."""


def _default_of(key: str) -> Any:
    """The default of such a key: unset for the other schedules."""
    schedule, default = _OF_SCHEDULE[key]
    return lambda data: default if data.get("type") == schedule else None


class LearningRateSettings(Settings):
    """The learning rate as a function of the step: a linear warm-up, then one of three schedules.

    With t steps since the warm-up, `exp`: start_lr · decay_rate^⌊t / decay_steps⌋, not below the final rate.
    `cosine`: half a cosine wave from start_lr to the final rate. `wsd`: start_lr, until in the last steps the
    rate falls to the final one.
    """

    IGNORED: ClassVar[Mapping[str, str]] = {
        "scale_by_worker": "the devices of dpax share one batch, so that nothing is to be scaled",
    }

    type: Literal["exp", "cosine", "wsd"] = Field(
        default="exp", description="The schedule: `exp`, `cosine` or `wsd`."
    )
    start_lr: float = Field(default=1e-3, gt=0, description="Learning rate after the warm-up.")
    stop_lr_ratio: float | None = Field(
        default=None,
        gt=0,
        le=1,
        description="Final learning rate as a fraction of start_lr, instead of stop_lr.",
    )
    stop_lr: float | None = Field(
        default_factory=lambda data: 5e-8 if data["stop_lr_ratio"] is None else None,
        ge=0,
        description="Learning rate at the end. Default: 5e-8, if stop_lr_ratio is not given.",
    )
    warmup_steps: int = Field(
        default=0, ge=0, description="Steps in which the rate rises to start_lr at the beginning."
    )
    warmup_ratio: float | None = Field(
        default=None, ge=0, lt=1, description="The same as a fraction of all steps, instead of warmup_steps."
    )
    warmup_start_factor: float = Field(
        default=0.0, ge=0, description="Learning rate of the first step of a warm-up, in units of start_lr."
    )
    decay_steps: int | None = Field(
        default_factory=_default_of("decay_steps"),
        gt=0,
        description="exp: steps between two decays (5000). Where that is as long as the training and no "
        "decay_rate is given, a hundredth of the training, but at most 100 steps.",
    )
    decay_rate: float | None = Field(
        default_factory=_default_of("decay_rate"),
        gt=0,
        le=1,
        description="exp: factor of one decay. Unset: the one that ends at the final rate.",
    )
    smooth: bool | None = Field(
        default_factory=_default_of("smooth"),
        description="exp: decay a little at every step instead of by stairs (false).",
    )
    decay_phase_ratio: float | None = Field(
        default_factory=_default_of("decay_phase_ratio"),
        gt=0,
        le=1,
        description="wsd: the last part of all steps, in which the rate falls (0.1).",
    )
    decay_type: Literal["inverse_linear", "cosine", "linear"] | None = Field(
        default_factory=_default_of("decay_type"),
        description="wsd: how it falls: `inverse_linear` (the default), `cosine` or `linear`.",
    )

    @field_validator("stop_lr")
    @classmethod
    def _one_way_to_stop(cls, value: float | None, info: Any) -> float | None:
        if value is not None and info.data.get("stop_lr_ratio") is not None:
            raise ValueError("stop_lr and stop_lr_ratio set the same thing; keep one of them")
        if value is not None and value > info.data.get("start_lr", value):
            raise ValueError(f"should be at most start_lr ({info.data['start_lr']}), got {value}")
        if value == 0 and info.data.get("type") == "wsd":
            raise ValueError("should be greater than 0 for the schedule wsd")
        return value

    @field_validator("warmup_ratio")
    @classmethod
    def _one_warm_up(cls, value: float | None, info: Any) -> float | None:
        if value is not None and info.data.get("warmup_steps"):
            raise ValueError("warmup_steps and warmup_ratio set the same thing; keep one of them")
        return value

    @field_validator(*_OF_SCHEDULE)
    @classmethod
    def _of_this_schedule(cls, value: Any, info: Any) -> Any:
        schedule = _OF_SCHEDULE[info.field_name][0]
        if value is not None and info.data.get("type", schedule) != schedule:
            raise ValueError(f"is a setting of the schedule {schedule}; type is {info.data['type']}")
        return value

    @property
    def final_lr(self) -> float:
        """Learning rate at the end of the training."""
        if self.stop_lr is not None:
            return self.stop_lr
        return self.start_lr * (self.stop_lr_ratio or 1.0)


def _energy_loss(value: Any) -> Any:
    if value in ("ener", "ener_hess"):
        return "ener"
    raise ValueError(
        f"dpax trains energies and their derivatives: the loss is 'ener' (or its old name 'ener_hess'), "
        f"got {value!r}"
    )


def _one_or_three(value: Any) -> Any:
    numbers = value if isinstance(value, Sequence) and len(value) == 3 else (value,)
    if all(isinstance(number, int | float) and number > 0 for number in numbers):
        return value
    raise ValueError(f"should be a number above 0 or three of them, got {value!r}")


def _settings_of_labels() -> dict[str, Any]:
    """Where the prefactor of each term starts and where it goes, and what else has labels used."""
    settings: dict[str, Any] = {}
    for label in LABELS.values():
        if label.term is not None:
            name, of = label.term.name, label.term.of
            start, limit = f"Weight of {of} at the start.", f"Weight of {of} as the learning rate goes to 0."
            settings[f"start_pref_{name}"] = float, Field(label.term.start, ge=0, description=start)
            settings[f"limit_pref_{name}"] = float, Field(label.term.limit, ge=0, description=limit)
        if label.loss_option is not None:
            settings[label.loss_option.name] = bool, Field(False, description=label.loss_option.description)
    return settings


_OfLabels = create_model("_OfLabels", __base__=Settings, **_settings_of_labels())


class LossSettings(_OfLabels):
    """The loss: mean errors, each with a prefactor that moves with the learning rate.

    A prefactor is limit + (start - limit) · lr / start_lr. Where both are 0 the term is left out.
    """

    type: Annotated[Literal["ener"], BeforeValidator(_energy_loss)] = Field(
        default="ener", description="The loss: `ener`, energies and their derivatives."
    )
    loss_func: Literal["mse", "mae"] = Field(
        default="mse", description="Squares (`mse`) or absolute values (`mae`) of the errors."
    )
    intensive_ener_virial: bool = Field(
        default=False,
        description="Squares of energies and virials per atom, 1/n², instead of 1/n for n atoms.",
    )
    use_huber: bool = Field(
        default=False,
        description="Energies and virials per atom, forces and atomic energies: squares up to huber_delta, "
        "linear beyond.",
    )
    huber_delta: Annotated[float | tuple[float, ...], BeforeValidator(_one_or_three)] = Field(
        default=0.01, description="One number, or three for energy, force and virial; eV and Å."
    )
    f_use_norm: bool = Field(
        default=False,
        description="The length of a force's error instead of its components; with `mae` or use_huber.",
    )
    relative_f: float | None = Field(
        default=None,
        gt=0,
        description="Divide the error of a force by the force's length plus this, eV/Å.",
    )
    use_default_pf: bool = Field(
        default=False, description="Frames without atom_pref weigh every atom with 1 in the term pf."
    )
    numb_generalized_coord: int = Field(
        default=0, ge=0, description="Generalized coordinates in the label drdq of the term gf."
    )

    @model_validator(mode="after")
    def _terms_fit(self) -> Self:
        if self.weighs("gf") and not self.numb_generalized_coord:
            raise ValueError(
                "numb_generalized_coord should be at least 1 where generalized forces weigh (pref_gf)"
            )
        if self.use_huber and self.loss_func == "mae":
            raise ValueError("use_huber has no meaning with loss_func 'mae'; keep one of them")
        if self.f_use_norm and not (self.use_huber or self.loss_func == "mae"):
            raise ValueError("f_use_norm needs loss_func 'mae' or use_huber")
        unfit = [term for term in ("pf", "gf", "h") if self.weighs(term)]
        unfit += ["relative_f"] if self.relative_f is not None else []
        if self.use_huber and unfit:
            raise ValueError(f"use_huber is not defined together with {', '.join(unfit)}")
        return self

    def pair(self, term: str) -> tuple[float, float]:
        """Prefactors of a term (e, f, v, ae, pf, gf, h) at the start and in the limit."""
        return getattr(self, f"start_pref_{term}"), getattr(self, f"limit_pref_{term}")

    def weighs(self, term: str) -> bool:
        """Whether a term is in the loss."""
        return any(self.pair(term))

    def takes(self, name: str) -> bool:
        """Whether the loss looks at a label."""
        label = LABELS[name]
        if label.loss_option is not None:
            return getattr(self, label.loss_option.name)
        return label.term is not None and self.weighs(label.term.name)

    @property
    def huber_deltas(self) -> tuple[float, ...]:
        """Of energy, force and virial."""
        delta = self.huber_delta
        return delta if isinstance(delta, tuple) else (delta,) * 3


_NO_OPTIMIZER = {
    "LKF": "a Kalman filter has no counterpart in optax",
    "AdaMuon": "optax has Muon, without AdaMuon's second moment and signs",
    "HybridMuon": "optax has Muon, without HybridMuon's routing by names, damping and Gram iteration",
}


def _optimizer(value: Any) -> Any:
    if value in _NO_OPTIMIZER:
        raise ValueError(f"{value} is refused: {_NO_OPTIMIZER[value]}; dpax has Adam and AdamW")
    return value


class OptimizerSettings(Settings):
    """The optimizer."""

    ALIASES: ClassVar[Mapping[str, str]] = {"muon_momentum": "momentum"}
    REFUSED: ClassVar[Mapping[str, Refused]] = dict.fromkeys(
        (
            "kf_blocksize",
            "kf_start_pref_e",
            "kf_limit_pref_e",
            "kf_start_pref_f",
            "kf_limit_pref_f",
            "momentum",
            "lr_adjust",
            "lr_adjust_coeff",
            "muon_mode",
            "enable_gram",
            "flash_muon",
            "magma_muon",
        ),
        Refused(reason="a setting of an optimizer that dpax does not have; Adam and AdamW are there"),
    )

    type: Annotated[Literal["Adam", "AdamW"], BeforeValidator(_optimizer)] = Field(
        default="Adam", description="The optimizer: `Adam` or `AdamW`."
    )
    adam_beta1: float = Field(default=0.9, ge=0, lt=1, description="Decay of the gradient's running mean.")
    adam_beta2: float = Field(default=0.999, ge=0, lt=1, description="Decay of its square's running mean.")
    weight_decay: float = Field(
        default_factory=lambda data: 1e-3 if data.get("type") == "AdamW" else 0.0,
        ge=0,
        description="Adam (0): times the weights, added to the gradient. AdamW (1e-3): times the weights and "
        "the learning rate, taken off the weights.",
    )
