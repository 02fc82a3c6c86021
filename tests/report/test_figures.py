"""The figures: they are drawn, and show the data."""

import json

import numpy as np
import pytest

from dpax.errors import InputError
from dpax.report import ParityPanel, plot_energy_drift, plot_learning_curve, plot_parity
from dpax.report.learning_curve import read_log


def write_log(folder, records, tail=""):
    (folder / "log.jsonl").write_text("".join(json.dumps(record) + "\n" for record in records) + tail)


def test_learning_curve(tmp_path):
    records = [
        {
            "step": s,
            "lr": 1e-3,
            "rmse_e_trn": 1 / s,
            "rmse_f_trn": 1 / s,
            "rmse_f_val": 2 / s,
            "rmse_v_trn": None,
        }
        for s in (1, 2, 3)
    ]
    write_log(tmp_path, records, tail='{"step": 4, "lr"')
    assert [record["step"] for record in read_log(tmp_path)] == [1, 2, 3]
    plot_learning_curve(tmp_path, tmp_path / "curve.png")
    assert (tmp_path / "curve.png").stat().st_size > 10_000


def test_run_without_log(tmp_path):
    with pytest.raises(InputError, match=r"log\.jsonl: cannot be read"):
        read_log(tmp_path)
    write_log(tmp_path, [{"note": "no step"}])
    with pytest.raises(InputError, match="no step has been logged"):
        read_log(tmp_path)
    (tmp_path / "log.jsonl").write_text("{\n{}\n")
    with pytest.raises(InputError, match="line 1 is not JSON"):
        read_log(tmp_path)


def test_parity_and_drift(tmp_path):
    rng = np.random.default_rng(0)
    forces = rng.normal(size=(20, 3))
    plot_parity([ParityPanel("force", "eV/Å", forces, forces + 0.1)], tmp_path / "parity.svg")
    assert "RMSE 0.1 eV/Å" in "".join((tmp_path / "parity.svg").read_text().split("<!--")[1:])
    time = np.arange(10.0)
    plot_energy_drift(time, np.cos(time), np.ones(10), tmp_path / "drift.png")
    assert (tmp_path / "drift.png").stat().st_size > 5_000
