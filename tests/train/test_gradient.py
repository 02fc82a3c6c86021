"""The parameter gradient by two passes is that of reverse differentiation through forces and Hessian."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from dpax.data import CapacityPlanner, make_batch
from dpax.data.quantities import TERMS
from dpax.model.blocks import make_mesh
from dpax.model.derivatives import Prediction, forces_from, loss_gradient, predict, virials_from
from dpax.model.energies import Block, atomic_energies
from dpax.train.learning_settings import LossSettings
from dpax.train.loss import energy_loss, without_bias
from model.support import tiny_model

from .test_loss import frame, rare

WEIGHTS = dict(zip(TERMS, (0.7, 1.3, 0.4, 0.9, 0.0, 0.0, 0.6), strict=True))
SETTINGS = LossSettings(start_pref_v=1.0, start_pref_ae=1.0)
WITH_HESSIAN = LossSettings(start_pref_v=1.0, start_pref_ae=1.0, start_pref_h=1.0)
SMALL = {"neuron": [4, 8], "axis_neuron": 2, "attn": 8, "attn_layer": 1}
MODELS = {"concat": (1, SMALL), "strip, multiplied out": (2, SMALL | {"lmax": 2, "attn": 12})}
LAYOUTS = {"one device, one block": (1, 64), "two devices, several blocks": (2, 3)}


class Problem:
    """A model, a batch of frames of 3 and 5 atoms with labels missing, and their loss."""

    def __init__(self, version, options, precision="float64", settings=SETTINGS):
        self.version, self.options = version, options
        self.model = tiny_model(version, precision=precision, **options)
        self.params = {name: jnp.asarray(self.model.arrays[name]) for name in sorted(self.model.trained)}
        self.settings, self.with_hessian = settings, settings.weighs("h")
        hessian = {"hessian": rare(3, 2)["hessian"]} if self.with_hessian else {}
        frames = [frame(5, 1, virial=None), frame(3, 2, atom_energies=None, **hessian)]
        batch = make_batch(frames, self.model.rcut, CapacityPlanner(16), self.model.dtype)
        self.neighborhoods = nb = jax.tree.map(jnp.asarray, batch.neighborhoods)
        types, owners = np.asarray(nb.types), np.asarray(nb.frames)
        labels = without_bias(batch.labels, types, owners, np.array(self.model.bias), self.model.dtype)
        self.labels = jax.tree.map(jnp.asarray, labels)
        self.n_frames = self.labels.n_frames

    def prepare(self, params):
        return self.model.with_arrays(params).weights()

    def loss(self, prediction):
        return energy_loss(prediction, self.labels, self.neighborhoods.frames, WEIGHTS, self.settings)

    def by_two_passes(self, devices, block_size):
        return self.two_passes(devices, block_size)(self.params)

    def two_passes(self, devices, block_size):
        mesh = make_mesh(jax.devices()[:devices])
        return jax.jit(
            lambda params: loss_gradient(
                self.model.spec,
                self.prepare,
                params,
                self.neighborhoods,
                self.n_frames,
                self.loss,
                mesh,
                block_size,
                with_hessian=self.with_hessian,
            )
        )

    def through_predict(self):
        mesh = make_mesh(jax.devices()[:1])

        def loss(params):
            weights = self.prepare(params)
            nb = self.neighborhoods
            found = predict(
                self.model.spec,
                weights,
                nb,
                self.n_frames,
                mesh,
                len(nb.types),
                with_hessian=self.with_hessian,
            )
            return self.loss(found)[0]

        return jax.jit(jax.value_and_grad(loss))(self.params)

    def by_hand(self):
        """Reverse through reverse on plain arrays: no blocks, no mesh."""
        nb = self.neighborhoods

        def loss(params):
            weights = self.prepare(params)

            def total(edges):
                block = Block(edges, nb.neighbors >= 0, nb.types, nb.neighbor_types, nb.parameters)
                energies = atomic_energies(self.model.spec, weights, block)
                return jnp.sum(energies), energies

            gradient, energies = jax.grad(total, has_aux=True)(nb.edges)
            virials = virials_from(gradient, nb, self.n_frames)
            return self.loss(Prediction(energies, forces_from(gradient, nb), virials))[0]

        return jax.jit(jax.value_and_grad(loss))(self.params)


def worst_difference(found, expected) -> float:
    """Of any element, relative to the largest of its array."""
    leaves = (jax.tree.leaves(jax.device_get(tree)) for tree in (found, expected))
    pairs = zip(*leaves, strict=True)
    return max(float(np.abs(a - b).max() / max(np.abs(b).max(), 1e-12)) for a, b in pairs)


@pytest.fixture(scope="module", params=list(MODELS))
def problem(request):
    return Problem(*MODELS[request.param])


@pytest.fixture(scope="module")
def expected(problem):
    return problem.by_hand()


@pytest.mark.parametrize("layout", LAYOUTS)
def test_two_passes_are_reverse_over_reverse(problem, expected, layout):
    (value, errors), gradient = problem.by_two_passes(*LAYOUTS[layout])
    assert float(value) == pytest.approx(float(expected[0]), rel=1e-12)
    assert float(errors.loss) == float(value)
    assert len(jax.tree.leaves(gradient)) > 15
    assert worst_difference(gradient, expected[1]) < 1e-10


@pytest.mark.parametrize("model", MODELS)
def test_no_product_is_less_precise_than_its_arrays(model):
    """By default JAX multiplies float32 as TF32 on GPUs and as bfloat16 on TPUs."""
    problem = Problem(*MODELS[model], precision="float32")
    program = problem.two_passes(1, 64).lower(problem.params).as_text()
    products = [line for line in program.splitlines() if "dot_general" in line]
    assert len(products) > 50
    assert [line for line in products if "precision = [HIGHEST, HIGHEST]" not in line] == []


@pytest.mark.parametrize("problem", ["concat"], indirect=True)
def test_gradient_through_predict_agrees(problem, expected):
    value, gradient = problem.through_predict()
    assert float(value) == pytest.approx(float(expected[0]), rel=1e-12)
    assert worst_difference(gradient, expected[1]) < 1e-10


def test_float32_is_as_good_as_float32_can_be(problem, expected):
    """Also for the atoms that only pad the batch, whose vectors of zeros are normalised in attention."""
    narrow = Problem(problem.version, problem.options, "float32")
    _, gradient = narrow.by_two_passes(2, 3)
    assert all(leaf.dtype == jnp.float32 for leaf in jax.tree.leaves(gradient))
    assert worst_difference(gradient, expected[1]) < 1e-4


@pytest.fixture(scope="module")
def second_order():
    """The same with a Hessian of one of the frames, and without attention: it compiles for long."""
    return Problem(1, SMALL | {"attn_layer": 0}, settings=WITH_HESSIAN)


@pytest.mark.slow
def test_gradient_of_a_hessian_is_reverse_over_the_whole(second_order):
    """Row by row and block by block, against one reverse pass through everything."""
    expected = second_order.through_predict()
    (value, errors), gradient = second_order.by_two_passes(2, 3)
    assert float(value) == pytest.approx(float(expected[0]), rel=1e-12)
    assert worst_difference(gradient, expected[1]) < 1e-9
    assert float(errors.sums["h"].n_values) == 1.0


def test_gradient_of_a_hessian_is_a_difference_of_losses(second_order):
    """Along a random direction of the parameters."""
    _, gradient = second_order.by_two_passes(1, 64)
    rng = np.random.default_rng(3)
    direction = jax.tree.map(lambda leaf: jnp.asarray(rng.normal(size=leaf.shape)), gradient)

    @jax.jit
    def loss(step):
        moved = jax.tree.map(lambda p, d: p + step * d, second_order.params, direction)
        mesh, nb = make_mesh(jax.devices()[:1]), second_order.neighborhoods
        found = predict(
            second_order.model.spec,
            second_order.prepare(moved),
            nb,
            second_order.n_frames,
            mesh,
            len(nb.types),
            with_hessian=True,
        )
        return second_order.loss(found)[0]

    h = 1e-4
    # The fourth-order difference: its error is h^4.
    difference = (8 * (loss(h) - loss(-h)) - (loss(2 * h) - loss(-2 * h))) / (12 * h)
    along = sum(jax.tree.leaves(jax.tree.map(lambda g, d: jnp.sum(g * d), gradient, direction)))
    assert float(along) == pytest.approx(float(difference), rel=1e-6)
