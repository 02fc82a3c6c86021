"""Units that a file declares beside its numbers: `energy-unit=hartree` in a header of extended XYZ."""

import math
import re
from collections.abc import Collection, Iterable, Mapping
from functools import cache
from itertools import chain
from typing import Any

from dpax.data.label_keys import SPELLINGS, quantity_of
from dpax.data.quantities import LABELS, STRESS
from dpax.errors import InputError

_POWERS = {"²": "**2", "³": "**3"}


def _expressions(unit: str) -> tuple[str, str]:
    """A unit of dpax as pint writes it, and the corresponding atomic unit."""
    for power, written in _POWERS.items():
        unit = unit.replace(power, written)
    unit = unit.replace("Å", "angstrom")
    return unit, unit.replace("eV", "hartree").replace("angstrom", "bohr")


_UNITS = {"length": _expressions("Å")} | {
    quantity.name: _expressions(quantity.unit) for quantity in (*LABELS.values(), STRESS) if quantity.unit
}
"""dpax's unit and the atomic unit of each quantity whose unit may be declared."""
_ATOMIC = ("au", "a.u.", "atomic")
_OF_DPAX = ("metal", "ase", "ev")
"""Values of a bare `units=` that mean eV and Å."""
_SPELLINGS = {
    "ev": "eV",
    "ha": "hartree",
    "eh": "hartree",
    "hartree": "hartree",
    "ry": "rydberg",
    "rydberg": "rydberg",
    "a": "angstrom",
    "å": "angstrom",
    "ang": "angstrom",
    "angs": "angstrom",
    "angstrom": "angstrom",
    "bohr": "bohr",
    "a0": "bohr",
    "au": "bohr",
    "gpa": "gigapascal",
    "kb": "kilobar",
    "kbar": "kilobar",
}
"""Spellings that pint does not know or takes for something else, in upper or lower case: "A" is its
ampere, and "au" its astronomical unit."""
_PER_MOLE = ("kJ", "kilojoule", "kcal", "kilocalorie", "cal", "calorie")
_WORDS = (
    *("eV", "meV", "keV", "hartree", "rydberg", "J", "joule", *_PER_MOLE, "mol", "mole"),
    *("angstrom", "bohr", "nm", "nanometer", "pm", "picometer", "m", "meter"),
    *("gigapascal", "megapascal", "MPa", "Pa", "pascal", "kilobar", "bar", "atm"),
)
"""The units that may occur in a declared one; pint knows thousands more, furlongs and percent among them."""
_LENGTH_WORDS = (
    *("pos", "position", "positions", "coord", "coords", "coordinate", "coordinates"),
    *("length", "lengths", "distance", "distances", "cell", "lattice"),
)
_GENERAL = {*_LENGTH_WORDS, *chain(*SPELLINGS.values())}
"""Names of quantities rather than of a label: `energy_unit` counts for REF_energy too."""
_HINT = re.compile(
    r"(energ|forc|stress|virial|press).*unit|unit.*(energ|forc|stress|virial|press)", re.IGNORECASE
)
"""Of keys that look like the unit of a label."""
_KEY = re.compile(r"(?P<before>.*?)[-_ :.]?units?|units?[-_ :.]?(?:of[-_ ])?(?P<after>.+)", re.IGNORECASE)


def unit_keys(names: Iterable[Any], quantity: str | None = None) -> list[str]:
    """Those of the keys of a header that declare a unit, of one quantity if it is given."""
    keys = [key for key in names if isinstance(key, str) and _KEY.fullmatch(key)]
    return keys if quantity is None else [key for key in keys if _quantity(key) == quantity]


def unit_of(key: str) -> str:
    """What a key declares the unit of, as spelled there: "REF_energy" in "REF_energy_unit"."""
    match = _KEY.fullmatch(key)
    assert match is not None
    return (match["before"] or match["after"] or "").strip("-_ ")


def declared_factors(
    info: Mapping[str, Any],
    source: str,
    read: Mapping[str, Collection[str]] = SPELLINGS,
    present: Collection[str] = (),
) -> dict[str, float]:
    """What each quantity has to be multiplied by to be in dpax's units (eV, Å and their products).

    The unit of a key that is read comes first (`REF_energy_unit`), then that of the quantity (`energy_unit`);
    the unit of another key that is there plays no part. A virial and atomic energies share the unit of the
    energy unless they have one of their own.

    Args:
        info: the header of a frame.
        source: for messages.
        read: the keys under which each label is read.
        present: the keys of the frame.

    Returns:
        A factor for each quantity whose unit is declared: `length`, `energy`, `forces`, `virial`, `stress`, …

    Raises:
        InputError: a unit that is not known, that is not one of its quantity, or that contradicts another.
    """
    _check_understood(info, source, present)
    own: dict[str, float] = {}
    general: dict[str, float] = {}
    for key in unit_keys(info):
        name, declared = unit_of(key), f"{source}: {key}={info[key]}"
        named = next((quantity for quantity, keys in read.items() if name in keys), None)
        quantity = named or _quantity(key)
        if quantity == "":
            _check_whole(str(info[key]), declared)
        elif quantity in _UNITS and (named or name not in present or name in _GENERAL):
            unit = general if named is None else own
            factor = _factor(str(info[key]), quantity, declared)
            if not math.isclose(unit.setdefault(quantity, factor), factor):
                raise InputError(
                    f"{declared} contradicts another unit of {quantity} in the header; remove one"
                )
    factors = general | own
    if "energy" in factors:
        factors = factors | {
            name: factors.get(name, factors["energy"]) for name in ("atom_energies", "virial")
        }
    return factors


def _check_understood(info: Mapping[str, Any], source: str, present: Collection[str]) -> None:
    """Check that nothing that looks like the unit of a label is passed over."""
    for key, value in info.items():
        if not (isinstance(key, str) and isinstance(value, str) and _HINT.search(key)):
            continue
        if not unit_keys((key,)) or (_quantity(key) is None and unit_of(key) not in present):
            raise InputError(
                f"{source}: {key}={value} looks like a unit and is not understood; write energy_unit, "
                "force_unit, stress_unit and so on, or remove it"
            )


def check_complete(factors: Mapping[str, float], labels: Iterable[str], source: str) -> None:
    """Check that no label lacks a unit where another one has a unit that is not dpax's.

    Raises:
        InputError: one does, so that nobody can tell whether its numbers are in eV and Å.
    """
    foreign = [name for name, factor in factors.items() if factor != 1.0 and name != "length"]
    silent = [name for name in labels if name in _UNITS and name not in factors]
    if foreign and silent:
        raise InputError(
            f"{source}: the header declares a unit of {foreign[0]}, but none of {silent[0]}; add "
            f"{silent[0]}_unit to the header, or convert the file to eV and Å"
        )


def _quantity(key: str) -> str | None:
    """What a key declares the unit of; "" if it does not say; None for what dpax does not read."""
    name = unit_of(key)
    if not name:
        return ""
    if name.lower() == "cell" and key.lower().startswith("unit"):  # unit_cell=conventional
        return None
    return "length" if name.lower() in _LENGTH_WORDS else quantity_of(name)


def _check_whole(value: str, declared: str) -> None:
    if value.strip().lower() not in _OF_DPAX:
        raise InputError(
            f"{declared} does not name the quantity whose unit it is; write energy_unit, force_unit and "
            "so on, or convert the file to eV and Å and remove it"
        )


def _factor(text: str, quantity: str, declared: str) -> float:
    unit, atomic = _UNITS[quantity]
    expression = atomic if text.strip().lower() in _ATOMIC else text
    try:
        return _in_units(expression, unit)
    except Exception:  # pint's parser raises many kinds of exception
        raise InputError(
            f"{declared} is no unit of {quantity} that dpax knows; expected for example {unit} or {atomic}. "
            "Correct it, or convert the file to eV and Å and remove it"
        ) from None


@cache
def _in_units(expression: str, unit: str) -> float:
    registry = _registry()
    known = re.sub(r"[^\W\d_]\w*", lambda word: _SPELLINGS.get(word[0].lower(), word[0]), expression)
    words = set(re.findall(r"[^\W\d_]\w*", known))
    if not words <= {*_WORDS} or (words & {*_PER_MOLE} and not words & {"mol", "mole"}):
        raise ValueError(expression)
    value = registry.Quantity(1.0, known)
    if "[substance]" in value.dimensionality:
        value = value / registry.Quantity(1.0, "avogadro_constant")
    return 1.0 if value.units == registry.Unit(unit) else float(value.to(unit).magnitude)


@cache
def _registry() -> Any:
    """The units of pint, which take a while to load and are needed by few files."""
    import pint

    return pint.UnitRegistry()
