"""What may change between a run and its restart, and what of it makes another experiment."""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from enum import Enum
from typing import Any

from dpax.errors import InputError, shortened
from dpax.train.data_record import Sections, compare, listed
from dpax.train.schedule import make_schedule
from dpax.train.settings import InputSettings


class Effect(Enum):
    """What a change of a setting means for a restarted run."""

    NONE = "the steps, the models and their choice are what they would have been"
    TOLD = "the steps are what they would have been, but something else differs that one may want to know"
    EXPERIMENT = "what follows is another experiment"
    KEPT = "nothing: the run keeps its own value"
    COMPARED = "nothing by itself: what it names is compared"


EFFECTS: Mapping[str, Effect] = {
    # A restart with another model is refused before this table is asked.
    "model": Effect.EXPERIMENT,
    "learning_rate": Effect.EXPERIMENT,
    "loss": Effect.EXPERIMENT,
    "optimizer": Effect.EXPERIMENT,
    "training.training_data.systems": Effect.COMPARED,
    "training.training_data.rglob_patterns": Effect.COMPARED,
    "training.training_data.batch_size": Effect.EXPERIMENT,
    "training.training_data.auto_prob": Effect.EXPERIMENT,
    "training.training_data.sys_probs": Effect.EXPERIMENT,
    "training.training_data.min_pair_dist": Effect.EXPERIMENT,
    "training.training_data.keys": Effect.EXPERIMENT,
    "training.training_data.keep_unconverged": Effect.EXPERIMENT,
    "training.validation_data": Effect.TOLD,
    "training.validation_data.systems": Effect.COMPARED,
    "training.validation_data.rglob_patterns": Effect.COMPARED,
    "training.validation_data.batch_size": Effect.TOLD,
    "training.validation_data.auto_prob": Effect.TOLD,
    "training.validation_data.sys_probs": Effect.TOLD,
    "training.validation_data.numb_btch": Effect.TOLD,
    "training.validation_data.keys": Effect.EXPERIMENT,
    "training.validation_data.keep_unconverged": Effect.TOLD,
    "training.numb_steps": Effect.TOLD,
    "training.numb_epoch": Effect.TOLD,
    "training.seed": Effect.KEPT,
    "training.disp_file": Effect.TOLD,
    "training.disp_freq": Effect.NONE,
    "training.disp_avg": Effect.NONE,
    "training.save_freq": Effect.NONE,
    "training.max_ckpt_keep": Effect.NONE,
    "training.ckpt_keep_ratio": Effect.NONE,
    "training.gradient_max_norm": Effect.EXPERIMENT,
    "training.acc_freq": Effect.EXPERIMENT,
    "training.enable_ema": Effect.EXPERIMENT,
    "training.ema_decay": Effect.EXPERIMENT,
    "training.ema_ckpt_keep": Effect.NONE,
    "training.change_bias_after_training": Effect.TOLD,
    "training.stat_file": Effect.NONE,
    "training.stat_file_mode": Effect.NONE,
    "training.profiling": Effect.NONE,
    "training.enable_profiler": Effect.NONE,
    "training.disp_training": Effect.NONE,
    "training.time_training": Effect.NONE,
    "validating.full_validation": Effect.EXPERIMENT,
    "validating.ema_full_validation": Effect.TOLD,
    "validating.validation_freq": Effect.TOLD,
    "validating.save_best": Effect.TOLD,
    "validating.max_best_ckpt": Effect.TOLD,
    "validating.validation_metric": Effect.EXPERIMENT,
    "validating.full_val_file": Effect.TOLD,
    "validating.full_val_start": Effect.TOLD,
    "dpax.init": Effect.EXPERIMENT,
    "dpax.block_size": Effect.TOLD,
    "dpax.valid_freq": Effect.TOLD,
    "dpax.order_dependent": Effect.NONE,
    "dpax.started_from": Effect.KEPT,
    "dpax.restarts": Effect.KEPT,
}
"""Of every key, or of a whole section."""

_RANKING = (
    "loss",
    "training.validation_data.keys",
    "validating.full_validation",
    "validating.validation_metric",
)
"""What the errors are measured by that tell the best models."""


@dataclass(frozen=True)
class Difference:
    """A value that differs between two settings."""

    key: str
    before: Any
    now: Any

    def __str__(self) -> str:
        return f"{self.key} was {shortened(self.before)} and is now {shortened(self.now)}"

    @property
    def effect(self) -> Effect:
        """Of the key, or of the innermost section in the table."""
        key = self.key
        while key not in EFFECTS:
            key = key.rpartition(".")[0]
        return EFFECTS[key]


def differences(before: Mapping[str, Any], now: Mapping[str, Any]) -> list[Difference]:
    """What differs between two trees of plain settings."""
    return list(_walk(before, now, ""))


def _walk(before: Any, now: Any, path: str) -> Iterator[Difference]:
    if before == now:
        return
    if not (isinstance(before, dict) and isinstance(now, dict)):
        yield Difference(path, before, now)
        return
    for key in dict.fromkeys([*before, *now]):
        yield from _walk(before.get(key), now.get(key), f"{path}.{key}".lstrip("."))


@dataclass
class Changes:
    """What has changed since the run was last started, as sentences."""

    experiment: list[str] = field(default_factory=list)
    """Of the steps that follow."""
    harmless: list[str] = field(default_factory=list)
    """Of what is worth knowing all the same."""
    reranked: bool = False
    """Whether errors on the validation data cannot be compared with those from before."""

    @property
    def texts(self) -> list[str]:
        """All of them."""
        return [*self.experiment, *self.harmless]

    def check(self) -> None:
        """Check that a restart continues the same experiment.

        Raises:
            InputError: it would be another.
        """
        if self.experiment:
            raise InputError(
                f"--restart would go on with another experiment: {listed(self.experiment)}. Undo the "
                "changes, start a new run in another folder, or continue anyway with --allow-changes"
            )

    def compare_settings(self, before: InputSettings, now: InputSettings) -> None:
        """Note what differs between the settings of the run and those of its restart."""
        for difference in differences(before.resolved(), now.resolved()):
            if difference.effect is Effect.EXPERIMENT:
                self.experiment.append(str(difference))
            elif difference.effect is Effect.TOLD:
                self.harmless.append(str(difference))
            self.reranked |= difference.key.startswith(_RANKING)

    def compare_data(self, before: Sections | None, now: Sections) -> None:
        """Note what differs between the data of the run and those of its restart."""
        if before is None:
            self.harmless.append(
                "the run has no record of its data (data.json; earlier versions of dpax kept none), so "
                "whether they have changed is not checked"
            )
            return
        training = compare(before["training_data"], now["training_data"])
        both = before["validation_data"] and now["validation_data"]
        validation = compare(before["validation_data"], now["validation_data"]) if both else []
        self.experiment += [f"training data: {text}" for text in training]
        self.experiment += [f"validation data: {text}" for text in validation]
        self.reranked |= bool(validation)

    def compare_rates(
        self, before: InputSettings, now: InputSettings, totals: tuple[int, int], done: int
    ) -> None:
        """Note what another number of steps does to the learning rate.

        Args:
            before: settings of the run.
            now: settings of the restart.
            totals: steps of the training before and now.
            done: steps that are done.
        """
        if before.learning_rate != now.learning_rate or totals[0] == totals[1]:
            return
        was, rate = (make_schedule(now.learning_rate, total)(done) for total in totals)
        if was != rate:
            self.harmless.append(
                f"the learning rate depends on the number of steps, {totals[0]} before and {totals[1]} now: "
                f"that of the next step is {rate:.3g} instead of {was:.3g}"
            )

    def compare_seeds(self, before: int | None, asked: int | None) -> None:
        """Note that the run keeps its seed where another is asked for."""
        if asked not in (None, before):
            self.harmless.append(f"training.seed is now {asked}, but the run keeps its own, {before}")
