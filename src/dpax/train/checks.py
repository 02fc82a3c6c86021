"""What is wrong or suspicious about data, for `dpax validate` and for a training run."""

from collections.abc import Iterator, Mapping, Sequence
from typing import NamedTuple

from dpax.data import System
from dpax.data.label_keys import quantity_of, unread_note
from dpax.data.lmdb_file import is_lmdb
from dpax.data.quantities import TERMS
from dpax.errors import InputError
from dpax.train.settings import InputSettings
from dpax.train.setup import Data, weighed_labels

_TOO_CLOSE = 0.5
"""Å; no two atoms of condensed matter or of a molecule are that close."""
_NEEDED = ("energy", "forces")
"""Labels that are hardly left out on purpose if the file has them under another name."""


class Seen(NamedTuple):
    """The contents of the frames that were read, all or a sample."""

    types: frozenset[int]
    """Of their atoms."""
    most_neighbors: int
    crowded: str
    """The frame with that atom."""
    closest: float
    """Å, between two atoms; infinite if none has a neighbour."""
    closest_in: str
    """The frame with these atoms."""


def check_labels(settings: InputSettings, data: Data) -> None:
    """Refuse training data without any label in the loss.

    Raises:
        InputError: energies are absent although the loss wants them, nothing that it wants is there, a label
            stands under a name that is not read, or the labels are not as wide as the loss says.
    """
    loss = settings.loss
    check_names(settings, data)
    wanted = _weighed(settings)
    names = ", ".join(system.name for system in data.systems)
    if loss.weighs("e") and "energy" not in data.labels:
        raise InputError(
            f"no frame of the training data ({names}) has an energy; add energies (energy.npy), or set "
            "loss.start_pref_e and loss.limit_pref_e to 0 to train without"
        )
    if not data.labels.intersection(wanted):
        labels = ", ".join(wanted) or "nothing"
        raise InputError(f"the loss weighs {labels}, which no frame of the training data ({names}) has")
    width = weighed_labels(loss, data).get("drdq", 0)
    if width and width != loss.numb_generalized_coord:
        raise InputError(
            f"loss.numb_generalized_coord is {loss.numb_generalized_coord}, but drdq in the training data "
            f"({names}) has {width}"
        )


def check_names(settings: InputSettings, data: Data) -> None:
    """Refuse data whose energies or forces stand under a name that is not read.

    Raises:
        InputError: a system has a label under another name alone, or no system has it and one has something
            that looks like it; the message says how to read it.
    """
    for system, label, keys in _misnamed(settings, data.systems):
        if label in _NEEDED and label not in system.labels:
            raise InputError(_note(system, label, keys))
    for label in {*_weighed(settings)}.intersection(_NEEDED) - data.labels:
        for system in data.systems:
            if label in system.unread:
                raise InputError(_note(system, label, system.unread[label]))


def _note(system: System, label: str, keys: Sequence[str]) -> str:
    return unread_note(system.name, label, keys, keyed=not is_lmdb(system.path))


def _weighed(settings: InputSettings) -> list[str]:
    """The labels that the loss weighs."""
    loss = settings.loss
    labels = [label.name for term, label in TERMS.items() if loss.weighs(term)]
    if loss.weighs("pf") and loss.use_default_pf:  # a weight of 1 for every atom
        labels = [label for label in labels if label != "atom_pref"]
        labels += ["forces"] * ("forces" not in labels)
    return labels


def _misnamed(
    settings: InputSettings, systems: Sequence[System]
) -> Iterator[tuple[System, str, Sequence[str]]]:
    """The labels that the loss weighs and that stand under other names too."""
    weighed = _weighed(settings)
    for system in systems:
        for label, keys in system.unread.items():
            alike = [key for key in keys if quantity_of(key.removesuffix(".npy")) is not None]
            if label in weighed and alike:
                yield system, label, alike


def data_warnings(
    settings: InputSettings,
    systems: Sequence[System],
    training: Sequence[Seen],
    validation: Sequence[Seen] = (),
) -> list[str]:
    """Settings and data that are allowed, but hardly intended.

    Args:
        settings: of the run.
        systems: its training data and its validation data.
        training: what was seen in frames of the training data.
        validation: what was seen in frames of the validation data, if they were looked at.
    """
    texts = list(settings.model.warnings)
    record, head = settings.dpax.started_from, settings.model.finetune_head
    if head is not None and (record is None or record.how != "finetune"):
        texts.append(f"model.finetune_head is {head!r}, which counts with --finetune only")
    known = frozenset().union(*(seen.types for seen in training))
    absent = [name for number, name in enumerate(settings.model.type_map) if number not in known]
    if absent:
        texts.append(
            f"no atom of {', '.join(absent)} in the training data: nothing will be learnt about them"
        )
    labels = frozenset().union(*(system.labels for system in systems))
    for label in _NEEDED:
        if label in _weighed(settings) and label not in labels:
            texts.append(f"the loss weighs {label}, which no frame of the data has")
    for system, label, keys in _misnamed(settings, systems):
        if label in system.labels:
            texts.append(
                f"{_note(system, label, keys)}; what is read is the {label} under its usual "
                "name, and frames that lack it there count as having none"
            )
        elif label not in _NEEDED:
            texts.append(_note(system, label, keys))
    for seen in (*training, *validation):
        if seen.closest < _TOO_CLOSE:
            texts.append(f"{seen.closest_in}: two atoms are only {seen.closest:.3f} Å apart")
    if settings.training.validation_data is None:
        texts.append("no validation_data: an overfitted model cannot be recognised")
    return texts


def sel_warnings(sel: int | None, seen: Sequence[Seen]) -> list[str]:
    """Whether any atom has more neighbours than `sel`; None for a `sel` that is chosen from the data."""
    fullest = max(seen, key=lambda system: system.most_neighbors)
    if sel is None or fullest.most_neighbors <= sel:
        return []
    return [
        f"{fullest.crowded}: an atom has {fullest.most_neighbors} neighbours, more than sel = {sel}; dpax "
        f"uses all of them, DeePMD-kit would drop some. Set sel to at least {fullest.most_neighbors}"
    ]


def label_warnings(settings: InputSettings, name: str, frames: int, labels: Mapping[str, int]) -> list[str]:
    """The labels in the loss that some frames of a system lack.

    Args:
        settings: of the run.
        name: of the system.
        frames: how many it has.
        labels: how many of them have each label.
    """
    missing = {label: frames - labels.get(label, 0) for label in _weighed(settings)}
    return [f"{name}: {n} of {frames} frames have no {label}" for label, n in missing.items() if n]
