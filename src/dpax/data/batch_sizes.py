"""How many frames of each system make a batch: DeePMD-kit's rules."""

from collections.abc import Sequence

from dpax.data.frame import System
from dpax.data.selection import selected
from dpax.errors import InputError

DEFAULT_ATOMS = 32
"""The N of a bare "auto"."""
RULES = '"auto", "auto:N", "max:N", "filter:N", "mixed:N", a number of frames, or one number for each system'


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
        InputError: another rule, a number below 1, or a list of another length.
    """
    if isinstance(rule, str):
        kind, number = _parse(rule)
        return [_size(kind, number, largest_frame(system)) for system in systems]
    sizes = [rule] * len(systems) if isinstance(rule, int) else list(rule)
    if len(sizes) != len(systems):
        raise InputError(
            f"batch_size lists {len(sizes)} numbers for {len(systems)} systems; give one for each system, or "
            f"one for all: {RULES}"
        )
    if any(size < 1 for size in sizes):
        raise InputError(f"batch_size is {rule}, expected numbers of at least 1")
    return sizes


def filter_systems(systems: Sequence[System], rule: int | Sequence[int] | str) -> list[System]:
    """The systems that the rule keeps: with "filter:N" without their frames of more than N atoms.

    Systems of which nothing is left are left out. Frames of one folder in DeePMD-kit's layout go or stay
    together, since all count with the length of type.raw.

    Raises:
        InputError: another rule than `batch_sizes` knows, or no system is left.
    """
    if not isinstance(rule, str):
        return list(systems)
    kind, number = _parse(rule)
    if kind != "filter":
        return list(systems)
    atoms = [[system.n_atoms(index) for index in range(len(system))] for system in systems]
    small = [[n <= number for n in sizes] for sizes in atoms]
    kept = [found for found in map(selected, systems, small) if found is not None]
    if not kept:
        raise InputError(
            f'batch_size "{rule}" leaves out all {len(systems)} systems: the smallest frame has '
            f"{min(map(min, atoms))} atoms; choose a larger number"
        )
    return kept


def is_mixed(rule: int | Sequence[int] | str) -> bool:
    """Whether the frames of a batch are drawn from all systems."""
    return isinstance(rule, str) and _parse(rule)[0] == "mixed"


def largest_frame(system: System) -> int:
    """The number of atoms of the largest frame, virtual atoms included."""
    return max(system.n_atoms(index) for index in range(len(system)))


def _parse(rule: str) -> tuple[str, int]:
    kind, colon, number = rule.partition(":")
    if rule == "auto":
        return kind, DEFAULT_ATOMS
    if colon and kind in ("auto", "max", "filter", "mixed") and number.isdecimal() and int(number) > 0:
        return kind, int(number)
    raise InputError(f'batch_size is "{rule}", expected {RULES}')


def _size(kind: str, number: int, atoms: int) -> int:
    if kind == "auto":
        return -(-number // atoms)
    if kind == "mixed":
        return number
    return max(1, number // atoms)
