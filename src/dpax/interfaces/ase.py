"""The potential as an ASE calculator."""

import os
from collections.abc import Sequence
from typing import Any, ClassVar

import ase
import numpy as np
from ase.calculators.calculator import Calculator as AseCalculator
from ase.calculators.calculator import all_changes

from dpax.infer import Potential
from dpax.interfaces.model_files import load


class Calculator(AseCalculator):
    """ASE calculator of a DPA-1 potential.

    Energies in eV, forces in eV/Å, stresses in eV/Å³ (structures periodic in all directions only). Positions,
    cell, periodicity and species may change between calls.

    Args:
        model: a model file of any kind that `dpax.load` reads, or a loaded potential.
        **kwargs: handed to ASE's base class (`label`, `directory`, …).

    Raises:
        InputError: not a model file; when evaluated, an element that the potential does not know.
    """

    implemented_properties: ClassVar[list[str]] = [
        "energy",
        "free_energy",
        "forces",
        "stress",
        "energies",
        "stresses",
    ]

    def __init__(self, model: str | os.PathLike | Potential, **kwargs: Any):
        super().__init__(**kwargs)
        self.potential = model if isinstance(model, Potential) else load(model)

    def calculate(
        self,
        atoms: ase.Atoms | None = None,
        properties: Sequence[str] = ("energy",),
        system_changes: Sequence[str] = tuple(all_changes),
    ) -> None:
        """Evaluate the potential; ASE calls this when something has changed."""
        super().calculate(atoms, properties, system_changes)
        wants_shares = "stresses" in properties
        assert isinstance(self.atoms, ase.Atoms)
        evaluation = self.potential.evaluate(self.atoms, atomic_virials=wants_shares)
        self.results = {
            "energy": evaluation.energy,
            "free_energy": evaluation.energy,
            "energies": evaluation.energies,
            "forces": evaluation.forces,
        }
        if evaluation.volume is not None:
            self.results["stress"] = evaluation.stress
            if wants_shares:
                self.results["stresses"] = evaluation.stresses

    def get_hessian(self, atoms: ase.Atoms) -> np.ndarray:
        """Second derivatives of the energy, [3·atoms, 3·atoms], eV/Å²."""
        return self.potential.hessian(atoms)
