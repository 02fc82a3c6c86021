"""Optimizers do what PyTorch's of the same names do; clipping, accumulation, moving average."""

import jax
import numpy as np
import optax
import pytest

from dpax.data import CapacityPlanner, make_batch
from dpax.data.quantities import TERMS
from dpax.errors import InputError
from dpax.model.blocks import make_mesh
from dpax.train.learning_settings import LossSettings, OptimizerSettings
from dpax.train.loss import without_bias
from dpax.train.optimizer import make_optimizer
from dpax.train.step import TrainState, make_functions
from model.support import tiny_model

from .test_loss import frame

WEIGHTS = dict.fromkeys(TERMS, 0.0) | {"e": 1.0, "f": 1.0}
LR, STEPS = 0.05, 5


def start() -> dict[str, np.ndarray]:
    rng = np.random.default_rng(0)
    return {"w": rng.normal(size=(3, 2)), "b": rng.normal(size=2)}


def gradients() -> list[dict[str, np.ndarray]]:
    rng = np.random.default_rng(1)
    return [{name: rng.normal(size=array.shape) for name, array in start().items()} for _ in range(STEPS)]


def follow(optimizer: optax.GradientTransformation, found=None) -> dict[str, np.ndarray]:
    """The weights after steps along given gradients."""
    weights = start()
    state = optimizer.init(weights)
    for gradient in gradients() if found is None else found:
        updates, state = optimizer.update(gradient, state, weights)
        weights = {name: array - LR * np.asarray(updates[name]) for name, array in weights.items()}
    return weights


def adam_by_hand(b1, b2, *, l2=0.0, decoupled=0.0) -> dict[str, np.ndarray]:
    """The algorithms of torch.optim.Adam and AdamW as its documentation writes them."""
    weights = start()
    m = {name: np.zeros_like(array) for name, array in weights.items()}
    v = {name: np.zeros_like(array) for name, array in weights.items()}
    for t, gradient in enumerate(gradients(), 1):
        for name, array in weights.items():
            array *= 1 - LR * decoupled
            g = gradient[name] + l2 * array
            m[name] = b1 * m[name] + (1 - b1) * g
            v[name] = b2 * v[name] + (1 - b2) * g**2
            array -= LR * (m[name] / (1 - b1**t)) / (np.sqrt(v[name] / (1 - b2**t)) + 1e-8)
    return weights


@pytest.mark.parametrize(
    ("options", "by_hand"),
    [
        ({}, {}),
        ({"adam_beta1": 0.8, "adam_beta2": 0.95}, {"b1": 0.8, "b2": 0.95}),
        ({"weight_decay": 0.3}, {"l2": 0.3}),
        ({"type": "AdamW"}, {"decoupled": 1e-3}),
        ({"type": "AdamW", "weight_decay": 0.3}, {"decoupled": 0.3}),
    ],
)
def test_adam_and_adamw(options, by_hand):
    found = follow(make_optimizer(OptimizerSettings(**options)))
    expected = adam_by_hand(**{"b1": 0.9, "b2": 0.999, **by_hand})
    for name, array in expected.items():
        np.testing.assert_allclose(found[name], array, rtol=1e-9)


def test_long_gradients_are_shortened():
    """Before Adam's weight decay, to the norm of all parameters together."""
    settings = OptimizerSettings(weight_decay=0.3)
    norms = [np.sqrt(sum(np.sum(g**2) for g in gradient.values())) for gradient in gradients()]
    limit = float(np.median(norms))
    shortened = [
        {name: g * min(1.0, limit / norm) for name, g in gradient.items()}
        for gradient, norm in zip(gradients(), norms, strict=True)
    ]
    found = follow(make_optimizer(settings, max_norm=limit))
    expected = follow(make_optimizer(settings), shortened)
    for name, array in expected.items():
        np.testing.assert_allclose(found[name], array, rtol=1e-12)
    assert not np.allclose(found["w"], follow(make_optimizer(settings))["w"])


@pytest.mark.parametrize("name", ["LKF", "AdaMuon", "HybridMuon"])
def test_optimizers_that_dpax_does_not_have(name):
    with pytest.raises(InputError, match=f"type: {name} is refused: .*; dpax has Adam and AdamW"):
        OptimizerSettings(type=name)


class Small:
    """A model and two batches of one shape."""

    def __init__(self):
        self.model = tiny_model(1, neuron=[2, 4], axis_neuron=2, attn_layer=0)
        self.batches = [self.prepared(seed) for seed in (1, 2)]

    def prepared(self, seed):
        batch = make_batch([frame(4, seed)], self.model.rcut, CapacityPlanner(16), self.model.dtype)
        nb = batch.neighborhoods
        bias = np.array(self.model.bias)
        return nb, without_bias(
            batch.labels, np.asarray(nb.types), np.asarray(nb.frames), bias, self.model.dtype
        )

    def states(self, batches, acc_freq=1, ema_decay=None) -> list[TrainState]:
        """The initial state and the one after each step."""
        optimizer = make_optimizer(OptimizerSettings(type="AdamW"), acc_freq=acc_freq)
        mesh = make_mesh(jax.devices()[:1])
        functions = make_functions(self.model, LossSettings(), optimizer, mesh, ema_decay=ema_decay)
        states = [functions.init()]
        for nb, labels in batches:
            states.append(functions.step(states[-1], nb, labels, WEIGHTS, 0.01)[0])
        return states


@pytest.fixture(scope="module")
def small():
    return Small()


def leaves(tree) -> list[np.ndarray]:
    return [np.asarray(leaf) for leaf in jax.tree.leaves(tree)]


def test_averaged_weights_follow_slowly(small):
    """ema = decay · ema + (1 - decay) · weights, from the first weights on; training does not see it."""
    states = small.states([*small.batches, *small.batches], ema_decay=0.7)
    expected = leaves(states[0].params)
    for state in states[1:]:
        expected = [0.7 * e + 0.3 * p for e, p in zip(expected, leaves(state.params), strict=True)]
    for found, wanted in zip(leaves(states[-1].averaged), expected, strict=True):
        np.testing.assert_allclose(found, wanted, rtol=1e-13)
    alone = small.states([*small.batches, *small.batches])
    assert alone[-1].averaged is None
    for a, b in zip(leaves(states[-1].params), leaves(alone[-1].params), strict=True):
        np.testing.assert_array_equal(a, b)


def test_accumulated_gradients_are_those_of_one_large_batch(small):
    """Nothing moves at the first step of two; then as by the mean of both gradients."""
    first, second = small.batches
    states = small.states([first, second], acc_freq=2)
    for a, b in zip(leaves(states[0].params), leaves(states[1].params), strict=True):
        np.testing.assert_array_equal(a, b)
    # Frames of one size: the loss of both frames together is the mean of their losses.
    both = make_batch([frame(4, 1), frame(4, 2)], small.model.rcut, CapacityPlanner(16), small.model.dtype)
    nb = both.neighborhoods
    labels = without_bias(
        both.labels, np.asarray(nb.types), np.asarray(nb.frames), np.array(small.model.bias), np.dtype(float)
    )
    together = small.states([(nb, labels)])
    for a, b in zip(leaves(states[2].params), leaves(together[1].params), strict=True):
        np.testing.assert_allclose(a, b, rtol=1e-7, atol=1e-9)
