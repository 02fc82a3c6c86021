"""The complete workflow in one script: data, training, errors, molecular dynamics, figures.

    python examples/demo/run.py [FOLDER]

Everything is written to FOLDER (default: demo). This takes a few minutes on two cores.
"""

import shutil
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
from alloys import write_data

HERE = Path(__file__).parent


def dpax(*arguments: str | Path) -> None:
    """Run dpax from the same environment."""
    program = shutil.which("dpax", path=str(Path(sys.executable).parent)) or "dpax"
    print("\n$ dpax", *arguments, flush=True)
    subprocess.run([program, *map(str, arguments)], check=True)


def columns(path: Path) -> tuple[np.ndarray, np.ndarray]:
    """Labels and predictions from a detail file of `dpax test`."""
    table = np.loadtxt(path, ndmin=2)
    half = table.shape[1] // 2
    return table[:, :half], table[:, half:]


def main(folder: Path) -> None:
    """Run all steps."""
    began = time.perf_counter()
    folder.mkdir(parents=True, exist_ok=True)
    run, model = folder / "run", folder / "run" / "best.dpax"
    write_data(folder)
    shutil.copy(HERE / "input.yaml", folder / "input.yaml")
    dpax("validate", folder / "input.yaml")
    dpax("train", folder / "input.yaml", "-o", run, "--overwrite")
    dpax("inspect", model)
    dpax(
        "test", "-m", model, "-s", folder / "test.xyz", "-d", folder / "test", "--json", folder / "test.json"
    )
    dpax("eval", folder / "test.xyz", "-m", model, "-o", folder / "evaluated.xyz", "--overwrite")

    # Imported here because it loads JAX, and each of the commands above starts its own.
    from dynamics import drift, nve

    from dpax.report import ParityPanel, plot_energy_drift, plot_learning_curve, plot_parity

    time_fs, potential, total = nve(model)
    print(
        f"\nNVE, {time_fs[-1]:.0f} fs: the total energy drifts by {drift(time_fs, total):.3f} meV/atom per ps"
    )
    plot_learning_curve(run, folder / "learning_curve.png")
    panels = [
        ParityPanel("energy", "eV/atom", *columns(folder / "test.e_peratom.out")),
        ParityPanel("force", "eV/Å", *columns(folder / "test.f.out")),
    ]
    plot_parity(panels, folder / "parity.png")
    plot_energy_drift(time_fs, potential, total, folder / "energy_drift.png")
    minutes = (time.perf_counter() - began) / 60
    print(f"\nDone in {minutes:.1f} minutes. The model: {model}. The figures:")
    for figure in ("learning_curve.png", "parity.png", "energy_drift.png"):
        print(f"  {folder / figure}")


if __name__ == "__main__":
    main(Path(sys.argv[1] if len(sys.argv) > 1 else "demo"))
