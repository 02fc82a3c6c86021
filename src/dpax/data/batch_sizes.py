"""How many frames of each system make a batch: DeePMD-kit's rules."""

from collections.abc import Sequence
from typing import Any

from dpax.data.frame import System
from dpax.data.selection import selected
from dpax.errors import InputError

DEFAULT_ATOMS = 32
"""The N of a bare "auto"."""
_KINDS = ("auto", "max", "filter", "mixed")
RULES = (
    'a number of frames, a list with one number for each system, "auto", "auto:N", "max:N", "filter:N" or '
    '"mixed:N"'
)


def checked_rule(rule: Any) -> int | tuple[int, ...] | str:
    """A rule as written in an input file; a list becomes a tuple.

    Raises:
        InputError: it is not one of `RULES`.
    """
    if isinstance(rule, str):
        kind, _, number = rule.partition(":")
        if rule == "auto" or (kind in _KINDS and number.isdecimal() and int(number) > 0):
            return rule
    elif type(rule) is int and rule > 0:
        return rule
    elif isinstance(rule, Sequence) and rule and all(type(size) is int and size > 0 for size in rule):
        return tuple(rule)
    raise InputError(f"batch_size should be {RULES}; got {rule!r}")


def batch_sizes(systems: Sequence[System], rule: int | Sequence[int] | str) -> list[int]:
    """The number of frames in a batch of each system.

    A system whose frames differ in size counts with its largest frame. Unless they are mixed, a batch is of
    one system; a system with fewer frames than its batch size gives batches of all its frames.

    Args:
        systems: the data.
        rule: a number; one for each system; "auto:N", the smallest number with at least N atoms in the
            batch ("auto" is "auto:32"); "max:N", the largest with at most N atoms, but at least one frame;
            "filter:N", the same, for the systems that `filter_systems` leaves; "mixed:N", N frames, which
            are drawn from all systems together (DeePMD-kit pads them to one size, which is not needed here).

    Raises:
        InputError: another rule, or a list of another length.
    """
    rule = checked_rule(rule)
    if isinstance(rule, str):
        kind, number = _parse(rule)
        return [_size(kind, number, largest_frame(system)) for system in systems]
    sizes = [rule] * len(systems) if isinstance(rule, int) else list(rule)
    if len(sizes) != len(systems):
        raise InputError(
            f"batch_size lists {len(sizes)} numbers for {len(systems)} systems; give one for each system, or "
            f"one for all: {RULES}"
        )
    return sizes


def filter_systems(systems: Sequence[System], rule: int | Sequence[int] | str) -> list[System]:
    """The systems that the rule keeps: with "filter:N" without frames of more than N atoms. Empty

    systems are left out. Frames of one folder in DeePMD-kit's layout go or stay
    together, since all count with the length of type.raw.

    Raises:
        InputError: another rule, or no system is left.
    """
    rule = checked_rule(rule)
    if not isinstance(rule, str):
        return list(systems)
    kind, number = _parse(rule)
    if kind != "filter":
        return list(systems)
    atoms = [[system.n_atoms(index) for index in range(len(system))] for system in systems]
    small = [[n <= number for n in sizes] for sizes in atoms]
    selections = [selection for selection in map(selected, systems, small) if selection is not None]
    if not selections:
        raise InputError(
            f'batch_size "{rule}" leaves out all {len(systems)} systems: the smallest frame has '
            f"{min(map(min, atoms))} atoms; choose a larger number"
        )
    return selections


def is_mixed(rule: int | Sequence[int] | str) -> bool:
    """Whether the frames of a batch are drawn from all systems."""
    return isinstance(rule, str) and _parse(rule)[0] == "mixed"


def largest_frame(system: System) -> int:
    """The number of atoms of the largest frame, virtual atoms included."""
    return max(system.n_atoms(index) for index in range(len(system)))


def _parse(rule: str) -> tuple[str, int]:
    kind, _, number = rule.partition(":")
    return kind, int(number) if number else DEFAULT_ATOMS


def _size(kind: str, number: int, atoms: int) -> int:
    if kind == "auto":
        return -(-number // atoms)
    if kind == "mixed":
        return number
    return max(1, number // atoms)
