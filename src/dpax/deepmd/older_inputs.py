"""Input files of older versions of DeePMD-kit, translated to today's keys.

DeePMD-kit 3.2 reads these forms too and rewrites them by the same rules: systems named in `training` (1.x),
`numb_test` (1.x), a warm-up in `training` (3.0), an optimizer in `training` (3.1).
"""

import warnings
from collections.abc import Mapping
from typing import Any

from dpax.errors import InputError

_DATA = ("systems", "set_prefix", "batch_size", "auto_prob", "auto_prob_style", "sys_probs", "sys_weights")
_WARM_UP = ("warmup_steps", "warmup_ratio", "warmup_start_factor")
_OPTIMIZER = ("opt_type", "adam_beta1", "adam_beta2", "weight_decay")
_STEPS = ("numb_steps", "stop_batch", "num_step", "num_steps", "numb_step")


def modernised(content: Mapping[str, Any]) -> dict[str, Any]:
    """The same input file in the keys of DeePMD-kit 3.2, with a `DeprecationWarning` for each old form.

    Raises:
        InputError: an old and a new form of the same thing are given together.
    """
    content = dict(content)
    if not isinstance(content.get("training"), Mapping):
        return content
    content["training"] = dict(content["training"])
    if "systems" in content["training"]:
        _name_training_data(content)
    if content["training"].pop("numb_test", None) is not None:
        _deprecated("training.numb_test has no effect; set training.validation_data.batch_size instead")
    _move(content, _WARM_UP, "learning_rate")
    _move(content, _OPTIMIZER, "optimizer")
    return content


def _name_training_data(content: dict[str, Any]) -> None:
    training = content["training"]
    if "training_data" in training:
        raise InputError("training.systems and training.training_data both name the data; keep the second")
    training["training_data"] = {key: training.pop(key) for key in _DATA if key in training}
    _deprecated("training.systems is deprecated; systems and batch_size belong to training.training_data")
    rate = content.get("learning_rate")
    steps = next((training[key] for key in _STEPS if key in training), None)
    if isinstance(rate, Mapping) and steps and {"decay_rate", "decay_steps", "start_lr"} <= rate.keys():
        # In such files the rate of decay stands for the rate at the end.
        remaining = {key: value for key, value in rate.items() if key != "decay_rate"}
        try:
            stop = rate["start_lr"] * rate["decay_rate"] ** (steps / rate["decay_steps"])
        except (TypeError, ArithmeticError) as error:
            raise InputError(
                "learning_rate: start_lr, decay_rate and decay_steps give no rate at the end after "
                f"{str(steps)[:60]} steps ({error}); they should be positive numbers"
            ) from error
        content["learning_rate"] = remaining | {"stop_lr": stop}


def _move(content: dict[str, Any], keys: tuple[str, ...], section: str) -> None:
    """Move keys that once belonged to `training` into a section of their own."""
    training = content["training"]
    moved = {key.removeprefix("opt_"): training.pop(key) for key in keys if key in training}
    if not moved:
        return
    present = content.get(section) or {}
    if not isinstance(present, Mapping):
        return  # reported where the section is read
    twice = sorted(moved.keys() & present.keys())
    if twice:
        raise InputError(f"training and {section} both have {twice[0]}; keep the one in {section}")
    content[section] = {**present, **moved}
    _deprecated(
        f"training.{', training.'.join(k for k in keys if k.removeprefix('opt_') in moved)}: "
        f"deprecated; the place of these keys is the section {section}"
    )


def _deprecated(text: str) -> None:
    warnings.warn(text, DeprecationWarning, stacklevel=2)
