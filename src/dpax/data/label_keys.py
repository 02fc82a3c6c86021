"""Other keys than the usual ones by which files call energies, forces and other labels."""

import re
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from dpax.data.quantities import QUANTITIES, STRESS
from dpax.errors import InputError

_KEYED = {q.name: q for q in (*QUANTITIES.values(), STRESS)}
"""What `keys` may name the key of."""
SPELLINGS = {name: quantity.keys for name, quantity in _KEYED.items()}
"""The keys of each quantity in files that ASE reads."""
_WORDS = (
    "ref",
    "reference",
    "dft",
    "qm",
    "true",
    "target",
    "label",
    "scf",
    "pbe",
    "vasp",
    "ccsdt",
    "ab",
    "initio",
)
"""Words that come before or after, and say where a label comes from."""


def keys_read(keys: Mapping[str, str]) -> dict[str, tuple[str, ...]]:
    """The keys under which each label is looked for, where some labels have a key of their own."""
    return SPELLINGS | {quantity: (key,) for quantity, key in keys.items()}


def quantity_of(key: str) -> str | None:
    """The quantity that a key names in other words, `forces` for "REF_forces"; None if it names none."""
    words = [word for word in re.split(r"[-_ .]+", _separated(key)) if word]
    name = "".join(word for word in words if word not in _WORDS)
    return next((quantity.name for quantity in _KEYED.values() if name in quantity.look_alikes), None)


def _separated(key: str) -> str:
    """The words of a key in lower case: "TotEnergy" and "REFenergy" are two each."""
    return re.sub(r"(?<=[a-z])(?=[A-Z])|(?<=[A-Z]{2})(?=[a-z]{3})", "_", key).lower()


def look_alikes(keys: Iterable[str]) -> dict[str, list[str]]:
    """The keys that look like labels, by the quantity that they look like.

    Args:
        keys: of a frame, without those that are read.
    """
    alike: dict[str, list[str]] = {}
    for key in keys:
        quantity = quantity_of(key) or _hinted(key)
        if quantity is not None:
            alike.setdefault("virial" if quantity == "stress" else quantity, []).append(key)
    return alike


def _hinted(key: str) -> str | None:
    hinted = (q.name for q in _KEYED.values() if q.hint and re.search(q.hint, key.lower()))
    return next(hinted, None)


def unread_note(name: str, quantity: str, keys: Sequence[str], keyed: bool = True) -> str:
    """What to tell the user of keys that look like a label and are not read.

    Args:
        name: of the system.
        quantity: that the keys look like.
        keys: of which one may be the label.
        keyed: whether the option `--keys` can name it, as in files that ASE reads.
    """
    if keys[0].endswith(".npy") or not keyed:
        advice = "rename it as docs/data.md says"
    else:
        advice = f"name it: --keys {quantity}={keys[0]} (in an input file keys: {{{quantity}: {keys[0]}}})"
    are = "is" if len(keys) == 1 else "are"
    return f"{name}: {', '.join(keys)} {are} not read. If that is the label {quantity}, {advice}"


def parsed_keys(texts: Iterable[str]) -> dict[str, str]:
    """The option `--keys`, each of whose values is QUANTITY=KEY, as a dictionary.

    Raises:
        InputError: another form, or a quantity that is unknown.
    """
    keys = {}
    for text in texts:
        quantity, equals, key = text.partition("=")
        if not (quantity and equals and key):
            raise InputError(f"--keys {text}: expected QUANTITY=KEY, energy=REF_energy for example")
        keys[quantity] = key
    check_keys(keys, "--keys")
    return keys


def check_keys(keys: Mapping[str, Any], where: str) -> None:
    """Check that the quantities are those that may have a key of their own.

    Raises:
        InputError: one is not.
    """
    for quantity, key in keys.items():
        if quantity not in _KEYED:
            raise InputError(f"{where}: {quantity} is none of {', '.join(_KEYED)}")
        named = quantity_of(str(key))
        if named not in (None, quantity):
            raise InputError(f"{where}: {key} names the {named}; write {named}: {key}, not {quantity}: {key}")
    if {"virial", "stress"} <= set(keys):
        raise InputError(f"{where}: virial and stress are the same label; name the key of one of them")
