"""The learning rate as a function of the step: DeePMD-kit's schedules."""

import math
from collections.abc import Callable

from dpax.errors import InputError
from dpax.train.learning_settings import LearningRateSettings

_SMALLEST_STOP = 1e-10

Schedule = Callable[[int], float]


def make_schedule(settings: LearningRateSettings, numb_steps: int) -> Schedule:
    """A linear warm-up, followed by the schedule of the settings over the remaining steps.

    Args:
        settings: of the schedule.
        numb_steps: steps of the training.

    Returns:
        From the number of steps already taken to the learning rate.

    Raises:
        InputError: the warm-up takes the whole training.
    """
    warmup = warmup_length(settings, numb_steps)
    decay = {"exp": _exp, "cosine": _cosine, "wsd": _wsd}[settings.type](settings, numb_steps, warmup)
    start = settings.start_lr
    first = settings.warmup_start_factor * start

    def learning_rate(step: int) -> float:
        if step < warmup:
            return first + (start - first) * step / warmup
        return decay(step - warmup)

    return learning_rate


def warmup_length(settings: LearningRateSettings, numb_steps: int) -> int:
    """Steps of the warm-up.

    Raises:
        InputError: as many as the training has, or more.
    """
    ratio = settings.warmup_ratio
    steps = settings.warmup_steps if ratio is None else int(ratio * numb_steps)
    if steps >= numb_steps:
        raise InputError(
            f"learning_rate.warmup_steps: {steps} steps of warm-up in a training run of {numb_steps}; "
            "make the warm-up shorter"
        )
    return steps


def _exp(settings: LearningRateSettings, numb_steps: int, warmup: int) -> Schedule:
    """start · r^⌊t/s⌋, no lower than the final rate.

    Decays as far apart as the run is long are brought closer together as in DeePMD-kit, so that the
    rate does decay; r is what reaches the final rate at the end, or `decay_rate` where given.
    """
    start, stop, left = settings.start_lr, settings.final_lr, numb_steps - warmup
    s = settings.decay_steps
    assert s is not None
    if settings.decay_rate is not None:
        rate = settings.decay_rate
    else:
        if s >= left:
            s = 100 if left // 10 > 100 else left // 100 + 1
        rate = math.exp(math.log(max(stop, _SMALLEST_STOP) / start) / (left / s))

    def learning_rate(t: int) -> float:
        exponent = t / s if settings.smooth else t // s
        return max(start * rate**exponent, stop)

    return learning_rate


def _cosine(settings: LearningRateSettings, numb_steps: int, warmup: int) -> Schedule:
    """Half a cosine wave from start to stop."""
    left = numb_steps - warmup

    def learning_rate(t: int) -> float:
        return _along_cosine(settings.start_lr, settings.final_lr, min(t / left, 1.0))

    return learning_rate


def _wsd(settings: LearningRateSettings, numb_steps: int, warmup: int) -> Schedule:
    """start, until `decay_phase_ratio` of all steps are left; from there to stop."""
    assert settings.decay_phase_ratio is not None
    left = numb_steps - warmup
    falling = max(1, min(int(settings.decay_phase_ratio * numb_steps), left))
    start, stop = settings.start_lr, settings.final_lr

    def learning_rate(t: int) -> float:
        tau = min(max((t - (left - falling)) / falling, 0.0), 1.0)
        match settings.decay_type:
            case "cosine":
                return _along_cosine(start, stop, tau)
            case "linear":
                return start + (stop - start) * tau
            case _:
                return 1.0 / (tau / stop + (1.0 - tau) / start)

    return learning_rate


def _along_cosine(start: float, stop: float, part: float) -> float:
    return stop + 0.5 * (start - stop) * (1.0 + math.cos(math.pi * part))
