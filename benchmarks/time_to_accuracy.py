"""How long the whole training command takes to a given error of the forces on real water.

    python benchmarks/time_to_accuracy.py DATA [--target 0.35] [--steps 300] [--torch] [--limit 1800]

DATA is a folder with the systems of DeePMD-kit's water example, `data_0` to `data_3`; the last is for
validation. With --torch, DeePMD-kit's PyTorch backend trains the same model in float64, as its users do, with
the smooth setting too, until it is as good or the limit is over.
"""

import argparse
import json
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

from commands import Row, run, training_input
from comparisons import DESCRIPTORS, DPAX, LARGE, PYTORCH
from environments import named_python, torch_python
from provenance import machine, sides, warnings
from side import Side
from structures import WATER_TYPES
from table import AIM_HEAD

RATE = {DPAX: {"start_lr": 2e-3, "stop_lr": 2e-4}, PYTORCH: {"start_lr": 1e-3, "stop_lr": 1e-4}}
"""What suits the initial weights of each: DeePMD-kit's default rate, and twice that for dpax."""
PRECISION = {DPAX: "float32", PYTORCH: "float64"}
EVERY = 20
"""Steps between two looks at the validation data, of which eight frames are drawn."""


def model_of(precision: str) -> dict[str, Any]:
    """The model, smooth and independent of the order of the atoms."""
    descriptor = {**LARGE["descriptor"], **DESCRIPTORS["se_atten"], "set_davg_zero": True}
    parts = {"descriptor": descriptor, "fitting_net": {"neuron": LARGE["fitting"]}}
    parts = {name: {**part, "precision": precision, "seed": 1} for name, part in parts.items()}
    return {"type_map": list(WATER_TYPES), **parts}


def timed(side: str, python: str, given: argparse.Namespace, folder: Path) -> tuple[float | None, Row]:
    """Seconds to the first row of the learning curve with the wanted error, and the last row seen."""
    systems = [(given.data / f"data_{number}").absolute() for number in range(4)]
    content = training_input(model_of(PRECISION[side]), systems[:3], systems[3], given.steps, EVERY)
    content["learning_rate"] = {**content["learning_rate"], **RATE[side]}

    def good_enough(row: Row) -> bool:
        return row["rmse_f_val"] <= given.target

    return run(side, python, folder, content, good_enough, limit=given.limit)


def reported(side: str, python: str, folder: Path) -> dict[str, Any]:
    """What a side runs on."""
    with (folder / f"{side}.log").open("w", encoding="utf-8") as log:
        process = Side(side, python, log)
        report = process.report
        process.close()
    return report


def cell(found: tuple[float | None, Row]) -> str:
    """A cell of the table."""
    seconds, row = found
    if seconds is not None:
        return f"{seconds:.0f} s (step {row['step']:.0f})"
    return f"not reached: {row.get('rmse_f_val', float('nan')):.2f} eV/Å at step {row.get('step', 0):.0f}"


def main() -> None:
    """Train, and print a row of the table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("data", type=Path, help="folder with data_0 to data_3")
    parser.add_argument("--target", type=float, default=0.35, help="RMSE of the forces, eV/Å")
    parser.add_argument("--steps", type=int, default=300, help="of the training, over which the rate decays")
    parser.add_argument("--torch", action="store_true", help="DeePMD-kit's PyTorch in float64 too")
    parser.add_argument("--torch-python", help="Python with torch and deepmd-kit, instead of the one made")
    parser.add_argument("--limit", type=float, default=1800.0, help="most seconds for each")
    parser.add_argument("--json", type=Path, help="write the outcome to this file")
    given = parser.parse_args()
    pythons = {DPAX: sys.executable}
    if given.torch_python:
        pythons[PYTORCH] = named_python(given.torch_python)
    elif given.torch:
        pythons[PYTORCH] = str(torch_python())
    with tempfile.TemporaryDirectory() as folder:
        reports = {side: reported(side, python, Path(folder)) for side, python in pythons.items()}
        for warning in warnings(reports, []):
            print(f"Mind: {warning}.", file=sys.stderr)
        found = {side: timed(side, python, given, Path(folder) / side) for side, python in pythons.items()}
    own, peer = found[DPAX], found.get(PYTORCH)
    what = f"the whole training command to a validation force RMSE of {given.target} eV/Å on water"
    ratio = "–"
    if peer is not None and own[0] is not None:
        ratio = f"{peer[0] / own[0]:.1f}" if peer[0] is not None else f"> {given.limit / own[0]:.1f}"
    bars = ("≤ 200 s, ≥ 5", "≤ 120 s") if reports[DPAX]["kind"] == "cpu" else ("–", "–")
    cells = [what, cell(own), "–" if peer is None else cell(peer), ratio, *bars]
    for warning in warnings(reports, []):
        print(f"**Mind: {warning}.**\n")
    print(f"{machine()}\n\n{sides(reports, [])}\n\n{AIM_HEAD}\n| {' | '.join(cells)} |")
    if given.json:
        content = {side: {"seconds": seconds, "row": row} for side, (seconds, row) in found.items()}
        settings = {"date": time.strftime("%Y-%m-%d"), "target": given.target, "steps": given.steps}
        record = {**settings, "machine": machine(), "sides": reports, **content}
        given.json.write_text(json.dumps(record, indent=1) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
