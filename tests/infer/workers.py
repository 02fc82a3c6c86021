"""What worker processes of the tests do; a spawned one imports no more than this."""

import ase

import dpax.computing


def energy(atoms: ase.Atoms) -> float:
    """The energy that the atoms' calculator gives."""
    return atoms.get_potential_energy()


def describe(atoms: ase.Atoms) -> tuple[float, bool, int]:
    """The energy, whether unpickling had started JAX, and the programs compiled so far."""
    first = "model" not in vars(atoms.calc.potential)
    started = first and dpax.computing._jax_has_started()
    found = atoms.get_potential_energy()
    return found, started, atoms.calc.potential.computation.program._cache_size()
