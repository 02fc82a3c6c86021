"""The learning rate as a function of the step."""

import math
from collections.abc import Callable

from dpax.train.settings import LearningRateSettings

_SMALLEST_STOP = 1e-10


def make_schedule(settings: LearningRateSettings, numb_steps: int) -> Callable[[int], float]:
    """DeePMD-kit's exponential schedule: start_lr · r^⌊t/s⌋, no lower than the rate at the end.

    `decay_steps` s that are as long as the training are shortened as DeePMD-kit does, so that the rate
    does decay; r is what reaches the final rate after `numb_steps`, or `decay_rate` where given.

    Args:
        settings: of the schedule.
        numb_steps: steps of the training.

    Returns:
        From the number of steps already taken to the learning rate.
    """
    start, stop, s = settings.start_lr, settings.final_lr, settings.decay_steps
    if settings.decay_rate is not None:
        rate = settings.decay_rate
    else:
        if s >= numb_steps:
            s = 100 if numb_steps // 10 > 100 else numb_steps // 100 + 1
        rate = math.exp(math.log(max(stop, _SMALLEST_STOP) / start) / (numb_steps / s))

    def learning_rate(step: int) -> float:
        exponent = step / s if settings.smooth else step // s
        return max(start * rate**exponent, stop)

    return learning_rate
