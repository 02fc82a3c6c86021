"""The learning rate."""

import numpy as np
import pytest

from dpax.train.schedule import make_schedule
from dpax.train.settings import LearningRateSettings


def rates(steps, **settings):
    schedule = make_schedule(LearningRateSettings(**settings), steps)
    return [schedule(step) for step in range(steps + 1)]


def test_stairs_reach_the_final_rate():
    found = rates(40, start_lr=1e-3, stop_lr=1e-5, decay_steps=10)
    assert found[:10] == [1e-3] * 10
    np.testing.assert_allclose(found[::10], np.geomspace(1e-3, 1e-5, 5))


def test_smooth_decay_passes_through_the_stairs():
    stairs = rates(40, start_lr=1e-3, stop_lr=1e-5, decay_steps=10)
    smooth = rates(40, start_lr=1e-3, stop_lr=1e-5, decay_steps=10, smooth=True)
    np.testing.assert_allclose(smooth[::10], stairs[::10])
    assert np.all(np.diff(smooth) < 0)


def test_given_decay_stops_at_the_final_rate():
    found = rates(50, start_lr=1.0, stop_lr=0.2, decay_steps=10, decay_rate=0.5)
    assert found[::10] == pytest.approx([1.0, 0.5, 0.25, 0.2, 0.2, 0.2])


@pytest.mark.parametrize(("steps", "stride"), [(20, 1), (250, 3), (2000, 100)])
def test_too_long_stairs_are_shortened(steps, stride):
    found = rates(steps, start_lr=1e-3, stop_lr=1e-5, decay_steps=5000)
    assert found[:stride] == [1e-3] * stride
    assert found[stride] < 1e-3
    assert found[-1] == pytest.approx(1e-5, rel=0.2)
