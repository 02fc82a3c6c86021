"""Starting from a trained model: what a new one takes over from it, matched by the names of the elements."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any, Literal

import numpy as np

from dpax.computing import computing
from dpax.contents import expect
from dpax.descriptor.hyperparameters import DescriptorHyperparameters
from dpax.descriptor.settings import DescriptorSettings
from dpax.descriptor.table import is_compressed
from dpax.errors import InputError, shortened
from dpax.model.energy_model import EnergyModel
from dpax.model.fitting import without_case
from dpax.model.fitting_spec import FittingHyperparameters
from dpax.model.settings import RANDOM, FittingSettings
from dpax.nn.arrays import placed
from dpax.settings import Settings
from dpax.train.settings import InputSettings

_SECTIONS: Mapping[str, type[Settings]] = {"descriptor": DescriptorSettings, "fitting_net": FittingSettings}
_KEPT = ("trainable", "trainable_ln", "seed")
"""Keys of the user even where the architecture is that of the trained model."""
_NO_ARCHITECTURE = (*_KEPT, "precision", "rcond", "default_fparam", "atom_ener")
"""Keys in which a model may differ from the one that its weights come from."""


@dataclass(frozen=True)
class Origin:
    """A trained model that a training starts from."""

    model: EnergyModel
    how: Literal["init-model", "finetune"]
    """init-model: its weights, statistics and energy bias as they are. finetune: with its types changed to
    those of the new data, and its energy bias adjusted to them."""
    random_fitting: bool = False
    """Whether a fresh fitting net takes the place of the trained one."""

    @property
    def sel(self) -> int:
        """The number of slots, which belongs to the weights: it divides the descriptor."""
        return self.model.spec.descriptor.nsel


def choose_origin(
    settings: InputSettings, restart: bool, init_model: EnergyModel | None, finetune: EnergyModel | None
) -> Origin | None:
    """What a training starts from, if not from fresh weights.

    Raises:
        InputError: options that exclude each other.
    """
    ways = {"restart": restart, "init_model": init_model is not None, "finetune": finetune is not None}
    chosen = [name for name, wanted in ways.items() if wanted]
    if len(chosen) > 1:
        raise InputError(f"{' and '.join(chosen)} each set the starting model; keep one of them")
    if init_model is not None:
        return Origin(init_model, "init-model")
    if finetune is not None:
        return Origin(finetune, "finetune", settings.model.finetune_head == RANDOM)
    if settings.dpax.started_from is not None and not restart:
        raise InputError(
            "the input says in dpax.started_from that its run started from a trained model: give that model "
            f"again with --{settings.dpax.started_from.how}, or remove the section to start with fresh ones"
        )
    return None


def architecture(model: EnergyModel, type_map: Sequence[str]) -> dict[str, dict[str, Any]]:
    """The sections `descriptor` and `fitting_net` of an input file that describe such a model.

    Args:
        model: of which neither weights nor the choice of what is trained matter.
        type_map: of the input file; types named by numbers are numbered by it.

    Raises:
        InputError: the model's types have no names.
    """
    check_names(model)
    descriptor, fitting = model.spec.descriptor, model.spec.fitting
    pairs = [[model.type_map[t] for t in pair] for pair in descriptor.exclude_types]
    sections = {
        "descriptor": descriptor.model_dump(mode="json", include=set(DescriptorHyperparameters.model_fields))
        | {
            "sel": descriptor.nsel,
            "exclude_types": [
                [type_map.index(e) for e in pair] for pair in pairs if all(e in type_map for e in pair)
            ],
        },
        "fitting_net": fitting.model_dump(mode="json", include=set(FittingHyperparameters.model_fields)),
    }
    return {
        name: {key: value for key, value in section.items() if key not in _KEPT}
        for name, section in sections.items()
    }


def with_architecture(
    content: Mapping[str, Any], sections: Mapping[str, Mapping[str, Any]]
) -> dict[str, Any]:
    """An input file's content with sections of its model replaced; what the user says of training stays."""
    model = dict(content.get("model") or {})
    for name, section in sections.items():
        requested = model.get(name) or {}
        model[name] = {**section, **{key: requested[key] for key in _KEPT if key in requested}}
    return {**content, "model": model}


def started(fresh: EnergyModel, origin: Origin, tell: Callable[[str], None]) -> EnergyModel:
    """The fresh model with what it takes over from the trained one.

    Elements that the trained model knows keep its embedding, statistics and energy bias; others have those
    of the fresh model, and an energy bias of 0 where it is still to be adjusted. Where the fitting net is
    fresh its bias is too. Precision and what is trainable are the fresh model's.

    Args:
        fresh: with the new `type_map`, and statistics of the new data.
        origin: where weights come from.
        tell: hears of elements that are new.

    Raises:
        InputError: another architecture, a compressed model, types without names, or new elements where the
            model is only to be trained on.
    """
    check_names(origin.model)
    _check_elements(fresh, origin, tell)
    _check_architecture(fresh, origin)
    trained = _without_case(origin.model)
    # The short-range table of the input is taken, which knows the new elements.
    trained = replace(trained, spec=trained.spec.changed(short_range=None))
    trained = trained.change_type_map(fresh.type_map, statistics_from=fresh)
    taken = {
        name: np.asarray(trained.arrays[name]).astype(np.asarray(own).dtype)
        for name, own in fresh.arrays.items()
        if not (origin.random_fitting and name.startswith("fitting/"))
    }
    for name, array in taken.items():
        expect(f"the shape of {name}", array.shape, fresh.arrays[name].shape)
    model = fresh.with_arrays(taken)
    if origin.random_fitting:
        return model
    known = dict(zip(origin.model.type_map, _own_bias(origin.model, fresh), strict=True))
    own = zip(fresh.type_map, fresh.spec.fixed_bias, strict=True)
    return model.with_bias([known.get(name, 0.0) if fixed is None else fixed for name, fixed in own])


def _without_case(model: EnergyModel) -> EnergyModel:
    """The model without its one-hot input of the head of a multi-task model."""
    fitting, arrays = without_case(model.spec.fitting, model.fitting)
    return EnergyModel(
        model.spec.changed(fitting=fitting),
        {**placed(model.descriptor, "descriptor"), **placed(arrays, "fitting")},
        model.bias,
    )


def _own_bias(trained: EnergyModel, fresh: EnergyModel) -> Sequence[float]:
    """The energy bias of a trained model in one that may not have its atom_ener."""
    asked = fresh.spec.relative_types if fresh.spec.isolated_energies is not None else frozenset()
    if trained.spec.relative_types & set(fresh.type_map) <= asked:
        return trained.bias
    with computing(True):
        return tuple(trained.absolute_bias())


def check_names(model: EnergyModel) -> None:
    """Check that the types of a model have names.

    Raises:
        InputError: they have none, so that they cannot be matched.
    """
    if not model.type_map:
        raise InputError(
            "the types of the trained model have no names (its type_map is empty), so they cannot be matched "
            "with those of type_map; write the elements into the model file, in the order of its types"
        )


def _check_elements(fresh: EnergyModel, origin: Origin, tell: Callable[[str], None]) -> None:
    new = [element for element in fresh.type_map if element not in origin.model.type_map]
    if not new:
        return
    known = " ".join(origin.model.type_map)
    if origin.how == "init-model":
        raise InputError(
            f"the trained model does not know {', '.join(new)}, only {known}; leave them out of "
            "model.type_map, or start with --finetune, which takes what they need from the data"
        )
    if not set(fresh.type_map) & set(origin.model.type_map):
        raise InputError(
            f"the trained model knows none of {', '.join(new)}, only {known}: there is nothing to start from"
        )
    tell(
        f"{', '.join(new)}: not in the trained model, which knows {known}; embeddings are drawn at random, "
        "statistics come from the data"
    )


def _check_architecture(fresh: EnergyModel, origin: Origin) -> None:
    if is_compressed(origin.model.descriptor):
        raise InputError("the trained model is compressed; start from the model before its compression")
    if not origin.model.spec.descriptor.isotropic:
        raise InputError(
            "the trained model's environment statistics (mean, stddev) differ between directions, as no "
            "statistics of data do; training knows none but those of data"
        )
    ours, theirs = (architecture(model, fresh.type_map) for model in (fresh, origin.model))
    differences = []
    for section, kind in _SECTIONS.items():
        if section == "fitting_net" and origin.random_fitting:
            continue
        mine, described = (kind.model_validate(part[section]).resolved() for part in (ours, theirs))
        differences += [
            f"{section}.{key} is {shortened(mine[key])} and was {shortened(described[key])}"
            for key in mine
            if key not in _NO_ARCHITECTURE and mine[key] != described[key]
        ]
    if differences:
        raise InputError(
            f"the model section describes another model than the trained one: {'; '.join(differences)}. "
            "Correct it, or take the trained one's with --use-pretrain-script"
        )
