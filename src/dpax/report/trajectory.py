"""The conservation of energy along a trajectory."""

from pathlib import Path

import numpy as np
from matplotlib.figure import Figure

from dpax.files import replacing


def plot_energy_drift(time: np.ndarray, potential: np.ndarray, total: np.ndarray, out: str | Path) -> None:
    """Draw how total and potential energy move away from their first values.

    In an NVE run the total energy stays; how far the potential energy swings is the scale to judge by.

    Args:
        time: [frames], fs.
        potential: [frames], potential energy, eV/atom.
        total: [frames], potential and kinetic energy, eV/atom.
        out: image file; its suffix selects the format.
    """
    figure = Figure(figsize=(5.0, 3.4), layout="constrained")
    axis = figure.subplots()
    axis.plot(time, 1e3 * (potential - potential[0]), label="potential", color="0.7", linewidth=1.0)
    axis.plot(time, 1e3 * (total - total[0]), label="total", linewidth=1.2)
    axis.set(xlabel="time / fs", ylabel="energy change / meV atom⁻¹")
    axis.legend(frameon=False)
    with replacing(Path(out)) as temporary:
        figure.savefig(temporary, dpi=150)
