"""The loss is DeePMD-kit's for every option, and what a missing label weighs."""

from itertools import pairwise

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from dpax.data import CapacityPlanner, Frame, Labels, make_batch
from dpax.data.quantities import TERMS
from dpax.errors import InputError
from dpax.model.derivatives import Prediction
from dpax.train.error_sums import ErrorMeans, error_name
from dpax.train.learning_settings import LossSettings
from dpax.train.loss import energy_loss, prefactors, without_bias

SIZES = (3, 5)
SETTINGS = LossSettings(start_pref_v=1.0, start_pref_ae=1.0)
WEIGHTS = dict(zip(TERMS, (0.7, 1.3, 0.4, 0.9, 0.0, 0.0, 0.0), strict=True))
NONE = {"energy": None, "forces": None, "virial": None, "atom_energies": None}
N_GENERALIZED = 2


def frame(n_atoms, seed, **labels) -> Frame:
    rng = np.random.default_rng(seed)
    grid = np.stack(np.meshgrid(*[np.arange(2)] * 3, indexing="ij"), -1).reshape(-1, 3)[:n_atoms]
    made = {
        "energy": float(rng.normal(-30, 1)),
        "forces": rng.normal(size=(n_atoms, 3)),
        "virial": rng.normal(size=(3, 3)),
        "atom_energies": rng.normal(size=n_atoms),
    }
    types = rng.integers(0, 2, n_atoms)
    return Frame(2.0 * grid, types, None, (False,) * 3, f"frame {seed}", **(made | labels))


def rare(n_atoms, seed) -> dict[str, np.ndarray]:
    """The rarer labels."""
    rng = np.random.default_rng(seed + 100)
    return {
        "atom_pref": rng.uniform(0, 2, n_atoms),
        "atom_ener_coeff": rng.uniform(-1, 1, n_atoms),
        "drdq": rng.normal(size=(3 * n_atoms, N_GENERALIZED)),
        "hessian": rng.normal(size=(3 * n_atoms, 3 * n_atoms)),
    }


def batch_of(frames):
    """Labels [padded] in float64, and the frame of each atom."""
    batch = make_batch(frames, 3.0, CapacityPlanner(), np.float64)
    labels, frames = jax.tree.map(jnp.asarray, (batch.labels, batch.neighborhoods.frames))
    return labels, frames, np.asarray(batch.neighborhoods.types)


def prediction_for(labels: Labels, seed=0) -> Prediction:
    """Something for every slot, also those that only pad."""
    rng = np.random.default_rng(seed)
    n = labels.n_frames
    shapes = ((n,), (n, 3), (n, 3, 3), (n, 3, n, 3))
    return Prediction(*(jnp.asarray(rng.normal(size=shape)) for shape in shapes))


@jax.jit
def compute(prediction, labels, frames):
    """Loss, errors and the gradient with respect to the prediction."""

    def loss(prediction):
        return energy_loss(prediction, labels, frames, WEIGHTS, SETTINGS)

    return jax.value_and_grad(loss, has_aux=True)(prediction)


def shown(errors, settings) -> dict[str, float]:
    means = ErrorMeans()
    means.add(errors)
    return means.shown(settings)


# DeePMD-kit's own loss, on frames padded to a common size

BASE = {"start_pref_v": 0.5, "limit_pref_v": 0.2}
ALL = {f"start_pref_{term}": 1.0 + k for k, term in enumerate(TERMS)} | {
    f"limit_pref_{term}": 0.1 for term in TERMS
}
ALL |= {"numb_generalized_coord": N_GENERALIZED}
ATOMIC = {"start_pref_ae": 0.3, "limit_pref_ae": 1.0}
OPTIONS = {
    "defaults": {},
    "every term": ALL,
    "every term, mae": ALL | {"loss_func": "mae"},
    "intensive": BASE | {"intensive_ener_virial": True},
    "mae": BASE | ATOMIC | {"loss_func": "mae"},
    "mae of norms": BASE | {"loss_func": "mae", "f_use_norm": True},
    "huber": BASE | ATOMIC | {"use_huber": True, "huber_delta": 0.5},
    "three huber deltas": BASE | {"use_huber": True, "huber_delta": [0.1, 0.7, 0.02]},
    "huber of norms": BASE | {"use_huber": True, "huber_delta": 1.5, "f_use_norm": True},
    "relative forces": {"relative_f": 0.3, "start_pref_pf": 2.0},
    "relative forces, mae": {"relative_f": 0.3, "start_pref_pf": 2.0, "loss_func": "mae"},
    "coefficients": BASE | {"enable_atom_ener_coeff": True},
    "forces left out": {"start_pref_f": 0, "limit_pref_f": 0, "start_pref_pf": 3.0},
}


def deepmd_loss(settings, frames, prediction: Prediction, lr_ratio):
    """Loss and displayed errors of DeePMD-kit's `EnergyLoss`, of frames padded to a rectangle."""
    ener = pytest.importorskip("deepmd.dpmodel.loss.ener")
    size, count = max(len(one.types) for one in frames), len(frames)
    rows = np.cumsum([0, *(len(one.types) for one in frames)])

    def padded(arrays, *shape):
        made = np.zeros((count, size, *shape))
        for k, array in enumerate(arrays):
            made[k, : len(array)] = np.reshape(array, (len(array), *shape))
        return made

    def of_atoms(name, *shape):
        return padded([getattr(prediction, name)[a:b] for a, b in pairwise(rows)], *shape)

    def square(matrices):
        made = np.zeros((count, 3 * size, 3 * size))
        for k, matrix in enumerate(matrices):
            made[k, : len(matrix), : len(matrix)] = matrix
        return made

    hessians = [np.reshape(prediction.hessian[a:b, :, a:b], (3 * (b - a), -1)) for a, b in pairwise(rows)]
    energies = of_atoms("energies")
    model = {
        "energy": energies.sum(axis=1, keepdims=True),
        "atom_energy": energies[..., None],
        "force": of_atoms("forces", 3),
        "virial": np.reshape(prediction.virials[:count], (count, 9)),
        "hessian": square(hessians),
        "mask": padded([np.ones(len(one.types)) for one in frames]),
    }
    labels = {
        "energy": np.array([[one.energy] for one in frames]),
        "force": padded([one.forces for one in frames], 3),
        "virial": np.array([one.virial.ravel() for one in frames]),
        "atom_ener": padded([one.atom_energies for one in frames]),
        "atom_pref": np.repeat(padded([one.atom_pref for one in frames]), 3, axis=1),
        "atom_ener_coeff": padded([one.atom_ener_coeff for one in frames]),
        "drdq": padded([one.drdq.reshape(-1, 3, N_GENERALIZED) for one in frames], 3, N_GENERALIZED),
        "hessian": square([one.hessian for one in frames]),
    }
    labels |= {f"find_{name}": 1.0 for name in list(labels)}
    loss, more = ener.EnergyLoss(starter_learning_rate=1.0, **settings).call(lr_ratio, size, model, labels)
    return float(loss), {name: float(value) for name, value in more.items()}


@pytest.mark.parametrize("sizes", [(4, 4), SIZES], ids=["one size", "two sizes"])
@pytest.mark.parametrize("options", OPTIONS)
def test_loss_and_errors_are_deepmds(options, sizes):
    settings = LossSettings(**OPTIONS[options])
    frames = [frame(n, k, **rare(n, k)) for k, n in enumerate(sizes)]
    labels, owners, _ = batch_of(frames)
    prediction = prediction_for(labels)
    loss, errors = energy_loss(prediction, labels, owners, prefactors(settings, 0.6), settings)
    expected, theirs = deepmd_loss(OPTIONS[options], frames, prediction, 0.6)
    assert float(loss) == pytest.approx(expected, rel=1e-12)
    ours = shown(errors, settings)
    weighed = ["rmse", *(error_name(term, settings) for term in TERMS if settings.weighs(term))]
    assert set(weighed) == theirs.keys()
    assert [ours[name] for name in weighed] == pytest.approx([theirs[name] for name in weighed], rel=1e-12)


def test_every_option_changes_the_loss():
    """So that the comparisons above compare something."""
    frames = [frame(n, k, **rare(n, k)) for k, n in enumerate(SIZES)]
    labels, owners, _ = batch_of(frames)
    prediction = prediction_for(labels)
    found = []
    for options in OPTIONS.values():
        settings = LossSettings(**options)
        found.append(float(energy_loss(prediction, labels, owners, prefactors(settings, 0.6), settings)[0]))
    assert len(set(found)) == len(found)


def test_default_weights_of_forces():
    """use_default_pf: where atom_pref is absent every atom weighs 1, and without it the term is left out."""
    frames = [frame(3, 0), frame(5, 1, **rare(5, 1))]
    labels, owners, _ = batch_of(frames)
    prediction = prediction_for(labels)
    pf = {"start_pref_f": 0, "limit_pref_f": 0, "start_pref_e": 0, "limit_pref_e": 0, "start_pref_pf": 1.0}

    def loss(labels, **more):
        settings = LossSettings(**pf, **more)
        return float(energy_loss(prediction, labels, owners, prefactors(settings, 1.0), settings)[0])

    squares = np.mean(np.asarray(prediction.forces - labels.values["forces"]) ** 2, axis=1)
    weights = np.append(np.ones(3), frames[1].atom_pref)
    assert loss(labels, use_default_pf=True) == pytest.approx(np.mean(weights * squares[:8]), rel=1e-12)
    assert loss(labels) == pytest.approx(np.mean(frames[1].atom_pref * squares[3:8]), rel=1e-12)
    bare, _, _ = batch_of([frame(3, 0), frame(5, 1)])
    assert loss(bare, use_default_pf=True) == pytest.approx(np.mean(squares[:8]), rel=1e-12)
    assert loss(bare) == 0.0


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"start_pref_gf": 1.0}, "numb_generalized_coord should be at least 1"),
        ({"use_huber": True, "start_pref_h": 1.0}, "use_huber is not defined together with h"),
        ({"use_huber": True, "relative_f": 0.1}, "use_huber is not defined together with relative_f"),
        ({"use_huber": True, "loss_func": "mae"}, "use_huber has no meaning with loss_func 'mae'"),
        ({"f_use_norm": True}, "f_use_norm needs loss_func 'mae' or use_huber"),
        ({"huber_delta": [0.1, 0.2]}, "huber_delta: should be a number above 0 or three of them"),
        ({"type": "tensor"}, "type: dpax trains energies"),
    ],
)
def test_what_has_no_meaning_is_refused(options, message):
    with pytest.raises(InputError, match=message):
        LossSettings(**options)


@pytest.mark.parametrize("options", ["every term", "every term, mae", "huber", "mae of norms"])
def test_every_term_is_weighted_by_frame(options):
    """Frames of one size: the loss is the mean of theirs times their weights; a missing weight is 1."""
    settings = LossSettings(**OPTIONS[options], enable_frame_weight=True)

    def loss(frames, prediction):
        labels, owners, _ = batch_of(frames)
        return energy_loss(prediction, labels, owners, prefactors(settings, 0.6), settings)

    def frames_of(*weights):
        return [frame(4, k, **rare(4, k), frame_weight=weight) for k, weight in enumerate(weights)]

    labels, _, _ = batch_of(frames_of(None, None))
    prediction = prediction_for(labels)
    single = []
    for k, alone in enumerate(frames_of(None, None)):
        n = batch_of([alone])[0].n_frames
        atoms = slice(4 * k, 4 * k + 4)
        forces = jnp.resize(prediction.forces[atoms], (n, 3))
        virials = jnp.resize(prediction.virials[k], (n, 3, 3))
        hessian = jnp.zeros((n, 3, n, 3)).at[:4, :, :4].set(prediction.hessian[atoms, :, atoms])
        part = Prediction(jnp.resize(prediction.energies[atoms], n), forces, virials, hessian)
        single.append(float(loss([alone], part)[0]))
    plain, errors = loss(frames_of(None, 1.0), prediction)
    weighted, same_errors = loss(frames_of(0.5, 3.0), prediction)
    assert float(plain) == pytest.approx(sum(single) / 2, rel=1e-12)
    assert float(weighted) == pytest.approx((0.5 * single[0] + 3.0 * single[1]) / 2, rel=1e-12)
    ours, theirs = shown(errors, settings), shown(same_errors, settings)
    assert ours.pop("rmse") != theirs.pop("rmse")
    assert ours == theirs


# Missing labels


@pytest.mark.parametrize("label", list(NONE))
def test_missing_labels_weigh_nothing(label):
    """Whatever stands in the place of a missing label: the gradient does not see it."""
    frames = [frame(3, 0), frame(5, 1, **{label: None})]
    labels, owners, _ = batch_of(frames)
    rubbish = {
        "energy": labels.values["energy"] + 1e3 * (1 - labels.has["energy"]),
        "virial": labels.values["virial"] + 1e3 * (1 - labels.has["virial"])[:, None, None],
        "forces": labels.values["forces"] + 1e3 * (1 - labels.has["forces"][np.minimum(owners, 1)])[:, None],
        "atom_energies": labels.values["atom_energies"]
        + 1e3 * (1 - labels.has["atom_energies"][np.minimum(owners, 1)]),
    }
    prediction = prediction_for(labels)
    (clean, _), gradient = compute(prediction, labels, owners)
    (spoilt, _), other = compute(prediction, labels._replace(values=labels.values | rubbish), owners)
    assert clean == spoilt
    for a, b in zip(gradient, other, strict=True):
        np.testing.assert_array_equal(a, b)


def test_a_frame_without_labels_changes_no_gradient():
    """The 3-atom frame alone, and in the company of a frame without labels."""
    alone, company = [frame(3, 0)], [frame(3, 0), frame(5, 1, **NONE)]
    labels, owners, _ = batch_of(company)
    prediction = prediction_for(labels)
    (loss, errors), gradient = compute(prediction, labels, owners)
    lone_labels, lone_owners, _ = batch_of(alone)
    n = lone_labels.n_frames
    (lone_loss, lone_errors), lone = compute(
        Prediction(*(a[:n] for a in prediction[:3])), lone_labels, lone_owners
    )
    np.testing.assert_allclose(loss, lone_loss, rtol=1e-14)
    assert shown(errors, SETTINGS) == pytest.approx(shown(lone_errors, SETTINGS), rel=1e-14)
    for ours, theirs in zip(gradient[:3], lone[:3], strict=True):
        np.testing.assert_allclose(ours[:3], theirs[:3], rtol=1e-13, atol=1e-15)
        assert not np.any(np.asarray(ours)[3:8])


def test_nothing_is_shown_of_what_has_no_label():
    frames = [frame(3, 0, virial=None, atom_energies=None)]
    labels, owners, _ = batch_of(frames)
    (_, errors), _ = compute(prediction_for(labels), labels, owners)
    assert shown(errors, SETTINGS).keys() == {"rmse", "rmse_e", "rmse_f"}


@pytest.mark.parametrize("options", ["defaults", "mae of norms", "huber of norms", "every term, mae"])
def test_padding_has_no_gradient(options):
    settings = LossSettings(**OPTIONS[options])
    labels, owners, types = batch_of([frame(3, 0, **rare(3, 0)), frame(3, 1, **rare(3, 1))])
    prediction = prediction_for(labels)
    exact = prediction._replace(forces=jnp.asarray(labels.values["forces"]))  # the length of an error of 0

    def loss(prediction):
        return energy_loss(prediction, labels, owners, prefactors(settings, 0.5), settings)[0]

    for one in (prediction, exact):
        gradient = jax.grad(loss)(one)
        assert all(np.isfinite(leaf).all() for leaf in gradient)
        assert np.any(types < 0)
        for leaf in (gradient.energies, gradient.forces, gradient.hessian):
            assert not np.any(np.asarray(leaf)[types < 0])
        assert not np.any(np.asarray(gradient.virials)[2:])


# Around the loss


def test_bias_is_taken_off_where_there_are_energies():
    frames = [frame(3, 0), frame(5, 1, energy=None)]
    labels, owners, types = batch_of(frames)
    bias = np.array([-1000.0, 500.0])
    shifted = without_bias(labels, types, np.asarray(owners), bias, np.dtype(np.float32))
    assert shifted.values["energy"].dtype == np.float32
    np.testing.assert_allclose(
        shifted.values["energy"][0], frames[0].energy - bias[frames[0].types].sum(), rtol=1e-6
    )
    assert shifted.values["energy"][1] == 0.0
    np.testing.assert_allclose(
        shifted.values["atom_energies"][:3], frames[0].atom_energies - bias[frames[0].types], rtol=1e-6
    )
    np.testing.assert_array_equal(shifted.values["forces"], labels.values["forces"].astype(np.float32))


def test_bias_is_weighed_by_the_coefficients():
    """Σ c_i (E_i + b_i) is compared with the label: Σ c_i b_i is taken off."""
    frames = [frame(3, 0), frame(5, 1, **rare(5, 1))]
    labels, owners, types = batch_of(frames)
    bias = np.array([-1000.0, 500.0])
    shifted = without_bias(labels, types, np.asarray(owners), bias, np.dtype(np.float64), coefficients=True)
    for k, (one, c) in enumerate(zip(frames, (np.ones(3), frames[1].atom_ener_coeff), strict=True)):
        np.testing.assert_allclose(shifted.values["energy"][k], one.energy - c @ bias[one.types], rtol=1e-12)


def test_errors_add_up_over_batches():
    """Two batches pooled are one batch of all frames."""
    settings = LossSettings(**BASE)
    frames = [frame(3, 0), frame(5, 1), frame(5, 2, virial=None)]
    means, weights = ErrorMeans(), prefactors(settings, 1.0)
    whole, owners, _ = batch_of(frames)
    prediction = prediction_for(whole)
    start = 0
    for k, one in enumerate(frames):
        labels, alone, _ = batch_of([one])
        n, size = len(one.types), labels.n_frames
        part = Prediction(
            *(jnp.resize(array[start : start + n], (size, *array.shape[1:])) for array in prediction[:2]),
            jnp.resize(prediction.virials[k], (size, 3, 3)),
        )
        means.add(energy_loss(part, labels, alone, weights, settings)[1])
        start += n
    errors = energy_loss(prediction, whole, owners, weights, settings)[1]
    pooled, together = means.shown(settings), shown(errors, settings)
    for name in ("rmse_e", "rmse_f", "rmse_v"):
        assert pooled[name] == pytest.approx(together[name], rel=1e-12)


def test_prefactors_follow_the_learning_rate():
    settings = LossSettings(start_pref_e=0.02, limit_pref_e=1.0, start_pref_f=1000, limit_pref_f=1)
    for ratio, expected in ((1.0, (0.02, 1000.0)), (0.0, (1.0, 1.0)), (0.25, (1 - 0.98 / 4, 1 + 999 / 4))):
        weights = list(prefactors(settings, ratio).values())
        np.testing.assert_allclose(weights, [*expected, *[0.0] * 5], rtol=1e-12)
