"""The detail files of `dpax test`, byte for byte those that DeePMD-kit writes of the same numbers."""

from pathlib import Path

import numpy as np
import pytest

from dpax.data import Frame
from dpax.infer import Evaluation, comparisons
from dpax.report.details import DetailFiles

pytest.importorskip("deepmd")

from deepmd.infer.model_test.ener import _write_energy_test_details

RNG = np.random.default_rng(4)


def frames_and_evaluations(count: int, atoms: int) -> list[tuple[Frame, Evaluation, np.ndarray]]:
    made = []
    for number in range(count):
        cell = np.diag(RNG.uniform(8, 9, 3))
        frame = Frame(
            positions=RNG.uniform(0, 8, (atoms, 3)),
            types=np.zeros(atoms, int),
            cell=cell,
            pbc=(True,) * 3,
            source=f"frame {number}",
            energy=RNG.normal(-500, 1),
            forces=RNG.normal(size=(atoms, 3)),
            virial=RNG.normal(size=(3, 3)),
            hessian=RNG.normal(size=(3 * atoms, 3 * atoms)),
        )
        evaluation = Evaluation(
            energy=RNG.normal(-500, 1),
            energies=RNG.normal(size=atoms),
            forces=RNG.normal(size=(atoms, 3)),
            virial=RNG.normal(size=(3, 3)),
            volume=float(np.linalg.det(cell)),
        )
        made.append((frame, evaluation, RNG.normal(size=(3 * atoms, 3 * atoms))))
    return made


def write_as_deepmd_kit(prefix: Path, system: str, atoms: int, made, append: bool) -> None:
    frames, evaluations, hessians = zip(*made, strict=True)
    volume = np.array([one.volume for one in evaluations])[:, None]
    virials = [np.array([one.virial.ravel() for one in side]) for side in (frames, evaluations)]
    _write_energy_test_details(
        detail_path=prefix,
        system=system,
        natoms=atoms,
        append_detail=append,
        reference_energy=np.array([one.energy for one in frames]),
        prediction_energy=np.array([one.energy for one in evaluations]),
        reference_force=np.array([one.forces for one in frames]),
        prediction_force=np.array([one.forces for one in evaluations]),
        reference_virial=virials[0],
        prediction_virial=virials[1],
        reference_stress=-virials[0] / volume,
        prediction_stress=-virials[1] / volume,
        reference_hessian=np.array([one.hessian for one in frames]),
        prediction_hessian=np.array(hessians),
        out_put_spin=False,
    )


def test_files_of_two_systems_are_those_of_deepmd_kit(tmp_path):
    systems = {"water/a": (3, frames_and_evaluations(2, 3)), "water/b": (2, frames_and_evaluations(1, 2))}
    with DetailFiles(str(tmp_path / "ours")) as details:
        for name, (_, made) in systems.items():
            for frame, evaluation, hessian in made:
                details.add(name, list(comparisons(frame, evaluation, hessian)))
    for append, (name, (atoms, made)) in enumerate(systems.items()):
        write_as_deepmd_kit(tmp_path / "theirs", name, atoms, made, append=bool(append))
    kinds = {path.name.removeprefix("theirs") for path in tmp_path.glob("theirs.*")}
    assert kinds == {".e.out", ".e_peratom.out", ".f.out", ".v.out", ".v_peratom.out", ".s.out", ".h.out"}
    for kind in kinds:
        ours, theirs = ((tmp_path / f"{side}{kind}").read_text("utf-8") for side in ("ours", "theirs"))
        assert ours == theirs, kind


def test_what_has_no_label_is_not_written(tmp_path):
    ((frame, evaluation, hessian),) = frames_and_evaluations(1, 2)
    bare = Frame(frame.positions, frame.types, frame.cell, frame.pbc, "bare", energy=1.0)
    with DetailFiles(str(tmp_path / "run.1")) as details:
        details.add("bare", list(comparisons(bare, evaluation, hessian)))
    # DeePMD-kit would take the ".1" for a suffix and replace it.
    assert {path.name for path in tmp_path.iterdir()} == {"run.1.e.out", "run.1.e_peratom.out"}
