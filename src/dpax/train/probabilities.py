"""How often each system is drawn: DeePMD-kit's rules."""

from collections.abc import Sequence

import numpy as np

from dpax.errors import InputError

_ROUNDING = 1e-5
"""How far from 1 a sum of probabilities may be that the user has rounded."""


def system_probabilities(
    n_batches: Sequence[int], auto_prob: str, sys_probs: Sequence[float] | None
) -> list[float]:
    """The probability of each system, not necessarily adding up to 1.

    Args:
        n_batches: batches of each system.
        auto_prob: "prob_uniform"; "prob_sys_size", in proportion to the batches; or
            "prob_sys_size;START:END:WEIGHT;…", where each range of systems gets its weight, shared out in
            proportion to the batches; systems in no range are never drawn.
        sys_probs: explicit probabilities that take the place of the rule. Systems with a negative number
            share what the others leave of 1, in proportion to their batches.

    Raises:
        InputError: the rule is malformed, its ranges overlap or have no system, or the explicit
            probabilities are not one for each system or do not add up to 1.
    """
    sizes = np.asarray(n_batches, float)
    if sys_probs is not None:
        return _explicit(np.asarray(sys_probs, float), sizes)
    rule, *ranges = auto_prob.split(";")
    if rule == "prob_uniform":
        return [1.0] * len(sizes)
    if not ranges:
        return sizes.tolist()
    result, covered = np.zeros(len(sizes)), np.zeros(len(sizes), int)
    for text in ranges:
        start, stop, weight = _range(text, auto_prob)
        part = slice(start, stop)
        if not len(sizes[part]):
            raise InputError(
                f"auto_prob {auto_prob!r}: no system is in the range {start}:{stop}; there are systems 0 to "
                f"{len(sizes) - 1}"
            )
        covered[part] += 1
        result[part] = weight * sizes[part] / sizes[part].sum()
    if np.any(covered > 1):
        twice = int(np.flatnonzero(covered > 1)[0])
        raise InputError(
            f"auto_prob {auto_prob!r}: system {twice} (of 0 to {len(sizes) - 1}) is in {covered[twice]} "
            "ranges; they must not overlap"
        )
    return result.tolist()


def _explicit(probabilities: np.ndarray, sizes: np.ndarray) -> list[float]:
    if len(probabilities) != len(sizes):
        raise InputError(f"sys_probs lists {len(probabilities)} numbers for {len(sizes)} systems")
    open_ones = probabilities < 0
    left = 1.0 - probabilities[~open_ones].sum()
    if left < -_ROUNDING or (left > _ROUNDING) != open_ones.any():
        raise InputError(
            f"sys_probs has probabilities that add up to {1.0 - left:.6g}; they must add up to 1, or to less "
            "and have a negative number for each system that shares the rest"
        )
    shares = np.where(open_ones, sizes, 0.0) / max(sizes[open_ones].sum(), 1.0)
    return np.where(open_ones, left * shares, probabilities).tolist()


def _range(text: str, rule: str) -> tuple[int, int, float]:
    try:
        start, stop, weight = text.split(":")
        fields = int(start), int(stop), float(weight)
    except ValueError:
        raise InputError(f"auto_prob {rule!r}: {text!r} is not of the form START:END:WEIGHT") from None
    if not (np.isfinite(fields[2]) and fields[2] >= 0):
        raise InputError(f"auto_prob {rule!r}: the weight of {text!r} must be a number >= 0")
    return fields
