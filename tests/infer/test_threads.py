"""One potential in several threads: the results of one thread, and nobody waits for another's arithmetic."""

import threading
import time

import numpy as np
import pytest

from dpax import Calculator, Potential
from dpax.data import CapacityPlanner
from dpax.geometry import skin
from dpax.geometry.neighborhoods import Capacity
from dpax.geometry.skin import SkinLists
from dpax.infer import SubdomainPotential
from dpax.model.energy_model import EnergyModel
from infer.support import OPTIONS, compilations, in_threads, walk, water
from model.support import tiny_model


@pytest.fixture(scope="module")
def potential() -> Potential:
    return Potential(tiny_model(**OPTIONS))


@pytest.fixture
def unlucky(monkeypatch):
    """Threads change where the bookkeeping can least bear it."""

    def slowed(function):
        def slow(*args):
            result = function(*args)
            time.sleep(1e-4)
            return result

        return slow

    monkeypatch.setattr(SkinLists, "_needed", slowed(SkinLists._needed))
    monkeypatch.setattr(SkinLists, "_search", slowed(SkinLists._search))
    monkeypatch.setattr(CapacityPlanner, "_rounded", slowed(CapacityPlanner._rounded))


def count_wrong(potential: Potential, walks: list, reference: Potential) -> int:
    """Evaluations in threads, one for each walk, that differ from those of one thread; none may fail."""
    expected = [[reference.evaluate(structure) for structure in structures] for structures in walks]
    wrong = []

    def follow(number: int) -> None:
        for structure, right in zip(walks[number], expected[number], strict=True):
            found = potential.evaluate(structure)
            off = [abs(found.energy - right.energy), np.abs(found.forces - right.forces).max()]
            wrong.extend(error for error in off if error > 1e-10)

    assert in_threads(follow, range(len(walks))) == []
    return len(wrong)


def test_moving_structures(unlucky, potential):
    """Sizes differ between threads, so that the arrays' sizes are chosen in all of them."""
    walks = [walk(seed, 12, n) for seed, n in enumerate((24, 24, 12, 24))]
    assert count_wrong(Potential(potential.model), walks, potential) == 0


@pytest.mark.slow
@pytest.mark.timeout(7200)
def test_eight_threads_and_a_thousand_evaluations_in_each(potential):
    started = time.perf_counter()
    walks = [walk(seed, 1000, n) for seed, n in enumerate((24, 24, 12, 24, 18, 24, 12, 24))]
    shared = Potential(potential.model)
    with compilations() as compiled:
        wrong = count_wrong(shared, walks, potential)
    sizes = len(shared.capacities["capacities"])
    print(
        f"\n8 threads x 1,000 evaluations: {wrong} wrong, 0 exceptions, {sizes} array sizes, "
        f"{len(compiled)} compilations, {time.perf_counter() - started:.0f} s"
    )
    assert wrong == 0


def test_the_first_use_prepares_and_compiles_once(potential, monkeypatch):
    prepared, weights = [], EnergyModel.evaluation_weights
    monkeypatch.setattr(EnergyModel, "evaluation_weights", lambda m: prepared.append(1) or weights(m))
    fresh = Potential(potential.model)
    assert in_threads(fresh.evaluate, [water(seed) for seed in range(6)]) == []
    assert len(prepared) == 1
    assert fresh.computation.program._cache_size() == len(fresh.capacities["capacities"])


def test_arithmetic_and_searches_are_not_in_turn(potential, monkeypatch):
    """Two threads meet inside each; where one waited for the other, neither would come."""
    fresh = Potential(potential.model)
    fresh.evaluate(water())
    meet = threading.Barrier(2, timeout=60)

    def meeting(function):
        return lambda *args: (meet.wait(), function(*args))[1]

    vars(fresh.computation)["program"] = meeting(fresh.computation.program)
    monkeypatch.setattr("dpax.geometry.skin.find_pairs", meeting(skin.find_pairs))
    assert in_threads(fresh.evaluate, [water(1), water(2)]) == []


def test_array_sizes_are_chosen_by_one_thread_at_a_time(potential, monkeypatch):
    inside, overlaps, fit = [], [], CapacityPlanner.fit

    def watched(*args):
        overlaps.extend(inside)
        inside.append(1)
        time.sleep(1e-3)
        inside.pop()
        return fit(*args)

    monkeypatch.setattr(CapacityPlanner, "fit", watched)
    assert in_threads(potential.evaluate, [water(seed) for seed in range(5)]) == []
    assert not overlaps


def test_parts_of_any_size_get_arrays_that_hold_them(potential, monkeypatch):
    """A part that is too small for the arrays of now exchanges them, while a large part needs them."""
    subdomain, wrong = SubdomainPotential(potential), []
    monkeypatch.setattr("dpax.infer.subdomain.cost", lambda c: (time.sleep(1e-4), c.atoms)[1])

    def choose(atoms: int) -> None:
        wrong.extend(c for _ in range(50) if (c := subdomain._fitting(atoms, 16)).atoms < atoms)

    assert in_threads(choose, [10, 4000, 100, 1000]) == []
    assert not wrong
    assert isinstance(subdomain._capacity, Capacity)


def test_a_shared_calculator_does_not_mix_results(potential, monkeypatch):
    evaluate = potential.evaluate
    structures = [water(seed) for seed in range(4)]
    expected = [evaluate(structure) for structure in structures]
    monkeypatch.setattr(potential, "evaluate", lambda *a, **k: (evaluate(*a, **k), time.sleep(1e-3))[0])
    calculator = Calculator(potential)

    def ask(number: int) -> None:
        atoms = structures[number].copy()
        atoms.calc = calculator
        for _ in range(10):
            assert atoms.get_potential_energy() == pytest.approx(expected[number].energy, abs=1e-10)
            np.testing.assert_allclose(atoms.get_forces(), expected[number].forces, atol=1e-10)
            np.testing.assert_allclose(atoms.get_stress(), expected[number].stress, atol=1e-10)

    assert in_threads(ask, range(4)) == []
