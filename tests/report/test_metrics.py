"""Error sums and detail files."""

import numpy as np
import pytest

from dpax.report.metrics import ErrorSums


def test_errors_are_means_over_all_numbers_of_all_frames():
    rng = np.random.default_rng(0)
    frames = [rng.normal(size=(atoms, 3)) for atoms in (2, 5, 3)]
    sums, first, rest = ErrorSums(), ErrorSums(), ErrorSums()
    for number, difference in enumerate(frames):
        sums.add({"force": difference})
        (rest if number else first).add({"force": difference})
    everything = np.concatenate(frames)
    assert sums.mae("force") == pytest.approx(np.abs(everything).mean())
    assert sums.rmse("force") == pytest.approx(np.sqrt((everything**2).mean()))
    first.merge(rest)
    assert first.report() == pytest.approx(sums.report())


def test_report_has_units_in_its_keys_and_nothing_unlabelled():
    sums = ErrorSums()
    sums.add({"energy": np.array(2.0), "energy_per_atom": np.array(0.5)})
    sums.add({"energy": np.array(-4.0), "energy_per_atom": np.array(-1.0)})
    assert sums.report() == pytest.approx(
        {
            "frames": 2,
            "energy_mae_ev": 3.0,
            "energy_rmse_ev": np.sqrt(10),
            "energy_per_atom_mae_ev": 0.75,
            "energy_per_atom_rmse_ev": np.sqrt(0.625),
        }
    )
