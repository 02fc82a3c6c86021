"""From the descriptor of an atom to its energy, up to the energy bias of its type."""

from collections.abc import Sequence
from typing import Any, NamedTuple, Self

import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float

from dpax.errors import InputError
from dpax.nn.initial import Seed
from dpax.nn.layers import Affine, FittingNet, apply_layers
from dpax.nn.module import Fixed, Module, to_numpy, value
from dpax.nn.primitives import matmul
from dpax.nn.serialized import Count, Types, Width, check_settings, expect, expect_same, numbers, take

_UNUSED = {"tot_ener_zero": False, "layer_name": None, "spin": None}
"""Settings of DeePMD-kit's fitting nets that no model of its Python backends has."""
_DESCRIBED = ("var_name", "dim_out", "mixed_types")
"""Keys that say what any energy fitting of DPA-1 is."""


class FittingWeights(NamedTuple):
    """The arrays of a fitting net in the form that blocks use."""

    layers: tuple[Affine, ...]
    """The last one is linear."""
    parameters: tuple[Float[Array, " inputs"], Float[Array, " inputs"]] | None
    """Mean of what the net is told beside the descriptor, and one over its deviation; None without."""
    case: Float[Array, " cases"] | None
    """Which head of a multi-task model this is; None where it does not say."""


def fit(
    weights: FittingWeights,
    activation_function: str,
    descriptor: Float[Array, "block width"],
    parameters: Float[Array, "block inputs"],
) -> Float[Array, " block"]:
    """Energies from descriptors and from what the net is told beside them."""
    *hidden, last = weights.layers
    x = descriptor.astype(last.w.dtype)
    if weights.parameters is not None:
        mean, inverse = weights.parameters
        told = ((parameters - mean) * inverse).astype(x.dtype)
        x = jnp.concatenate([x, told], axis=-1)
    if weights.case is not None:
        case = jnp.broadcast_to(weights.case, (x.shape[0], weights.case.shape[0]))
        x = jnp.concatenate([x, case], axis=-1)
    x = apply_layers(x, hidden, activation_function)
    energies = matmul(x, last.w)[:, 0]
    return energies if last.b is None else energies + last.b[0]


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
        numb_fparam: numbers that the net is told of each frame.
        numb_aparam: numbers that it is told of each atom.
        default_fparam: what a frame that says nothing counts as saying.
        dim_case_embd: heads of the multi-task model that the net is one of.
        use_aparam_as_mask: aparam are DeePMD-kit's mask of another descriptor, and the net is not told them.
        atom_ener: where any entry is given, the net's energy of a descriptor of zeros is subtracted from
            every atom: what DeePMD-kit makes of this setting. The numbers themselves do not count.
        exclude_types: types whose energy is the bias of the model alone.

    Raises:
        InputError: `default_fparam` of another length than `numb_fparam`, or `exclude_types` and `atom_ener`
            of other types than there are.
    """

    def __init__(
        self,
        ntypes: Types,
        dim_descrpt: Width,
        neuron: Sequence[Width] = (120, 120, 120),
        resnet_dt: bool = True,
        activation_function: str = "tanh",
        precision: str = "float64",
        trainable: bool | Sequence[bool] = True,
        rcond: float | None = None,
        type_map: Sequence[str] | None = None,
        seed: Seed = None,
        numb_fparam: Count = 0,
        numb_aparam: Count = 0,
        default_fparam: Sequence[float] | None = None,
        dim_case_embd: Count = 0,
        use_aparam_as_mask: bool = False,
        atom_ener: Sequence[float | None] | None = None,
        exclude_types: Sequence[Count] = (),
    ):
        if any(t >= ntypes for t in exclude_types):
            raise InputError(f"exclude_types has {max(exclude_types)}; the types are 0 to {ntypes - 1}")
        if atom_ener and len(atom_ener) != ntypes:
            raise InputError(f"atom_ener has {len(atom_ener)} entries; there are {ntypes} types")
        if default_fparam is not None and numb_fparam and len(default_fparam) != numb_fparam:
            raise InputError(
                f"default_fparam has {len(default_fparam)} numbers; numb_fparam says {numb_fparam}"
            )
        self.ntypes = ntypes
        self.dim_descrpt = dim_descrpt
        self.neuron = tuple(neuron)
        self.resnet_dt = resnet_dt
        self.activation_function = activation_function
        self.precision = precision
        self.trainable = trainable if isinstance(trainable, bool) else tuple(trainable)
        self.rcond = rcond
        self.type_map = None if type_map is None else tuple(type_map)
        self.numb_fparam = numb_fparam
        self.numb_aparam = numb_aparam
        self.default_fparam = None if default_fparam is None else tuple(float(x) for x in default_fparam)
        self.dim_case_embd = dim_case_embd
        self.use_aparam_as_mask = use_aparam_as_mask
        self.atom_ener = None if atom_ener is None else tuple(atom_ener)
        self.exclude_types = tuple(int(t) for t in exclude_types)
        self.net: Any = FittingNet(
            dim_descrpt + sum(self.inputs) + dim_case_embd,
            1,
            neuron,
            activation_function,
            resnet_dt,
            precision,
            seed=seed,
            trainable=trainable,
        )
        dtype = self.net.dtype
        self.fparam_avg: Any = _fixed(np.zeros(numb_fparam, dtype))
        self.fparam_inv_std: Any = _fixed(np.ones(numb_fparam, dtype))
        self.aparam_avg: Any = _fixed(np.zeros(numb_aparam, dtype))
        self.aparam_inv_std: Any = _fixed(np.ones(numb_aparam, dtype))
        self.case_embd: Any = _fixed(np.zeros(dim_case_embd, dtype))

    @property
    def inputs(self) -> tuple[int, int]:
        """Numbers that the net is told of each frame and of each atom."""
        return self.numb_fparam, 0 if self.use_aparam_as_mask else self.numb_aparam

    @property
    def subtracts_zero_descriptor(self) -> bool:
        """Whether the net's energy of a descriptor of zeros is subtracted from every atom."""
        return any(energy is not None for energy in self.atom_ener or ())

    def weights(self) -> FittingWeights:
        """The arrays of all layers and of the inputs beside the descriptor."""
        return FittingWeights(self.net.weights(), self._parameters(), value(self.case_embd))

    def _parameters(self) -> tuple[Array, Array] | None:
        names = [name for name, n in zip(("fparam", "aparam"), self.inputs, strict=True) if n]
        if not names:
            return None
        mean, inverse = (
            jnp.concatenate([value(getattr(self, f"{name}_{kind}")) for name in names])
            for kind in ("avg", "inv_std")
        )
        return mean, inverse

    def set_statistics(self, mean: np.ndarray, deviation: np.ndarray) -> None:
        """Take over mean and deviation of the data's parameters, [fparam + aparam] each."""
        n = self.numb_fparam
        for name, part in (("fparam", slice(0, n)), ("aparam", slice(n, None))):
            if getattr(self, f"{name}_avg") is not None and len(mean[part]):
                setattr(self, f"{name}_avg", mean[part])
                setattr(self, f"{name}_inv_std", 1.0 / deviation[part])

    def fold_case(self) -> None:
        """Leave out the input that says which head of a multi-task model this is: it is constant, so that it
        can be a part of the first layer's bias.

        Raises:
            InputError: the first layer adds its input to its output, and would do otherwise without.
        """
        if not self.dim_case_embd:
            return
        first = self.net[0]
        w, b = np.asarray(first.w[...]), np.asarray(first.b[...])
        kept = w.shape[0] - self.dim_case_embd
        if w.shape[1] in (w.shape[0], 2 * w.shape[0], kept, 2 * kept):
            raise InputError(
                "the fitting net's first layer has a skip connection, part of which is of the inputs for the "
                "heads of a multi-task model, which a model of one task cannot have"
            )
        first.set_arrays(w[:kept], b + np.asarray(self.case_embd[...]) @ w[kept:], value(first.idt))
        self.net.in_dim, self.dim_case_embd, self.case_embd = kept, 0, None

    def change_types(self, old: Sequence[str], new: Sequence[str]) -> None:
        """Match what belongs to types to a new list of their names."""
        self.ntypes, self.type_map = len(new), tuple(new)
        self.exclude_types = tuple(new.index(old[t]) for t in self.exclude_types if old[t] in new)
        if self.atom_ener:
            named = dict(zip(old, self.atom_ener, strict=True))
            kept = tuple(named.get(name) for name in new)
            # One entry that is not None keeps the subtraction, which concerns every type.
            lost = self.subtracts_zero_descriptor and all(energy is None for energy in kept)
            self.atom_ener = (0.0,) * len(new) if lost else kept

    def serialize(self) -> dict:
        """DeePMD-kit's dictionary of an energy fitting."""
        flags = self.trainable
        names = ("case_embd", "fparam_avg", "fparam_inv_std", "aparam_avg", "aparam_inv_std")
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
            "numb_fparam": self.numb_fparam,
            "numb_aparam": self.numb_aparam,
            "dim_case_embd": self.dim_case_embd,
            "default_fparam": None if self.default_fparam is None else list(self.default_fparam),
            **_UNUSED,
            "use_aparam_as_mask": self.use_aparam_as_mask,
            "atom_ener": [] if self.atom_ener is None else list(self.atom_ener),
            "rcond": self.rcond,
            "activation_function": self.activation_function,
            "precision": self.net.dtype.name,
            "mixed_types": True,
            "exclude_types": list(self.exclude_types),
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
                **{name: to_numpy(getattr(self, name)) for name in names},
            },
        }

    @classmethod
    def deserialize(cls, data: dict) -> tuple[Self, np.ndarray]:
        """Read DeePMD-kit's dictionary of an energy fitting, of versions 1 to 4.

        Returns:
            The fitting, and the energy bias [ntypes] (eV) that its dictionary holds beside the model's.

        Raises:
            InputError: a fitting that is not of energies, that shares layers by name, or that has a net for
                each type.
        """
        data = take(data, "Fitting", 4)
        kind = data.pop("type", "ener")
        if kind != "ener":
            raise InputError(f"the model fits {kind!r}; dpax reads models of energies ('ener')")
        if not data.get("mixed_types", True):
            raise InputError("the model has one fitting net for each type; DPA-1 models have one for all")
        named = data.get("layer_name")
        if any(name is not None for name in named or ()):
            raise InputError(
                f"the model's fitting net has layer_name = {named}: layers shared by name exist in "
                "DeePMD-kit's TensorFlow models only"
            )
        if data.get("tot_ener_zero") or data.get("spin") is not None:
            raise InputError(
                "the model's fitting net has tot_ener_zero or spin, which is not of DPA-1 energies"
            )
        nets, arrays = data.pop("nets"), data.pop("@variables", {})
        for key in (*_UNUSED, *_DESCRIBED):
            data.pop(key, None)
        data["trainable"] = True if data.get("trainable") is None else data["trainable"]
        settings = check_settings(cls, data)
        net = FittingNet.deserialize(take(nets, "NetworkCollection", 1)["networks"][0])
        told = settings["numb_fparam"] + (0 if settings["use_aparam_as_mask"] else settings["numb_aparam"])
        width = settings["dim_descrpt"] + told + settings["dim_case_embd"]
        expect("the input of the fitting net", net.in_dim, width)
        expect("neuron of the fitting net", net.neuron, tuple(settings["neuron"]))
        for kind in ("fparam", "aparam"):  # a mask of atoms is not an input of the net
            count = settings[f"numb_{kind}"]
            expect(
                f"numb_{kind} and the array {kind}_avg",
                np.size(arrays.get(f"{kind}_avg") if count else ()),
                count,
            )
        fitting = cls(**data)
        expect_same("the fitting net", net, fitting.net, "out_dim", "activation_function", "dtype")
        fitting.net = net
        for name in ("case_embd", "fparam_avg", "fparam_inv_std", "aparam_avg", "aparam_inv_std"):
            own = getattr(fitting, name)
            if own is not None:
                setattr(fitting, name, numbers({name: np.ravel(arrays[name])}, name, own.shape))
        bias = arrays.get("bias_atom_e")
        extra = np.zeros(fitting.ntypes)
        if bias is not None:
            extra[:] = numbers({"bias_atom_e": np.ravel(bias)}, "bias_atom_e", extra.shape)
        extra[list(fitting.exclude_types)] = 0.0
        return fitting, extra


def _fixed(array: np.ndarray) -> Fixed | None:
    return Fixed(jnp.asarray(array)) if len(array) else None
