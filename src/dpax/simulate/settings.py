"""The settings of a simulation: a plain dataclass, so that the command line may show its defaults at once."""

import math
from dataclasses import asdict, dataclass
from typing import Any, Literal

from dpax.errors import InputError, shortened

Ensemble = Literal["nve", "nvt", "npt"]
Thermostat = Literal["langevin", "nose-hoover"]
CellMotion = Literal["isotropic", "full"]
OptimizerName = Literal["BFGS", "LBFGS", "FIRE", "BFGSLineSearch", "GPMin"]

LARGEST_DISTANCE = 10.0
"""Å; atoms of anything are closer, and to search for pairs so far apart takes long."""
_FREE_AT_RESTART = {
    "steps",
    "seed",
    "keep_velocities",
    "every",
    "log_every",
    "checkpoint_every",
    "max_temperature",
    "min_distance",
}
"""What a restart may change without the trajectory becoming another one."""


@dataclass(frozen=True)
class MDSettings:
    """A run of molecular dynamics.

    Raises:
        InputError: a value that makes no sense, or one that is missing.
    """

    steps: int
    """Number of steps from the beginning of the simulation, restarts included."""
    temperature: tuple[float, float] | None = None
    """K, at the beginning and at the end; between them it changes linearly."""
    ensemble: Ensemble = "nvt"
    """Constant energy, constant temperature, or constant temperature and pressure."""
    thermostat: Thermostat = "langevin"
    """Of NVT; NPT has Nosé–Hoover chains."""
    time_step: float = 1.0
    """fs."""
    thermostat_time: float = 100.0
    """fs: the inverse friction of Langevin, the period of Nosé–Hoover chains."""
    pressure: float = 1.0
    """bar."""
    barostat_time: float = 1000.0
    """fs."""
    cell_motion: CellMotion = "isotropic"
    """Whether NPT changes the volume only, or all lengths and angles of the cell."""
    seed: int = 0
    """Of the initial velocities and of Langevin's random forces."""
    keep_velocities: bool = False
    """Start with the velocities of the structure instead of random ones."""
    every: int = 100
    """Steps between two frames of the trajectory."""
    log_every: int = 100
    """Steps between two lines of the log."""
    checkpoint_every: int = 1000
    """Steps between two checkpoints."""
    max_temperature: float | None = None
    """K, at which the simulation stops; None: see `dpax.simulate.guard`."""
    min_distance: float | None = None
    """Å between two atoms, at which the simulation stops; None: see `dpax.simulate.guard`."""

    def __post_init__(self) -> None:
        positive = ("time_step", "thermostat_time", "barostat_time", "every", "log_every", "checkpoint_every")
        for name in positive:
            if not 0 < getattr(self, name) < math.inf:
                raise InputError(f"{_option(name)}: should be positive and finite, got {getattr(self, name)}")
        if self.steps < 0:
            raise InputError(f"--steps: should not be negative, got {self.steps}")
        for kelvin in self.temperature or ():
            if not 0 <= kelvin < math.inf:
                raise InputError(f"--temperature: should be finite and not negative, got {kelvin:g} K")
        if not math.isfinite(self.pressure):
            raise InputError(f"--pressure: should be finite, got {self.pressure}")
        if self.max_temperature is not None and not self.max_temperature > 0:
            raise InputError(f"--max-temperature: should be positive, got {self.max_temperature} K")
        if self.min_distance is not None and not 0 <= self.min_distance <= LARGEST_DISTANCE:
            raise InputError(
                f"--min-distance: should be from 0 to {LARGEST_DISTANCE:g} Å, got {self.min_distance}"
            )
        if self.temperature is None and (self.ensemble != "nve" or not self.keep_velocities):
            raise InputError(
                "--temperature is missing, K; only NVE with --keep-velocities does without: it starts from "
                "the velocities in the structure"
            )
        chains = self.ensemble == "npt" or (self.ensemble == "nvt" and self.thermostat == "nose-hoover")
        if chains and self.temperature is not None and not min(self.temperature) > 0:
            raise InputError("--temperature: Nosé–Hoover chains need a temperature above 0 K, got 0")
        if self.ensemble == "nve" and self.is_ramp:
            raise InputError("--temperature: NVE has no thermostat that could follow a ramp; give one number")

    @property
    def is_ramp(self) -> bool:
        """Whether the temperature changes."""
        return self.temperature is not None and self.temperature[0] != self.temperature[1]

    @property
    def first_temperature(self) -> float:
        """K, at the beginning."""
        return 0.0 if self.temperature is None else self.temperature[0]

    def target(self, step: int) -> float:
        """The temperature of the thermostat at a step, K."""
        assert self.temperature is not None
        first, last = self.temperature
        return first + (last - first) * step / max(self.steps, 1)

    def physics(self) -> dict[str, Any]:
        """What a restart must not change, as JSON holds it."""
        settings = {key: value for key, value in asdict(self).items() if key not in _FREE_AT_RESTART}
        settings["temperature"] = None if self.temperature is None else list(self.temperature)
        return settings | ({"steps": self.steps} if self.is_ramp else {})


def check_unchanged(before: dict[str, Any], now: MDSettings) -> None:
    """Check that a restart continues the same simulation.

    Args:
        before: what `physics` was.
        now: the settings of the restart.

    Raises:
        InputError: it would be another simulation; the message names what differs.
    """
    after = now.physics()
    changed = [key for key in after if before.get(key) != after[key]]
    if changed:
        key = changed[0]
        raise InputError(
            f"--restart: {_option(key)} was {shortened(before.get(key))} and is now {shortened(after[key])}; "
            "a restart continues the same simulation: give the same options, or another "
            "--output to start a new one"
        )


def _option(name: str) -> str:
    return f"--{name.replace('_', '-')}"
