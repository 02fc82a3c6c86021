"""What was measured, as tables in Markdown."""

from collections.abc import Iterator, Sequence
from statistics import median
from typing import Any

from comparisons import AIMS, GEMM, Aim
from measured import Measured

AIM_HEAD = """| what | dpax | peer | ratio | bar | goal |
| --- | ---: | ---: | ---: | ---: | ---: |"""
DETAIL_HEAD = """| what | program | median / s | µs / atom | time ÷ first row's | GFLOP/s | of the product |
| --- | --- | ---: | ---: | ---: | ---: | ---: |"""


def aims(measured: Sequence[Measured], others: Sequence[Sequence[str]] = ()) -> str:
    """One row for each number that has a bar, as far as it was measured.

    Args:
        measured: comparisons.
        others: cells of rows that do not come from comparisons.
    """
    by_name = {one.comparison.name: one for one in measured}
    rows = [_aim(aim, by_name[aim.comparison]) for aim in AIMS if aim.comparison in by_name]
    return "\n".join([AIM_HEAD, *(f"| {' | '.join(cells)} |" for cells in [*filter(None, rows), *others])])


def _aim(aim: Aim, one: Measured) -> list[str] | None:
    if aim.peer in one.unavailable:
        return [aim.what, seconds(one, aim.own), "not available", "–", aim.bar, aim.goal]
    if aim.own not in one.seconds or aim.peer not in one.seconds:
        return None
    own, peer, ratio = seconds(one, aim.own), seconds(one, aim.peer), one.ratio(aim.own, aim.peer)
    if aim.kind == "roofline":
        rates, fraction = (one.rate(aim.own), one.rate(aim.peer)), one.fraction(aim.own)
        if fraction is None:
            return None
        own, peer, ratio = (*(f"{rate or 0:.0f} GFLOP/s" for rate in rates), fraction)
    elif aim.kind == "per atom":
        own, peer = (f"{per_atom(one, name):.0f} µs" for name in (aim.own, aim.peer))
        ratio = one.atoms(aim.peer) / (one.atoms(aim.own) * ratio)
    elif "molecules" in aim.comparison:
        own, peer = (f"{frames(one, name):.0f} frames/s" for name in (aim.own, aim.peer))
    return [aim.what, own, peer, f"{ratio:.2f}", aim.bar, aim.goal]


def seconds(one: Measured, name: str) -> str:
    """The median time."""
    return f"{median(one.seconds[name]):.3f} s"


def per_atom(one: Measured, name: str) -> float:
    """Median time of an atom, µs."""
    return 1e6 * median(one.seconds[name]) / one.atoms(name)


def frames(one: Measured, name: str) -> float:
    """Frames in a second."""
    return one.frames(name) / median(one.seconds[name])


def details(measured: Sequence[Measured]) -> str:
    """One row for each entry."""
    return "\n".join([DETAIL_HEAD, *(row for one in measured for row in _entries(one))])


def _entries(one: Measured) -> Iterator[str]:
    reference = one.comparison.entries[0].name
    for entry in one.comparison.entries:
        if entry.name in one.unavailable:
            why = one.unavailable[entry.name]
            yield f"| {one.comparison.what} | {entry.name}: {why} | – | – | – | – | – |"
        elif entry.side != GEMM and entry.name in one.seconds:
            numbers = (
                f"{median(one.seconds[entry.name]):.3f}",
                f"{per_atom(one, entry.name):.0f}",
                f"{one.ratio(reference, entry.name):.2f}",
                _or_dash(one.rate(entry.name), 1),
                _or_dash(one.fraction(entry.name), 2),
            )
            yield f"| {one.comparison.what} | {entry.name} | {' | '.join(numbers)} |"


def _or_dash(number: float | None, digits: int) -> str:
    return "–" if number is None else f"{number:.{digits}f}"


def versions(measured: Sequence[Measured]) -> str:
    """The packages that took part."""
    found: dict[str, Any] = {}
    for one in measured:
        for entry in one.comparison.entries:
            found |= {f"{k} {v}": None for k, v in one.ready.get(entry.name, {}).get("versions", {}).items()}
    return ", ".join(sorted(found))
