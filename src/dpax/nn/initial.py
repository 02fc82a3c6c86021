"""Initial weights: DeePMD-kit's rule, and dpax's own, which learns faster.

With biases of unit variance, as DeePMD-kit draws them, a tanh network starts with most of its units in
saturation. Weights of variance 1/n_in and zero biases keep the activations of every layer at the scale
of their input (LeCun et al., "Efficient BackProp", 1998); a small last layer starts the energy surface
flat, so the first steps are not spent on undoing random forces.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np

from dpax.errors import InputError

Seed = int | Sequence[int] | None
RULES = ("dpax", "deepmd")
LAST_LAYER_SCALE = 0.1


class Draw(NamedTuple):
    """Initial arrays of one affine layer, float64."""

    w: np.ndarray
    """[n_in, n_out]"""
    b: np.ndarray
    """[n_out]"""
    idt: np.ndarray
    """[n_out], the time step of a residual layer."""


@dataclass(frozen=True)
class Draws:
    """Random numbers for the layers of a part of a model, each from the seed and the layer's own name.

    Args:
        seed: None for fresh entropy.
        rule: "dpax" (weights N(0, 1/n_in), biases 0, time steps 0.1) or "deepmd" (weights
            N(0, 1/(n_in + n_out)), biases N(0, 1), time steps N(0.1, 0.001²)).

    Raises:
        InputError: unknown rule.
    """

    seed: Seed = None
    rule: str = "dpax"

    def __post_init__(self) -> None:
        if self.rule not in RULES:
            raise InputError(f"rule of initial weights {self.rule!r} is not one of {', '.join(RULES)}")

    def layer(self, name: str, n_in: int, n_out: int, scale: float = 1.0) -> Draw:
        """Initial weights of an affine layer.

        Args:
            name: of the layer.
            n_in: width of the input.
            n_out: width of the output.
            scale: factor on the weights under dpax's rule.
        """
        seed = None if self.seed is None else [*_numbers(self.seed), *name.encode()]
        rng = np.random.default_rng(seed)
        if self.rule == "dpax":
            w = rng.normal(size=(n_in, n_out), scale=scale / np.sqrt(n_in))
            return Draw(w, np.zeros(n_out), np.full(n_out, 0.1))
        w = rng.normal(size=(n_in, n_out), scale=1.0 / np.sqrt(n_in + n_out))
        return Draw(w, rng.normal(size=n_out), 0.1 + rng.normal(size=n_out, scale=0.001))


def child_seed(seed: Seed, index: int) -> Seed:
    """The seed of a part of something seeded; None (fresh entropy) stays None."""
    if seed is None:
        return None
    return [index, *_numbers(seed)]


def _numbers(seed: int | Sequence[int]) -> list[int]:
    return [seed] if isinstance(seed, int) else list(seed)
