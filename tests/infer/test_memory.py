"""However many structures of however many sizes are evaluated, memory and programs stay bounded."""

import gc
import os
import weakref

import ase
import numpy as np
import pytest

from dpax import Potential
from dpax.geometry.neighborhoods import Capacity
from dpax.infer.computation import _HESSIANS
from dpax.infer.preparation import _PROGRAMS
from infer.support import OPTIONS, compilations
from model.support import tiny_model


def resident_memory() -> float:
    """MB."""
    with open("/proc/self/statm", encoding="ascii") as file:
        return int(file.read().split()[1]) * os.sysconf("SC_PAGE_SIZE") / 2**20


def any_structure(rng: np.random.Generator) -> ase.Atoms:
    """1 to 300 atoms, of any density, periodic or not."""
    n, spacing = int(rng.integers(1, 300)), rng.uniform(2.3, 4.0)
    side = int(np.ceil(np.cbrt(n)))
    sites = np.array(np.meshgrid(*[np.arange(side)] * 3)).reshape(3, -1).T[:n] * spacing
    positions = sites + rng.uniform(-0.2, 0.2, sites.shape)
    return ase.Atoms(
        rng.choice(["O", "H"], n), positions, cell=[side * spacing] * 3, pbc=bool(rng.integers(2))
    )


@pytest.mark.slow
@pytest.mark.timeout(7200)
@pytest.mark.skipif(not os.path.exists("/proc/self/statm"), reason="no /proc on this system")
def test_a_thousand_structures_of_any_size():
    potential, rng = Potential(tiny_model(rcut=3.5, attn_layer=0, neuron=[4, 8])), np.random.default_rng(0)
    memory = {}
    with compilations() as compiled:
        for call in range(1, 1001):
            potential.evaluate(any_structure(rng))
            if call % 100 == 0:
                memory[call] = (round(resident_memory()), len(compiled))
    sizes = len(potential.capacities["capacities"])
    print(f"\n{sizes} array sizes; after so many calls (MB, compilations): {memory}")
    assert memory[1000][0] - memory[100][0] < 50
    assert sizes <= _PROGRAMS
    assert len(compiled) <= 2 * sizes + 10  # energies and forces of each size; the model's weights


def test_programs_of_hessians_do_not_pile_up():
    potential = Potential(tiny_model(**OPTIONS))
    programs = [
        weakref.ref(potential.computation._hessian_for(Capacity(n, 16))) for n in range(_HESSIANS + 3)
    ]
    gc.collect()
    alive = [n for n, program in enumerate(programs) if program() is not None]
    assert alive == list(range(3, _HESSIANS + 3))
    latest = Capacity(_HESSIANS + 2, 16)
    assert potential.computation._hessian_for(latest) is programs[-1]()
