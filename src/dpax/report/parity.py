"""Parity plots: predictions against labels."""

from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

import numpy as np
from matplotlib.figure import Figure

from dpax.files import replacing


class ParityPanel(NamedTuple):
    """One quantity."""

    title: str
    unit: str
    label: np.ndarray
    """Reference values, any shape."""
    prediction: np.ndarray
    """The model's values, the same shape."""


def plot_parity(panels: Sequence[ParityPanel], out: str | Path) -> None:
    """Draw predictions against labels, one panel for each quantity, with its RMSE.

    Args:
        panels: what to show.
        out: image file; its suffix selects the format.
    """
    figure = Figure(figsize=(3.8 * len(panels), 3.8), layout="constrained")
    axes = figure.subplots(1, len(panels), squeeze=False)[0]
    for axis, panel in zip(axes, panels, strict=True):
        label, prediction = np.ravel(panel.label), np.ravel(panel.prediction)
        low, high = min(label.min(), prediction.min()), max(label.max(), prediction.max())
        axis.plot([low, high], [low, high], color="0.6", linewidth=0.8, zorder=0)
        axis.scatter(label, prediction, s=4, linewidths=0, alpha=0.5, rasterized=True)
        rmse = np.sqrt(np.mean((prediction - label) ** 2))
        axis.set(
            title=f"{panel.title}: RMSE {rmse:.3g} {panel.unit}",
            xlabel=f"label / {panel.unit}",
            ylabel=f"prediction / {panel.unit}",
            aspect="equal",
        )
    with replacing(Path(out)) as temporary:
        figure.savefig(temporary, dpi=150)
