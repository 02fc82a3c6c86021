"""The training commands of dpax and DeePMD-kit as a user types them, timed from outside."""

import json
import os
import subprocess
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from case import LEARNING_RATE, LOSS
from comparisons import DPAX, JAX, PYTORCH
from side import SHARED_CARD

Row = dict[str, float]
Seen = Callable[[Row], bool]


def training_input(
    model: dict[str, Any], train: Sequence[Path], valid: Path | None, steps: int, every: int
) -> dict[str, Any]:
    """An input file that all sides read."""
    data: dict[str, Any] = {"training_data": {"systems": [str(path) for path in train], "batch_size": 1}}
    if valid is not None:
        data["validation_data"] = {"systems": [str(valid)], "batch_size": 1, "numb_btch": 8}
    return {
        "model": model,
        "learning_rate": LEARNING_RATE,
        "loss": {"type": "ener", **LOSS},
        "training": {**data, "numb_steps": steps, "disp_freq": every, "save_freq": steps, "seed": 1},
    }


def command(side: str, python: str, folder: Path) -> tuple[list[str], Path]:
    """The command of a side for `input.json` in a folder, and the learning curve that it writes."""
    if side == DPAX:
        start = [python, "-c", "from dpax.cli import main; main()", "train"]
        return [*start, "input.json", "-o", "run", "--overwrite"], folder / "run" / "lcurve.out"
    backend = {JAX: "--jax", PYTORCH: "--pt"}[side]
    return [python, "-m", "deepmd", backend, "train", "input.json"], folder / "lcurve.out"


def run(
    side: str,
    python: str,
    folder: Path,
    content: dict[str, Any],
    reached: Seen,
    cache: Path | None = None,
    limit: float = 600.0,
) -> tuple[float | None, Row]:
    """Run a training command until its learning curve has a row like this, and stop it.

    Args:
        side: whose command.
        python: its Python.
        folder: where it runs; made here.
        content: of the input file.
        reached: says of a row whether it is the one.
        cache: folder of dpax's compiled programs; None for none.
        limit: most seconds to wait.

    Returns:
        Seconds from the start of the command to the row, None if there was none, and the last row.
    """
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "input.json").write_text(json.dumps(content), encoding="utf-8")
    words, curve = command(side, python, folder)
    curve.unlink(missing_ok=True)
    environment = {**SHARED_CARD, **os.environ, "DPAX_CACHE": "off" if cache is None else str(cache)}
    with (folder / "output.txt").open("w", encoding="utf-8") as log:
        began = time.perf_counter()
        process = subprocess.Popen(words, cwd=folder, env=environment, stdout=log, stderr=log)
        try:
            return _watched(process, curve, reached, began, limit)
        finally:
            process.terminate()
            process.wait()


def _watched(
    process: subprocess.Popen, curve: Path, reached: Seen, began: float, limit: float
) -> tuple[float | None, Row]:
    last: Row = {}
    while time.perf_counter() - began < limit:
        ended = process.poll() is not None
        for last in rows_of(curve):
            if reached(last):
                return time.perf_counter() - began, last
        if ended:
            if not last:
                raise SystemExit(f"a training command has failed: see {curve.parent}/output.txt")
            break
        time.sleep(0.05)
    return None, last


def rows_of(curve: Path) -> list[Row]:
    """The rows of a learning curve by the names of their columns; a broken last line is left out."""
    lines = curve.read_text(encoding="utf-8").splitlines(keepends=True) if curve.exists() else []
    head = next((line[1:].split() for line in lines if line.startswith("#")), [])
    rows = [line.split() for line in lines if not line.startswith("#") and line.endswith("\n")]
    return [dict(zip(head, map(float, row), strict=True)) for row in rows if len(row) == len(head)]


def start_up(
    sizes: dict[str, Any], system: Path, folder: Path, pythons: dict[str, str]
) -> dict[str, float | None]:
    """Seconds from the training command to its first step, of each side; of dpax without and with a cache."""
    descriptor = {
        **sizes["descriptor"],
        "type": "se_atten",
        "tebd_input_mode": "concat",
        "smooth_type_embedding": True,
        "set_davg_zero": True,
        "precision": "float32",
    }
    fitting = {"neuron": sizes["fitting"], "precision": "float32"}
    model = {"type_map": ["O", "H"], "descriptor": descriptor, "fitting_net": fitting}
    content = training_input(model, [system], None, steps=2, every=1)

    def first_step(side: str, name: str, cache: Path | None = None) -> float | None:
        return run(side, pythons[side], folder / name, content, lambda _: True, cache)[0]

    cache = folder / "cache"
    found = {"dpax, nothing kept": first_step(DPAX, "cold", cache)}
    # The first process was stopped at its first step; what it compiled is kept by then.
    found["dpax, programs kept"] = first_step(DPAX, "warm", cache)
    return found | {side: first_step(side, side) for side in (JAX, PYTORCH) if side in pythons}
