"""A short run of the fuzzer: every reader gives a valid object or one `InputError`."""

import pytest

from .targets import NAMES
from .workers import VALID, outcomes


@pytest.mark.parametrize("name", NAMES)
def test_damaged_input_is_read_or_refused(name):
    seen = list(outcomes(name, seed=1, count=60, processes=1))
    assert [outcome.number for outcome in seen] == list(range(60))
    assert [outcome for outcome in seen if not outcome.sound] == []
    if name != "statistics":  # which are computed anew where they cannot be read
        assert sum(outcome.kind == VALID for outcome in seen) < 60
