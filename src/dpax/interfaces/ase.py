"""The potential as an ASE calculator."""

import os
import threading
from collections.abc import Sequence
from typing import Any

import ase
import numpy as np
from ase.calculators.calculator import Calculator as AseCalculator
from ase.calculators.calculator import all_changes
from numpy.typing import ArrayLike

from dpax.infer import Potential
from dpax.interfaces.model_files import load


class Calculator(AseCalculator):
    """ASE calculator of a DPA-1 potential.

    Energies in eV, forces in eV/Å, stresses in eV/Å³ (structures periodic in all directions only), Hessian in
    eV/Å² as [3·atoms, 3·atoms]. Positions, cell, periodicity and species may change between calls.
    Calculators that share a loaded potential (the images of a band) share its compiled programs.

    Threads should have a calculator each, and may share the potential. Where they share a calculator, each
    gets the results of its own atoms, but they evaluate one after the other. A calculator is pickled with
    its results.

    Args:
        model: a model file of any kind that `dpax.load` reads, or a loaded potential.
        fparam: frame parameters, one number or several, for a model that takes them. Without it, the model
            gets `atoms.info["fparam"]`. Atomic parameters always come from `atoms.arrays["aparam"]`.
        **kwargs: handed to ASE's base class (`label`, `directory`, …).

    Raises:
        InputError: not a model file; when evaluated, an element that the potential does not know.
    """

    implemented_properties = [  # noqa: RUF012 (of the class, as ASE has it)
        "energy",
        "free_energy",
        "forces",
        "stress",
        "energies",
        "stresses",
        "hessian",
    ]

    def __init__(self, model: str | os.PathLike | Potential, fparam: ArrayLike | None = None, **kwargs: Any):
        super().__init__(**kwargs)
        self._lock = threading.RLock()
        self.fparam = fparam
        self._last_told: tuple[bytes, ...] = ()
        self.potential = model if isinstance(model, Potential) else load(model)

    def __getstate__(self) -> dict[str, Any]:
        with self._lock:
            return {name: value for name, value in vars(self).items() if name != "_lock"}

    def __setstate__(self, state: dict[str, Any]) -> None:
        vars(self).update(state, _lock=threading.RLock())

    def get_property(self, name: str, atoms: ase.Atoms | None = None, allow_calculation: bool = True) -> Any:
        """One property, in ASE's units; results for other atoms are recomputed."""
        with self._lock:  # of the atoms that the results belong to, until they are read
            return super().get_property(name, atoms, allow_calculation)

    def calculate_properties(self, atoms: ase.Atoms, properties: Sequence[str]) -> Any:
        """Several properties at once, as ASE's `Properties`."""
        with self._lock:
            return super().calculate_properties(atoms, properties)

    def check_state(self, atoms: ase.Atoms, tol: float = 1e-15) -> list[str]:
        """What has changed since the last evaluation; ASE itself does not look at the model's parameters."""
        changes = super().check_state(atoms, tol)
        return changes if self._told(atoms) == self._last_told else [*changes, "parameters"]

    def _told(self, atoms: ase.Atoms) -> tuple[bytes, ...]:
        """The frame and atomic parameters that the model gets with the structure."""
        n_frame, n_atom, _ = self.potential.model.spec.parameter_widths
        fparam = atoms.info.get("fparam") if self.fparam is None else self.fparam
        values = [fparam] * (n_frame > 0) + [atoms.arrays.get("aparam")] * (n_atom > 0)
        return tuple(b"" if value is None else np.asarray(value, float).tobytes() for value in values)

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
        self._last_told = self._told(self.atoms)
        evaluation = self.potential.evaluate(self.atoms, atomic_virials=wants_shares, fparam=self.fparam)
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
        if "hessian" in properties:
            self.results["hessian"] = self.potential.hessian(self.atoms, fparam=self.fparam)

    def get_hessian(self, atoms: ase.Atoms) -> np.ndarray:
        """Second derivatives of the energy, [3·atoms, 3·atoms], eV/Å²."""
        hessian = self.get_property("hessian", atoms)
        assert isinstance(hessian, np.ndarray)
        return hessian
