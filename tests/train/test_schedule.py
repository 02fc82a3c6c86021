"""The learning rate: DeePMD-kit's schedules at every step, and what cannot be asked for."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from dpax.errors import InputError
from dpax.train.learning_settings import LearningRateSettings
from dpax.train.schedule import make_schedule

rate = st.floats(1e-6, 1e-2)
fraction = st.floats(0.01, 1.0)


def rates(steps, **settings):
    schedule = make_schedule(LearningRateSettings(**settings), steps)
    return [schedule(step) for step in range(steps + 1)]


@st.composite
def trainings(draw):
    """A section `learning_rate` with any of its keys, and a number of steps."""
    steps = draw(st.integers(3, 400) | st.integers(1000, 3000))
    kind = draw(st.sampled_from(["exp", "cosine", "wsd"]))
    section = {"type": kind, "start_lr": draw(rate)}
    if draw(st.booleans()):
        section["stop_lr_ratio"] = draw(fraction)
    else:
        section["stop_lr"] = section["start_lr"] * draw(fraction)
    match draw(st.integers(0, 2)):
        case 1:
            section["warmup_steps"] = draw(st.integers(0, steps - 1))
        case 2:
            section["warmup_ratio"] = draw(st.floats(0.0, 0.99))
    section["warmup_start_factor"] = draw(st.floats(0.0, 2.0))
    if kind == "exp":
        section |= {"decay_steps": draw(st.integers(1, 5000)), "smooth": draw(st.booleans())}
        section |= {"decay_rate": draw(st.none() | fraction)}
    if kind == "wsd":
        section["decay_phase_ratio"] = draw(fraction)
        section["decay_type"] = draw(st.sampled_from(["inverse_linear", "cosine", "linear"]))
    return section, steps


@given(trainings())
def test_every_step_of_every_schedule_is_deepmds(training):
    theirs = pytest.importorskip("deepmd.dpmodel.utils.learning_rate")
    section, steps = training
    expected = theirs.make_learning_rate_schedule(section, steps).value(np.arange(steps + 1))
    np.testing.assert_allclose(rates(steps, **section), expected, rtol=1e-12, atol=1e-20)


@pytest.mark.parametrize("kind", ["exp", "cosine", "wsd"])
def test_defaults_of_the_input_file(kind):
    """Only the type and the start are given: the other keys have the defaults of DeePMD-kit's input file."""
    theirs = pytest.importorskip("deepmd.dpmodel.utils.learning_rate")
    argcheck = pytest.importorskip("deepmd.utils.argcheck")
    section = {"type": kind, "start_lr": 1e-3}
    normal = argcheck.learning_rate_args().normalize_value(dict(section))
    argcheck.learning_rate_args().check_value(normal)
    expected = theirs.make_learning_rate_schedule(normal, 300).value(np.arange(301))
    np.testing.assert_allclose(rates(300, **section), expected, rtol=1e-12)


def test_stairs_reach_the_final_rate():
    found = rates(40, start_lr=1e-3, stop_lr=1e-5, decay_steps=10)
    assert found[:10] == [1e-3] * 10
    np.testing.assert_allclose(found[::10], np.geomspace(1e-3, 1e-5, 5))


def test_given_decay_stops_at_the_final_rate():
    found = rates(50, start_lr=1.0, stop_lr=0.2, decay_steps=10, decay_rate=0.5)
    assert found[::10] == pytest.approx([1.0, 0.5, 0.25, 0.2, 0.2, 0.2])


def test_warm_up_is_linear():
    found = rates(20, type="cosine", start_lr=1.0, stop_lr=0.1, warmup_steps=4, warmup_start_factor=0.2)
    assert found[:5] == pytest.approx([0.2, 0.4, 0.6, 0.8, 1.0])
    assert found[-1] == pytest.approx(0.1)


@pytest.mark.parametrize(
    ("section", "message"),
    [
        ({"type": "cosine", "decay_steps": 9}, "decay_steps: is a setting of the schedule exp"),
        ({"decay_type": "linear"}, "decay_type: is a setting of the schedule wsd; type is exp"),
        ({"warmup_steps": 3, "warmup_ratio": 0.1}, "warmup_steps and warmup_ratio set the same thing"),
        ({"type": "wsd", "stop_lr": 0}, "stop_lr: should be greater than 0 for the schedule wsd"),
    ],
)
def test_what_has_no_meaning_is_refused(section, message):
    with pytest.raises(InputError, match=message):
        LearningRateSettings(start_lr=1e-3, **section)


def test_warm_up_as_long_as_the_training():
    with pytest.raises(InputError, match="20 steps of warm-up in a training run of 20"):
        rates(20, start_lr=1e-3, warmup_steps=20)
