"""What was measured, as tables in Markdown."""

import math
from collections.abc import Iterator, Sequence

from comparisons import AIMS, GEMM, Aim
from measured import Measured

AIM_HEAD = """| what | dpax | peer | ratio | bar | goal |
| --- | ---: | ---: | ---: | ---: | ---: |"""
DETAIL_HEAD = """| what | program | median / ms | quartiles | µs / atom | ÷ first | GFLOP/s | of the product |
| --- | --- | ---: | ---: | ---: | ---: | ---: | ---: |"""


def aims(measured: Sequence[Measured], others: Sequence[Sequence[str]], bars: bool) -> str:
    """One row for each number that may have a bar, as far as it was measured.

    Args:
        measured: comparisons.
        others: cells of rows that do not come from comparisons.
        bars: whether bars and goals are shown, which are those of a CPU.
    """
    by_name = {one.comparison.name: one for one in measured}
    rows = [_aim(aim, by_name[aim.comparison]) for aim in AIMS if aim.comparison in by_name]
    table = [*filter(None, rows), *others]
    if not bars:
        table = [[*cells[:-2], "–", "–"] for cells in table]
    return "\n".join([AIM_HEAD, *(f"| {' | '.join(cells)} |" for cells in table)])


def _aim(aim: Aim, one: Measured) -> list[str] | None:
    if aim.peer in one.unavailable:
        return [aim.what, f"{milliseconds(one.median(aim.own))} ms", "not available", "–", aim.bar, aim.goal]
    if aim.own not in one.turns or aim.peer not in one.turns:
        return None
    own, peer = (f"{milliseconds(one.median(name))} ms" for name in (aim.own, aim.peer))
    ratio = one.ratio(aim.own, aim.peer)
    if aim.kind == "roofline":
        rates, fraction = (one.rate(aim.own), one.rate(aim.peer)), one.fraction(aim.own)
        if fraction is None:
            return None
        own, peer, ratio = (*(f"{rate or 0:.0f} GFLOP/s" for rate in rates), fraction)
    elif aim.kind == "per atom":
        own, peer = (f"{per_atom(one, name)} µs" for name in (aim.own, aim.peer))
        ratio = one.atoms(aim.peer) / (one.atoms(aim.own) * ratio)
    elif "molecules" in aim.comparison:
        own, peer = (f"{frames(one, name):.0f} frames/s" for name in (aim.own, aim.peer))
    return [aim.what, own, peer, f"{ratio:.2f}", aim.bar, aim.goal]


def milliseconds(seconds: float) -> str:
    """A time, on a GPU as on a CPU, to four digits."""
    return to_digits(1e3 * seconds, 4)


def to_digits(number: float, digits: int) -> str:
    """A positive number with so many significant digits, and those before the decimal point in any case."""
    places = digits - 1 - math.floor(math.log10(number))
    return f"{number:.{max(0, places)}f}"


def per_atom(one: Measured, name: str) -> str:
    """Median time of an atom, µs."""
    return to_digits(1e6 * one.median(name) / one.atoms(name), 3)


def frames(one: Measured, name: str) -> float:
    """Frames in a second."""
    return one.frames(name) / one.median(name)


def details(measured: Sequence[Measured]) -> str:
    """One row for each entry."""
    return "\n".join([DETAIL_HEAD, *(row for one in measured for row in _entries(one))])


def _entries(one: Measured) -> Iterator[str]:
    reference = one.comparison.entries[0].name
    for entry in one.comparison.entries:
        if entry.name in one.unavailable:
            why = one.unavailable[entry.name]
            yield f"| {one.comparison.what} | {entry.name}: {why} | – | – | – | – | – | – |"
        elif entry.name in one.turns:
            of_atoms = entry.side != GEMM
            numbers = (
                milliseconds(one.median(entry.name)),
                " to ".join(map(milliseconds, one.quartiles(entry.name))),
                per_atom(one, entry.name) if of_atoms else "–",
                f"{one.ratio(reference, entry.name):.2f}" if of_atoms else "–",
                _or_dash(one.rate(entry.name), 1),
                _or_dash(one.fraction(entry.name), 2),
            )
            yield f"| {one.comparison.what} | {entry.name} | {' | '.join(numbers)} |"


def _or_dash(number: float | None, digits: int) -> str:
    return "–" if number is None else f"{number:.{digits}f}"
