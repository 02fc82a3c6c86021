"""Everything that a frame may carry beside its structure: each label and each input, defined once.

Readers, writers, batches, the loss, error sums and the command line take what they need to know about a label
from here. A new label is a field of `Quantities`; if it has a loss term, that is in `train/loss.py`.
"""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from enum import Enum
from typing import Annotated, Any, get_type_hints

import numpy as np


class Axis(Enum):
    """An axis whose length depends on the frame."""

    ATOMS = "atoms"
    COMPONENTS = "3 * atoms"
    """x, y and z of the first atom, then those of the second, and so on."""
    OPEN = "any"
    """Any length but 0."""


ATOMS, COMPONENTS, OPEN = Axis.ATOMS, Axis.COMPONENTS, Axis.OPEN


@dataclass(frozen=True)
class Term:
    """A term of the loss."""

    name: str
    """DeePMD-kit's suffix of its prefactors and errors: `e` in `start_pref_e` and `rmse_e`."""
    of: str
    """What it weighs, for the documentation of its prefactors; with their unit."""
    start: float = 0.0
    """Default prefactor at the start of training."""
    limit: float = 0.0
    """Default prefactor as the learning rate goes to 0."""
    always_rmse: bool = False
    """Whether the learning curve has its RMSE even where the loss takes absolute values."""


@dataclass(frozen=True)
class LossOption:
    """A setting of the loss, off by default, that has a label used."""

    name: str
    description: str


@dataclass(frozen=True)
class ErrorKind:
    """An error that is reported of a model: MAE and RMSE."""

    name: str
    title: str
    """For tables."""
    unit: str
    key: str = ""
    """In JSON reports, before `_mae_` and `_rmse_`; the name if empty."""
    detail: str = ""
    """DeePMD-kit's suffix of the file with labels and predictions; empty if there is none."""

    @property
    def report_keys(self) -> tuple[str, str]:
        """The keys of MAE and RMSE in JSON reports: ("force_mae_ev_per_angstrom", …)."""
        unit = self.unit.replace("eV", "ev").replace("/Å", "_per_angstrom").replace("/atom", "")
        stem, unit = self.key or self.name, unit.replace("²", "2").replace("³", "3")
        return f"{stem}_mae_{unit}", f"{stem}_rmse_{unit}"


@dataclass(frozen=True)
class Quantity:
    """A label or an input of a frame."""

    shape: tuple[int | Axis, ...]
    """Of one frame."""
    unit: str = ""
    """dpax's unit; empty for what has none, or any."""
    files: tuple[str, ...] = ()
    """DeePMD-kit's names of its arrays, without .npy. The first is written; the others are read too."""
    records: tuple[str, ...] = ()
    """More names in DeePMD-kit's LMDB records, where they come first."""
    keys: tuple[str, ...] = ()
    """Keys in files that ASE reads. If there are several in a file, the first counts."""
    written_key: str = ""
    """The key in extended XYZ files that dpax writes; the first of `keys` if empty."""
    keys_agree: bool = True
    """Whether several keys in one file must have the same value."""
    look_alikes: tuple[str, ...] = ()
    """What other names of it come down to without case, separators and words such as "ref" and "dft"."""
    hint: str = ""
    """A regular expression for names that look only somewhat like it."""
    rare: bool = False
    """Whether batches have room for it only if the data set has it."""
    is_input: bool = False
    """Whether the model takes it, instead of being compared with it."""
    term: Term | None = None
    """Of the loss, that needs it."""
    loss_option: LossOption | None = None
    """The setting of the loss that has it used, where no term does."""
    errors: tuple[ErrorKind, ...] = ()
    """What is reported of a model on labelled data."""
    name: str = ""
    """The field of a frame; filled in from there."""

    @property
    def is_atomic(self) -> bool:
        """Whether it has an axis of atoms or of their components."""
        return not {ATOMS, COMPONENTS}.isdisjoint(self.shape)

    def sized(self, n_atoms: int) -> tuple[int, ...]:
        """The shape in a frame of so many atoms; -1 for an open axis."""
        lengths = {ATOMS: n_atoms, COMPONENTS: 3 * n_atoms, OPEN: -1}
        return tuple(lengths[n] if isinstance(n, Axis) else n for n in self.shape)

    def of_atoms(self, value: np.ndarray, atoms: np.ndarray) -> np.ndarray:
        """The part of a value that belongs to some atoms.

        Args:
            value: in its shape.
            atoms: indices, in the order that is wanted.
        """
        components = (3 * atoms[:, None] + np.arange(3)).reshape(-1)
        for axis, kind in enumerate(self.shape):
            if kind in (ATOMS, COMPONENTS):
                value = value.take(atoms if kind is ATOMS else components, axis)
        return value

    def described(self, n_atoms: int) -> str:
        """How many numbers a frame has, for messages: "5 atoms x 3", "a multiple of 5 atoms"."""
        words = {ATOMS: f"{n_atoms} atoms", COMPONENTS: f"3 times {n_atoms} atoms"}
        factors = " x ".join(words[n] if isinstance(n, Axis) else str(n) for n in self.shape if n is not OPEN)
        if OPEN in self.shape:
            return f"a multiple of {factors}" if factors else "any number"
        return factors or "one number"


@dataclass(frozen=True, eq=False, kw_only=True)
class Quantities:
    """The labels and inputs of a frame; None for what it lacks. `QUANTITIES` has their definitions."""

    energy: Annotated[
        float | None,
        Quantity(
            (),
            unit="eV",
            files=("energy",),
            records=("energies",),
            # Forces are derivatives of the free energy; VASP's `energy` is extrapolated to zero smearing.
            keys=("free_energy", "energy"),
            written_key="energy",
            keys_agree=False,
            look_alikes=("energy", "totenergy", "totalenergy", "toten", "etot", "etotal", "freeenergy", "e"),
            hint="energ|toten",
            term=Term("e", "the energy, 1/eV²,", start=0.02, limit=1.0),
            errors=(
                ErrorKind("energy", "energy", "eV", detail="e"),
                ErrorKind("energy_per_atom", "energy per atom", "eV/atom", detail="e_peratom"),
            ),
        ),
    ] = None
    """eV."""
    forces: Annotated[
        np.ndarray | None,
        Quantity(
            (ATOMS, 3),
            unit="eV/Å",
            files=("force",),
            records=("forces",),
            keys=("forces", "force"),
            look_alikes=("force", "forces", "f"),
            hint="forc|gradient",
            term=Term("f", "the forces, Å²/eV²,", start=1000.0, limit=1.0),
            errors=(ErrorKind("forces", "force component", "eV/Å", key="force", detail="f"),),
        ),
    ] = None
    """float64 [atoms, 3], eV/Å."""
    virial: Annotated[
        np.ndarray | None,
        Quantity(
            (3, 3),
            unit="eV",
            files=("virial",),
            records=("virials",),
            keys=("virial", "virials"),
            look_alikes=("virial", "virials"),
            hint="virial|stress",
            term=Term("v", "the virial, 1/eV²,"),
            errors=(
                ErrorKind("virial", "virial component", "eV", detail="v"),
                ErrorKind("virial_per_atom", "virial per atom", "eV/atom", detail="v_peratom"),
                ErrorKind("stress", "stress component", "eV/Å³", detail="s"),
            ),
        ),
    ] = None
    """float64 [3, 3], eV; W = -dE/d(strain) = -stress·volume in ASE's sign of stress."""
    atom_energies: Annotated[
        np.ndarray | None,
        Quantity(
            (ATOMS,),
            unit="eV",
            files=("atom_ener", "atomic_ener"),
            keys=("energies",),
            look_alikes=(
                "energies",
                "atomener",
                "atomicener",
                "atomenergy",
                "atomenergies",
                "atomicenergies",
            ),
            term=Term("ae", "atomic energies, 1/eV²,"),
            errors=(ErrorKind("atom_energies", "atomic energy", "eV", key="atomic_energy"),),
        ),
    ] = None
    """float64 [atoms], eV."""
    atom_pref: Annotated[
        np.ndarray | None,
        Quantity(
            (ATOMS,),
            files=("atom_pref", "atomic_pref"),
            keys=("atom_pref",),
            rare=True,
            term=Term("pf", "the forces weighted by atom_pref, Å²/eV²,"),
            errors=(ErrorKind("weighted_forces", "force component, weighted", "eV/Å", key="weighted_force"),),
        ),
    ] = None
    """float64 [atoms], the weight of each atom's forces in the loss."""
    atom_ener_coeff: Annotated[
        np.ndarray | None,
        Quantity(
            (ATOMS,),
            files=("atom_ener_coeff", "atomic_ener_coeff"),
            keys=("atom_ener_coeff",),
            rare=True,
            loss_option=LossOption(
                "enable_atom_ener_coeff",
                "The energy of a frame is Σ cᵢ Eᵢ with the label atom_ener_coeff (1 without).",
            ),
        ),
    ] = None
    """float64 [atoms], c of the energy Σ c_i E_i that `energy` stands for."""
    frame_weight: Annotated[
        float | None,
        Quantity(
            (),
            files=("frame_weight",),
            keys=("frame_weight",),
            rare=True,
            loss_option=LossOption(
                "enable_frame_weight",
                "dpax's own key. Every term of the loss weighs a frame by its label frame_weight (1 "
                "without). Displayed errors have no weights.",
            ),
        ),
    ] = None
    """The weight of the frame in the loss."""
    drdq: Annotated[
        np.ndarray | None,
        Quantity(
            (COMPONENTS, OPEN),
            files=("drdq",),
            keys=("drdq",),
            rare=True,
            term=Term("gf", "generalized forces", always_rmse=True),
        ),
    ] = None
    """float64 [3·atoms, generalized coordinates], dr/dq."""
    hessian: Annotated[
        np.ndarray | None,
        Quantity(
            (COMPONENTS, COMPONENTS),
            unit="eV/Å²",
            files=("hessian",),
            keys=("hessian",),
            look_alikes=("hessian",),
            hint="hessian",
            rare=True,
            term=Term("h", "the Hessian, Å⁴/eV²,", always_rmse=True),
            errors=(ErrorKind("hessian", "Hessian component", "eV/Å²", detail="h"),),
        ),
    ] = None
    """float64 [3·atoms, 3·atoms], d²E/dr², eV/Å²."""
    fparam: Annotated[
        np.ndarray | None, Quantity((OPEN,), files=("fparam",), keys=("fparam",), is_input=True)
    ] = None
    """float64 [inputs], frame parameters (an electronic temperature, say), in any unit."""
    aparam: Annotated[
        np.ndarray | None, Quantity((ATOMS, OPEN), files=("aparam",), keys=("aparam",), is_input=True)
    ] = None
    """float64 [atoms, inputs], atomic parameters, in any unit."""

    def values(self) -> dict[str, Any]:
        """The quantities that it has, by name."""
        named = {name: getattr(self, name) for name in QUANTITIES}
        return {name: value for name, value in named.items() if value is not None}


QUANTITIES: dict[str, Quantity] = {
    name: replace(hint.__metadata__[0], name=name)
    for name, hint in get_type_hints(Quantities, include_extras=True).items()
}
"""Labels and inputs, by name."""
LABELS: dict[str, Quantity] = {name: q for name, q in QUANTITIES.items() if not q.is_input}
"""What a model is compared with, or what weighs such comparisons."""
INPUTS: dict[str, Quantity] = {name: q for name, q in QUANTITIES.items() if q.is_input}
"""What a model takes beside the structure."""
POSITIONS = Quantity((ATOMS, 3), "Å", files=("coord",), records=("coords",), name="positions")
CELL = Quantity((3, 3), "Å", files=("box",), records=("cells",), name="cell")
STRESS = Quantity(
    (OPEN,), "eV/Å³", keys=("stress",), look_alikes=("stress",), hint="virial|stress", name="stress"
)
"""The virial in another form, which files that ASE reads may have in its place."""
TERMS: dict[str, Quantity] = {q.term.name: q for q in LABELS.values() if q.term is not None}
"""The label that each term of the loss needs, by DeePMD-kit's suffix of the term."""
ERRORS: dict[str, ErrorKind] = {error.name: error for q in LABELS.values() for error in q.errors}
"""The errors that are reported, by name."""


def labels_of(frames: Sequence[Quantities]) -> frozenset[str]:
    """The labels that at least one frame has."""
    return frozenset(name for name in LABELS if any(getattr(f, name) is not None for f in frames))
