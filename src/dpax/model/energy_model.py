"""The energy model: a description, named arrays, and an energy bias for each type."""

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Self

import jax
import jax.numpy as jnp
import numpy as np

from dpax.computing import computing
from dpax.descriptor import change_types as descriptor_types
from dpax.descriptor import initial as descriptor_arrays
from dpax.errors import InputError
from dpax.model import fitting as fitting_arrays
from dpax.model.energies import ModelWeights, prepare
from dpax.model.fitting import fit
from dpax.model.pair_table import read_pair_table
from dpax.model.settings import ModelSettings
from dpax.model.short_range import ShortRange
from dpax.model.spec import ModelSpec, some_given
from dpax.nn.arrays import Arrays, below, placed
from dpax.nn.initial import Seed, child_seed

_PARTS = {
    "descriptor/type_embedding/": "type embedding",
    "descriptor/embedding/": "embedding net",
    "descriptor/pair_embedding/": "net of type pairs",
    "descriptor/degree_gains": "degree gains",
    "descriptor/attention/": "attention",
    "fitting/": "fitting net",
}
"""The parts of a model, by the prefixes of the names of their weights."""


@dataclass(frozen=True, eq=False)
class EnergyModel:
    """A DPA-1 energy model. It is immutable: methods that alter a model return a new one.

    The bias is kept apart, in float64 on the host: it is thousands of eV where the network's part
    is a few, and float32 sums would lose it.
    """

    spec: ModelSpec
    """All constants."""
    arrays: Arrays
    """By name: those of `dpax.descriptor.initial` below `descriptor`, those of `dpax.model.fitting` below
    `fitting`."""
    bias: tuple[float, ...]
    """[ntypes], eV; excluded types have none."""

    @property
    def type_map(self) -> tuple[str, ...]:
        """The element of each type."""
        return self.spec.type_map

    @property
    def rcut(self) -> float:
        """Cut-off radius, Å."""
        return self.spec.descriptor.rcut

    @property
    def dtype(self) -> np.dtype:
        """The precision that the edge vectors are given in: the descriptor's."""
        return self.spec.descriptor.dtype

    @property
    def needs_x64(self) -> bool:
        """Whether any part of the model computes in float64."""
        return np.float64 in (self.dtype, self.spec.fitting.dtype)

    @property
    def descriptor(self) -> Arrays:
        """The arrays of the descriptor."""
        return below(self.arrays, "descriptor")

    @property
    def fitting(self) -> Arrays:
        """The arrays of the fitting net."""
        return below(self.arrays, "fitting")

    @property
    def trained(self) -> frozenset[str]:
        """The names of the arrays that training changes."""
        parts = {
            "descriptor": descriptor_arrays.trained(self.spec.descriptor, self.descriptor),
            "fitting": fitting_arrays.trained(self.spec.fitting, self.fitting),
        }
        return frozenset(f"{part}/{name}" for part, names in parts.items() for name in names)

    def parameter_counts(self) -> Counter[str]:
        """The number of weights in each part of the model; statistics and energy bias do not count."""
        counts: Counter[str] = Counter()
        for name, array in self.arrays.items():
            part = next((part for start, part in _PARTS.items() if name.startswith(start)), None)
            if part is not None:
                counts[part] += array.size
        return counts

    def with_arrays(self, arrays: Arrays) -> Self:
        """The model with arrays replaced by name."""
        return replace(self, arrays={**self.arrays, **arrays})

    def with_bias(self, bias: Sequence[float] | np.ndarray) -> Self:
        """The model with another energy bias, [ntypes], eV."""
        return replace(self, bias=bias_of(self.spec, bias))

    def weights(self) -> ModelWeights:
        """What blocks use, for `atomic_energies`."""
        return prepare(self.spec, self.arrays, self.bias)

    def evaluation_weights(self) -> ModelWeights:
        """The same, computed at once: for many evaluations with these weights."""
        with computing(self.needs_x64):
            return jax.jit(lambda arrays: prepare(self.spec, arrays, self.bias))(dict(self.arrays))

    def absolute_bias(self) -> np.ndarray:
        """[ntypes], eV: the bias with which the net's energies as they are would give those of the model.

        It differs from `bias` where energies are relative to those of isolated atoms, or to that of a
        descriptor of zeros, and is as good as the weights of now.

        Raises:
            InputError: what they are relative to depends on `fparam` or `aparam`.
        """
        weights = self.weights()
        if weights.vacuum is None:
            return np.array(self.bias)
        net = self.spec.fitting
        if any(net.parameters):
            raise InputError(
                "atom_ener: the energies of isolated atoms are exact under any fparam and aparam, and no "
                "bias can stand for what depends on them"
            )
        descriptors, applies = (array[:-1] for array in weights.vacuum)
        nothing = jnp.zeros((len(descriptors), 0))
        energies = fit(weights.fitting, net.activation_function, descriptors, nothing)
        silent = np.isin(np.arange(len(descriptors)), net.exclude_types)
        return np.array(self.bias) - np.where((applies > 0) & ~silent, energies, 0.0)

    def change_type_map(
        self, type_map: Sequence[str], seed: Seed = None, statistics_from: Self | None = None
    ) -> Self:
        """The model of a new `type_map`, matched by name; arrays of known elements do not change.

        Weights of new types are drawn at random, their bias is 0, and nothing is preset for them.

        Args:
            type_map: element symbols; may drop, add and reorder types.
            seed: of the new types' weights.
            statistics_from: a model of the new `type_map`, whose environment statistics, type embedding and
                bias new types take.

        Raises:
            InputError: a compressed descriptor, a new type without an entry in the short-range table, or
                `statistics_from` with other types.
        """
        old, new = self.type_map, tuple(type_map)
        if statistics_from is not None and statistics_from.type_map != new:
            raise InputError(
                f"statistics for the types {' '.join(new)} cannot come from a model of "
                f"{' '.join(statistics_from.type_map)}"
            )
        short = None if self.spec.short_range is None else self.spec.short_range.change_types(old, new)
        source = None if statistics_from is None else statistics_from.descriptor
        descriptor, arrays = descriptor_types.change_types(
            self.spec.descriptor, self.descriptor, new, seed, source
        )
        fresh = (0.0,) * len(new) if statistics_from is None else statistics_from.bias
        known = dict(zip(old, self.bias, strict=True))
        spec = self.spec.changed(
            type_map=new,
            descriptor=descriptor,
            fitting=fitting_arrays.change_types(self.spec.fitting, old, new),
            short_range=short,
            **_change_types(self.spec, new),
        )
        arrays = {**placed(arrays, "descriptor"), **placed(self.fitting, "fitting")}
        bias = [known.get(name, other) for name, other in zip(new, fresh, strict=True)]
        return type(self)(spec, arrays, bias_of(spec, bias))


def _change_types(spec: ModelSpec, new: Sequence[str]) -> dict[str, object]:
    """The type-dependent settings of a model for a new type_map."""
    old = spec.type_map
    pairs = [(old[a], old[b]) for a, b in spec.pair_exclude_types]
    energies = {
        name: dict(zip(old, getattr(spec, name) or (None,) * len(old), strict=True))
        for name in ("preset_out_bias", "isolated_energies")
    }
    return {
        "atom_exclude_types": tuple(
            sorted(new.index(old[t]) for t in spec.atom_exclude_types if old[t] in new)
        ),
        "pair_exclude_types": tuple((new.index(a), new.index(b)) for a, b in pairs if {a, b} <= set(new)),
        **{name: some_given([of_type.get(e) for e in new]) for name, of_type in energies.items()},
    }


def check_numbers(model: EnergyModel) -> None:
    """Check that a model can compute with its numbers.

    Raises:
        InputError: some are not finite, or the environment would be divided by a number that is not positive.
    """
    for name, array in {**model.arrays, "bias": np.array(model.bias)}.items():
        if not np.isfinite(np.asarray(array, np.float64)).all():
            raise InputError(
                f"the model's {name} has numbers that are not finite: its training went wrong, they are too "
                "large for its precision, or the file is damaged"
            )
    if not (np.asarray(model.arrays["descriptor/stddev"]) > 0).all():
        raise InputError(
            "the model's stddev, which the environment is divided by, is not positive everywhere"
        )


def bias_of(spec: ModelSpec, bias: Sequence[float] | np.ndarray) -> tuple[float, ...]:
    """An energy bias, [ntypes], eV, without that of excluded types."""
    values = np.array(bias, np.float64)
    values[list(spec.atom_exclude_types)] = 0.0
    return tuple(values.tolist())


def spec_of(settings: ModelSettings, sel: int | None = None) -> ModelSpec:
    """The description of the model that settings ask for.

    Args:
        settings: of the model.
        sel: the number that `sel: "auto"` was resolved to.

    Raises:
        InputError: the short-range table cannot be read.
    """
    descriptor, net, short = settings.descriptor.spec(settings.type_map, sel), settings.fitting_net, None
    if settings.use_srtab is not None:
        table = read_pair_table(settings.use_srtab, descriptor.rcut, settings.type_map)
        assert settings.sw_rmin is not None
        assert settings.sw_rmax is not None
        short = ShortRange(
            table=table,
            sw_rmin=settings.sw_rmin,
            sw_rmax=settings.sw_rmax,
            smin_alpha=settings.smin_alpha,
            add_bias=settings.srtab_add_bias,
        )
    return ModelSpec(
        type_map=settings.type_map,
        descriptor=descriptor,
        fitting=net.spec(descriptor.ntypes, descriptor.width),
        atom_exclude_types=tuple(sorted(set(settings.atom_exclude_types))),
        pair_exclude_types=settings.pair_exclude_types,
        preset_out_bias=some_given(settings.preset_energies),
        isolated_energies=some_given(net.atom_ener),
        short_range=short,
    )


def initial_model(
    spec: ModelSpec,
    seed: int | None = None,
    rule: str = "dpax",
    seeds: tuple[int | None, int | None] = (None, None),
) -> EnergyModel:
    """A model with random weights.

    Args:
        spec: its description.
        seed: of the weights; None for fresh entropy.
        rule: by which weights are drawn, see `dpax.nn.initial`.
        seeds: of the descriptor and of the fitting net by themselves, instead of `seed`.
    """
    own, of_net = (seed if part_seed is None else part_seed for part_seed in seeds)
    gains = child_seed(seed, 0) if seeds[0] is None else seeds[0]
    arrays = {
        **placed(descriptor_arrays.initial_arrays(spec.descriptor, own, rule, gains), "descriptor"),
        **placed(fitting_arrays.initial_arrays(spec.fitting, of_net, rule), "fitting"),
    }
    return EnergyModel(spec, arrays, (0.0,) * spec.descriptor.ntypes)
