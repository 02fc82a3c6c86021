"""From the descriptor of an atom to its energy, up to the energy bias of its type."""

from collections.abc import Sequence
from typing import Any, Self

import numpy as np

from dpax.errors import InputError
from dpax.nn.initial import Seed
from dpax.nn.layers import Affine, FittingNet, take
from dpax.nn.module import Module

_NOT_YET = {"numb_fparam": 0, "numb_aparam": 0, "dim_case_embd": 0}
"""Settings of DeePMD-kit's fitting nets that change the network's input, at the values that do not."""
_NEUTRAL = {
    **_NOT_YET,
    "default_fparam": None,
    "tot_ener_zero": False,
    "layer_name": None,
    "use_aparam_as_mask": False,
    "spin": None,
    "atom_ener": [],
}


class EnergyFitting(Module):
    """One network for all types.

    Args:
        ntypes: number of types.
        dim_descrpt: width of the descriptor.
        neuron: widths of the hidden layers.
        resnet_dt: a trainable time step on residual layers.
        activation_function: of the hidden layers.
        precision: of the arrays.
        trainable: one flag, or one per layer, the last included.
        rcond: cut-off of small singular values in the fit of the energy bias.
        type_map: element symbols of the types.
        seed: None for fresh entropy.
    """

    def __init__(
        self,
        ntypes: int,
        dim_descrpt: int,
        neuron: Sequence[int] = (120, 120, 120),
        resnet_dt: bool = True,
        activation_function: str = "tanh",
        precision: str = "float64",
        trainable: bool | Sequence[bool] = True,
        rcond: float | None = None,
        type_map: Sequence[str] | None = None,
        seed: Seed = None,
    ):
        self.ntypes = ntypes
        self.dim_descrpt = dim_descrpt
        self.neuron = tuple(neuron)
        self.resnet_dt = resnet_dt
        self.activation_function = activation_function
        self.precision = precision
        self.trainable = trainable if isinstance(trainable, bool) else tuple(trainable)
        self.rcond = rcond
        self.type_map = None if type_map is None else tuple(type_map)
        self.net: Any = FittingNet(
            dim_descrpt,
            1,
            neuron,
            activation_function,
            resnet_dt,
            precision,
            seed=seed,
            trainable=trainable,
        )

    def weights(self) -> tuple[Affine, ...]:
        """The arrays of all layers; the last one is linear."""
        return self.net.weights()

    def serialize(self) -> dict:
        """DeePMD-kit's dictionary of an energy fitting."""
        flags = self.trainable
        return {
            "@class": "Fitting",
            "type": "ener",
            "@version": 4,
            "var_name": "energy",
            "ntypes": self.ntypes,
            "dim_descrpt": self.dim_descrpt,
            "dim_out": 1,
            "neuron": list(self.neuron),
            "resnet_dt": self.resnet_dt,
            **_NEUTRAL,
            "rcond": self.rcond,
            "activation_function": self.activation_function,
            "precision": self.net.dtype.name,
            "mixed_types": True,
            "exclude_types": [],
            "trainable": [flags] * (len(self.neuron) + 1) if isinstance(flags, bool) else list(flags),
            "type_map": None if self.type_map is None else list(self.type_map),
            "nets": {
                "@class": "NetworkCollection",
                "@version": 1,
                "ndim": 0,
                "ntypes": self.ntypes,
                "network_type": "fitting_network",
                "networks": [self.net.serialize()],
            },
            "@variables": {
                "bias_atom_e": np.zeros((self.ntypes, 1)),
                "case_embd": None,
                "fparam_avg": None,
                "fparam_inv_std": None,
                "aparam_avg": None,
                "aparam_inv_std": None,
            },
        }

    @classmethod
    def deserialize(cls, data: dict) -> tuple[Self, np.ndarray]:
        """Read DeePMD-kit's dictionary of an energy fitting.

        Returns:
            The fitting, and the energy bias [ntypes] (eV) that its dictionary holds beside the model's.

        Raises:
            InputError: a fitting that is not of energies, or with inputs beside the descriptor.
        """
        data = take(data, "Fitting", 4)
        kind = data.pop("type", "ener")
        if kind != "ener":
            raise InputError(f"the model fits {kind!r}; dpax reads models of energies ('ener')")
        for key, neutral in _NOT_YET.items():
            if data.get(key, neutral) != neutral:
                raise InputError(
                    f"the model's fitting net has {key} = {data[key]}, which dpax does not read yet"
                )
        if any(energy is not None for energy in data.get("atom_ener") or ()):
            # DeePMD-kit then subtracts the net's value for a descriptor of zeros.
            raise InputError(
                f"the model's fitting net has atom_ener = {data['atom_ener']}, which dpax does not read yet"
            )
        nets, arrays = data.pop("nets"), data.pop("@variables", {})
        if not data.pop("mixed_types", True):
            raise InputError("the model has one fitting net for each type; DPA-1 models have one for all")
        for key in (*_NEUTRAL, "var_name", "dim_out", "exclude_types"):
            data.pop(key, None)
        data["trainable"] = True if data.get("trainable") is None else data["trainable"]
        fitting = cls(**data)
        fitting.net = FittingNet.deserialize(take(nets, "NetworkCollection", 1)["networks"][0])
        bias = arrays.get("bias_atom_e")
        return fitting, np.zeros(fitting.ntypes) if bias is None else np.ravel(bias).astype(np.float64)
