"""A potential on its way to another process: what of it is pickled, and what it becomes where it arrives."""

from typing import Any, NamedTuple

import jax

from dpax.computing import computing
from dpax.model.potential import EnergyModel


class Parcel(NamedTuple):
    """All that makes a potential, as NumPy arrays and plain values.

    Devices and compiled programs belong to a process and stay there.
    """

    model: dict[str, Any]
    """The model's dictionary."""
    bias: tuple[float, ...]
    """Of the types, eV; in the dictionary it may be a sum, which rounds."""
    provenance: dict[str, Any]
    devices: tuple[str, tuple[int, ...]] | None
    """The platform and the numbers of the devices that were chosen; None for all."""
    block_size: int | None
    capacities: dict[str, Any] | None = None
    """The array sizes used so far: with other ones the last bit of a result may differ."""

    def open_model(self) -> EnergyModel:
        """The model.

        Raises:
            InputError: this process cannot compute.
        """
        with computing(True):  # whatever the caller's mode, a float64 model stays one
            model = EnergyModel.deserialize(self.model)
            model.set_bias(self.bias)  # pyright: ignore[reportArgumentType]
            return model

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
    with computing(True):
        data = model.serialize()
    chosen = None if devices is None else (devices[0].platform, tuple(device.id for device in devices))
    return Parcel(data, model.bias, provenance, chosen, block_size)
