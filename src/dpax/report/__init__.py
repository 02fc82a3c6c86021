"""Figures and reports of what was trained and computed."""

from dpax.report.learning_curve import plot_learning_curve as plot_learning_curve
from dpax.report.parity import ParityPanel as ParityPanel
from dpax.report.parity import plot_parity as plot_parity
from dpax.report.trajectory import plot_energy_drift as plot_energy_drift
