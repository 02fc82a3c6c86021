"""How often systems are drawn: DeePMD-kit's rules, and its own functions as the oracle."""

import numpy as np
import pytest

from dpax.errors import InputError
from dpax.train.probabilities import system_probabilities

N_BATCHES = [80, 10, 5, 1]


def normalised(auto_prob="prob_sys_size", sys_probs=None):
    found = np.array(system_probabilities(N_BATCHES, auto_prob, sys_probs))
    return found / found.sum()


@pytest.mark.parametrize(
    "rule", ["prob_sys_size;0:4:1", "prob_sys_size;0:2:0.3;2:4:0.7", "prob_sys_size;0:1:5;1:4:15"]
)
def test_ranges_of_systems(rule):
    theirs = pytest.importorskip("deepmd.utils.data_system")
    np.testing.assert_allclose(normalised(rule), theirs.prob_sys_size_ext(rule, 4, N_BATCHES))


def test_systems_outside_the_ranges_are_not_drawn():
    assert normalised("prob_sys_size;1:3:1").tolist() == pytest.approx([0, 10 / 15, 5 / 15, 0])


def test_by_size_and_uniformly():
    np.testing.assert_allclose(normalised(), np.array(N_BATCHES) / 96)
    np.testing.assert_allclose(normalised("prob_uniform"), 0.25)


@pytest.mark.parametrize(
    "given", [[0.1, 0.2, 0.3, 0.4], [0.5, -1, -1, 0.0], [-1, -1, -1, -1], [0.2, 0.2, -2.5, 0.1]]
)
def test_explicit_probabilities_and_negative_ones_that_are_filled_by_size(given):
    theirs = pytest.importorskip("deepmd.utils.data_system")
    np.testing.assert_allclose(normalised(sys_probs=given), theirs.process_sys_probs(given, N_BATCHES))


@pytest.mark.parametrize(
    ("given", "words"),
    [
        ([0.5, 0.5], "2 numbers for 4 systems"),
        ([0.5, 0.5, 0.5, 0.0], "add up to 1.5"),
        ([0.5, 0.1, 0.1, 0.1], "add up to 0.8"),
        ([0.5, 0.5, -1, 0.0], "add up to 1;"),
    ],
)
def test_explicit_probabilities_must_add_up(given, words):
    with pytest.raises(InputError, match=words):
        system_probabilities(N_BATCHES, "prob_sys_size", given)


@pytest.mark.parametrize(
    ("rule", "words"),
    [
        ("prob_sys_size;0:3:1;2:4:1", "system 2 .* in 2 ranges"),
        ("prob_sys_size;4:9:1", "no system is in the range 4:9"),
        ("prob_sys_size;0:4", "START:END:WEIGHT"),
        ("prob_sys_size;0:4:-1", "must be a number >= 0"),
    ],
)
def test_malformed_rules(rule, words):
    with pytest.raises(InputError, match=words):
        system_probabilities(N_BATCHES, rule, None)
