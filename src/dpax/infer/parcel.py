"""A potential on its way to another process: what of it is pickled, and what it becomes where it arrives."""

from typing import Any, NamedTuple

import jax
import numpy as np

from dpax.computing import computing
from dpax.model.energy_model import EnergyModel


class Parcel(NamedTuple):
    """All that makes a potential, as NumPy arrays and plain values.

    Devices and compiled programs belong to a process and stay there.
    """

    model: EnergyModel
    """With NumPy's arrays."""
    provenance: dict[str, Any]
    devices: tuple[str, tuple[int, ...]] | None
    """The platform and the numbers of the devices that were chosen; None for all."""
    block_size: int | None
    capacities: dict[str, Any] | None = None
    """The array sizes used so far: with other ones the last bit of a result may differ."""

    def local_devices(self) -> list[Any] | None:
        """This process's devices with the same numbers, or else as many others; None for all of them."""
        if self.devices is None:
            return None
        platform, numbers = self.devices
        try:
            local = jax.devices(platform)
        except RuntimeError:  # the platform is not there
            local = jax.devices()
        same = [device for device in local if device.id in numbers]
        return same if len(same) == len(numbers) else local[: len(numbers)]


def pack(
    model: EnergyModel, provenance: dict[str, Any], devices: list[Any] | None, block_size: int | None
) -> Parcel:
    """A potential's parts as a parcel.

    Raises:
        InputError: this process cannot compute.
    """
    with computing(True):  # an array of JAX cannot be read after a fork
        plain = model.with_arrays({name: np.asarray(array) for name, array in model.arrays.items()})
    chosen = None if devices is None else (devices[0].platform, tuple(device.id for device in devices))
    return Parcel(plain, provenance, chosen, block_size)
