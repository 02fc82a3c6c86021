"""What the log says of a step."""

from dataclasses import dataclass


@dataclass(frozen=True)
class Thermo:
    """One line of the log."""

    step: int
    time: float
    """fs."""
    temperature: float
    """K."""
    potential: float
    """eV."""
    total: float
    """eV."""
    conserved: float | None
    """eV; None where the integrator has no such quantity."""
    pressure: float | None
    """bar, with the part of the ideal gas; None unless periodic in all directions."""
    volume: float | None
    """Å³"""

    def columns(self) -> dict[str, float]:
        """The columns of the log after the step, with their units."""
        named = {
            "time[fs]": self.time,
            "temperature[K]": self.temperature,
            "potential[eV]": self.potential,
            "total[eV]": self.total,
            "conserved[eV]": self.conserved,
            "pressure[bar]": self.pressure,
            "volume[A^3]": self.volume,
        }
        return {name: value for name, value in named.items() if value is not None}
