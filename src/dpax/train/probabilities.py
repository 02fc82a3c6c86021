"""How often each system is drawn: DeePMD-kit's rules."""

from collections.abc import Sequence

import numpy as np

from dpax.errors import InputError


def system_probabilities(
    n_batches: Sequence[int], auto_prob: str, sys_probs: Sequence[float] | None
) -> list[float]:
    """The probability of each system, not necessarily adding up to 1.

    Args:
        n_batches: batches of each system.
        auto_prob: "prob_uniform"; "prob_sys_size", in proportion to the batches; or
            "prob_sys_size;START:END:WEIGHT;…", where each range of systems gets its weight, shared out in
            proportion to the batches.
        sys_probs: explicit probabilities that take the place of the rule.

    Raises:
        InputError: the rule is malformed, its ranges do not cover the systems once, or the explicit
            probabilities are not one for each system.
    """
    sizes = np.asarray(n_batches, float)
    if sys_probs is not None:
        if len(sys_probs) != len(sizes):
            raise InputError(f"sys_probs lists {len(sys_probs)} numbers for {len(sizes)} systems")
        return list(sys_probs)
    rule, *ranges = auto_prob.split(";")
    if rule == "prob_uniform":
        return [1.0] * len(sizes)
    if not ranges:
        return sizes.tolist()
    result, covered = np.zeros(len(sizes)), np.zeros(len(sizes), int)
    for text in ranges:
        start, stop, weight = _range(text, auto_prob)
        part = slice(start, stop)
        covered[part] += 1
        result[part] = weight * sizes[part] / max(sizes[part].sum(), 1.0)
    if np.any(covered != 1):
        missed = int(np.flatnonzero(covered != 1)[0])
        raise InputError(
            f"auto_prob {auto_prob!r}: system {missed} (of 0 to {len(sizes) - 1}) is in "
            f"{covered[missed]} ranges; each system must be in exactly one"
        )
    return result.tolist()


def _range(text: str, rule: str) -> tuple[int, int, float]:
    try:
        start, stop, weight = text.split(":")
        return int(start), int(stop), float(weight)
    except ValueError:
        raise InputError(f"auto_prob {rule!r}: {text!r} is not of the form START:END:WEIGHT") from None
