"""Array sizes for batches: few distinct ones, since each costs a compilation, and little padding."""

from collections import Counter
from collections.abc import Sequence
from itertools import pairwise
from typing import Any

from dpax.geometry.neighborhoods import SLOT_MULTIPLE, Capacity

WASTE = 1.3
"""A known size is reused when it costs at most this times the exact one: a compilation takes as long as
thousands of steps, so 30 % is the better bargain for any that is not used very often."""
GAIN = 1.15
"""Of two sets of sizes that differ in cost by less than this, the smaller set is taken."""


def cost(capacity: Capacity) -> float:
    """The relative cost of a step: between linear (embedding) and quadratic (attention) in the slots."""
    return capacity.atoms * capacity.slots**1.5


class CapacityPlanner:
    """Chooses array sizes for batches so that few programs are compiled.

    Without foreknowledge the first need is met exactly and later ones with some room, which keeps a
    simulation whose neighbour counts drift from compiling again and again. `prime` chooses the sizes
    from a sample of needs instead. The last two programs are kept for needs beyond all known sizes,
    and grow in large strides, so that data of any mixture end with about `programs`.

    Not to be shared between threads.

    Args:
        atom_multiple: atoms are rounded up to it: the atoms of a block times the number of devices.
        programs: how many sizes to aim for.
    """

    def __init__(self, atom_multiple: int = 8, programs: int = 6):
        self.atom_multiple = atom_multiple
        self.programs = programs
        self._known: list[Capacity] = []

    def fit(self, atoms: int, slots: int) -> Capacity:
        """A capacity that holds this many atoms with this many slots each."""
        exact = self._rounded(atoms, slots)
        best = min((c for c in self._known if _holds(c, exact)), key=cost, default=None)
        if best is not None:
            enough = cost(best) <= WASTE * cost(exact) or len(self._known) >= self.programs - 2
            if enough or cost(best) <= WASTE * cost(self._roomy(exact)):
                return best
        new = self._roomy(exact) if best is not None else self._beyond(exact)
        self._known.append(new)
        return new

    def prime(self, needs: Sequence[Capacity]) -> None:
        """Choose the sizes for batches from a sample; earlier sizes are forgotten.

        The needs are put in the order of their cost and cut into at most `programs` - 2 runs, each
        served by one size (at least one run), so that the total cost is least.
        """
        counts = Counter(self._rounded(*need) for need in needs)
        self._known = _fewest(sorted(counts, key=cost), counts, max(self.programs - 2, 1))

    @property
    def primed(self) -> bool:
        """Whether any size is known."""
        return bool(self._known)

    def state(self) -> dict[str, Any]:
        """The known sizes, as integers that JSON can hold: a resumed run pads as the first one did."""
        return {"capacities": [list(capacity) for capacity in self._known]}

    def restore(self, state: dict[str, Any]) -> None:
        """Continue from a `state`, perhaps with another number of devices."""
        self._known = list(dict.fromkeys(self._rounded(*sizes) for sizes in state["capacities"]))

    def _rounded(self, atoms: float, slots: float) -> Capacity:
        return Capacity(_up(max(atoms, 1), self.atom_multiple), _up(slots, SLOT_MULTIPLE))

    def _roomy(self, exact: Capacity) -> Capacity:
        """Atoms of a known size or as they are; slots of a known size or an eighth more."""
        atoms = [c.atoms for c in self._known if exact.atoms <= c.atoms <= 1.25 * exact.atoms]
        slots = [c.slots for c in self._known if exact.slots <= c.slots <= 1.125 * exact.slots]
        return self._rounded(max(atoms, default=exact.atoms), max(slots, default=1.125 * exact.slots))

    def _beyond(self, exact: Capacity) -> Capacity:
        """A new size for a need that no known size holds; with more room as fewer programs are left."""
        if not self._known:
            return exact
        left = self.programs - len(self._known)
        if left > self.programs // 2:
            return self._roomy(exact)
        most_atoms, most_slots = (max(sizes) for sizes in zip(*self._known, strict=True))
        stride = 1.25 if left > 1 else 1.5
        atoms = max(most_atoms, stride * exact.atoms) if exact.atoms > most_atoms else most_atoms
        slots = max(most_slots, stride * exact.slots) if exact.slots > most_slots else most_slots
        return self._rounded(atoms, slots)


def _holds(capacity: Capacity, need: Capacity) -> bool:
    return capacity.atoms >= need.atoms and capacity.slots >= need.slots


def _up(number: float, multiple: int) -> int:
    return int(-(-number // multiple)) * multiple


def _envelope(needs: Sequence[Capacity]) -> Capacity:
    return Capacity(max(n.atoms for n in needs), max(n.slots for n in needs))


def _fewest(needs: Sequence[Capacity], counts: Counter[Capacity], limit: int) -> list[Capacity]:
    """The fewest envelopes of runs of `needs` whose total cost is near that of the best `limit` ones."""
    if not needs:
        return []
    n = len(needs)
    price = {
        (i, j): cost(_envelope(needs[i:j])) * sum(counts[need] for need in needs[i:j])
        for i in range(n)
        for j in range(i + 1, n + 1)
    }
    # cuts[j]: the least cost of serving the first j needs with so many runs, and where the runs end.
    cuts = [(0.0, [0])] + [(float("inf"), [0])] * n
    solutions = []
    for _ in range(limit):
        cuts = [cuts[0]] + [
            min((cuts[i][0] + price[i, j], [*cuts[i][1], j]) for i in range(j)) for j in range(1, n + 1)
        ]
        solutions.append(cuts[n])
    least = min(total for total, _ in solutions)
    ends = next(ends for total, ends in solutions if total <= GAIN * least)
    return list(dict.fromkeys(_envelope(needs[i:j]) for i, j in pairwise(ends)))
