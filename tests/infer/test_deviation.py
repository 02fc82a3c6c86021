"""Model deviation: DeePMD-kit's numbers from the same predictions."""

import dataclasses

import numpy as np
import pytest

from data.builders import random_frame
from dpax.infer import Evaluation, Potential, evaluate_with_all, model_deviation
from model.support import tiny_model

pytest.importorskip("deepmd")

from deepmd.infer.model_devi import calc_model_devi_e, calc_model_devi_f, calc_model_devi_v


def evaluations(models=4, atoms=5, seed=0) -> list[Evaluation]:
    rng = np.random.default_rng(seed)
    return [
        Evaluation(
            energy=rng.normal(-100, 1),
            energies=rng.normal(size=atoms),
            forces=rng.normal(size=(atoms, 3)),
            virial=rng.normal(size=(3, 3)),
            volume=None,
        )
        for _ in range(models)
    ]


@pytest.mark.parametrize("relative", [None, 0.7])
@pytest.mark.parametrize("real_error", [False, True])
def test_numbers_of_deepmd_kit(relative, real_error):
    said, frame = evaluations(), random_frame(5, seed=3)
    forces = np.array([[one.forces] for one in said])
    virials = np.array([[one.virial.ravel() / 5] for one in said])
    energies = np.array([[[one.energy / 5]] for one in said])
    real = (frame.virial.reshape(1, 9) / 5, frame.forces[None], np.array([[frame.energy / 5]]))
    real_v, real_f, real_e = real if real_error else (None, None, None)
    *extent_f, atomic = calc_model_devi_f(forces, real_f, relative, atomic=True)
    expected = [*calc_model_devi_v(virials, real_v, relative), *extent_f, calc_model_devi_e(energies, real_e)]
    found = model_deviation(said, frame if real_error else None, relative=relative, relative_v=relative)
    np.testing.assert_allclose(found.row(), np.concatenate(expected), rtol=1e-12)
    np.testing.assert_allclose(found.row(atomic=True)[7:], atomic[0], rtol=1e-12)


def test_models_that_agree_do_not_deviate():
    one = evaluations(models=1)[0]
    np.testing.assert_allclose(model_deviation([one, one, one]).row(atomic=True), np.zeros(12), atol=1e-12)


def test_error_against_a_label_that_is_missing_is_no_number():
    frame = dataclasses.replace(random_frame(5), virial=None, energy=None)
    found = model_deviation(evaluations(), frame)
    assert np.isnan([*found.virial, found.energy]).all()
    assert np.isfinite(found.forces).all()


def test_models_share_the_neighbours_of_a_structure():
    """One with the same demands takes what was prepared; one with another cutoff has lists of its own."""
    frames = [random_frame(n, seed=n) for n in (5, 6)]
    alike = [Potential(tiny_model(seed=seed)) for seed in (0, 1)]
    longer = Potential(tiny_model(seed=2, rcut=4.5))
    assert alike[0].demands == alike[1].demands != longer.demands
    for frame, together in evaluate_with_all([*alike, longer], frames):
        for potential, evaluation in zip([*alike, longer], together, strict=True):
            alone = potential.evaluate(frame)
            np.testing.assert_allclose(evaluation.energy, alone.energy, rtol=1e-13)
            np.testing.assert_allclose(evaluation.forces, alone.forces, rtol=1e-11, atol=1e-13)
            np.testing.assert_allclose(evaluation.virial, alone.virial, rtol=1e-11, atol=1e-13)
    assert not alike[1].preparation.capacities["capacities"][1:]
