"""The progress of a simulation on the terminal."""

from rich.console import Console

from dpax.cli.live import LiveLine
from dpax.simulate.settings import MDSettings
from dpax.simulate.thermo import Thermo


class MDReporter:
    """Shows the progress of a simulation, which calls it.

    Args:
        console: where to write; by default standard output.
    """

    def __init__(self, console: Console | None = None):
        self._line = LiveLine(console)
        self.tick, self.finish = self._line.tick, self._line.finish

    def start(self, settings: MDSettings, first_step: int, text: str) -> None:
        """A simulation begins or continues after `first_step` steps."""
        verb = f"continues from step {first_step}" if first_step else "begins"
        self._line.message(f"{text}: the simulation {verb}; {settings.steps} steps in all")
        self._line.start(settings.steps, first_step)

    def line(self, thermo: Thermo, drift: float | None, ns_per_day: float | None) -> None:
        """A line was logged."""
        self._line.show(thermo.step, summary(thermo, drift, ns_per_day))


def summary(thermo: Thermo, drift: float | None, ns_per_day: float | None) -> str:
    """One line of temperature, energy, drift and speed."""
    parts = [f"{thermo.temperature:.0f} K", f"E {thermo.total:.4f} eV"]
    if drift is not None:
        parts.append(f"drift {1e3 * drift:+.4f} meV/atom")
    if ns_per_day is not None:
        parts.append(f"{ns_per_day:.3g} ns/day")
    return ", ".join(parts)
