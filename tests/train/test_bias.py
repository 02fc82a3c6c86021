"""The energy bias adjusted to data is DeePMD-kit's, and what is fitted is gone afterwards."""

from dataclasses import replace

import jax
import numpy as np
import pytest

from dpax.data import Frame
from dpax.deepmd.model_dictionary import read_model
from dpax.errors import InputError
from dpax.infer import Potential
from dpax.model.blocks import make_mesh
from dpax.train.bias import adjusted_bias, with_adjusted_bias
from oracle.deepmd_model import make_model, structures
from oracle.deepmd_statistics import sample_frames

TYPE_MAP = ["O", "H", "C"]


@pytest.fixture(scope="module")
def theirs():
    return make_model(2, TYPE_MAP, {"neuron": [4, 8], "attn_layer": 1}, random_statistics=True)


def labelled() -> list[tuple]:
    """Structures of O and H with an energy: coordinates, types, cell, energy. There is no C."""
    rng = np.random.default_rng(4)
    chosen = [structures()[name] for name in ("triclinic", "small cell", "cluster", "dense cluster")]
    return [(*one, -40.0 * len(one.coord) + rng.normal()) for one in chosen]


def frames() -> list[Frame]:
    return [
        Frame(coord, types, cell, (cell is not None,) * 3, f"frame {n}", energy=energy)
        for n, (coord, types, cell, energy) in enumerate(labelled())
    ]


def expected(theirs, mode) -> np.ndarray:
    nowhere = np.zeros((3, 3))  # what DeePMD-kit's loader gives for the cell of a cluster
    samples = [
        sample_frames(coord[None], types, nowhere if cell is None else cell, [energy], 3)
        for coord, types, cell, energy in labelled()
    ]
    changed = type(theirs).deserialize(theirs.serialize())
    # Its graph kernel has no empty slots, and so another energy than `model.call` for such a model.
    changed.atomic_model.uses_graph_lower = lambda: False
    changed.change_out_bias(samples, bias_adjust_mode=f"{mode}-by-statistic")
    return changed.get_out_bias().reshape(-1)


@pytest.mark.parametrize("mode", ["change", "set"])
def test_the_bias_is_that_of_deepmd(theirs, mode):
    model = read_model(theirs.serialize())
    found = adjusted_bias(model, frames(), mode, make_mesh())
    np.testing.assert_allclose(found, expected(theirs, mode), rtol=1e-10, atol=1e-8)
    absent = model.bias[2] if mode == "change" else 0.0
    assert found[2] == pytest.approx(absent, abs=1e-10)
    assert abs(found[0] - model.bias[0]) > 1.0


def test_an_additive_error_is_taken_away(theirs):
    """A model whose labels differ from it by energies of the elements alone becomes exact."""
    model = read_model(theirs.serialize())
    potential = Potential(model)
    offsets = np.array([3.0, -5.0, 0.0])
    shifted = [
        replace(f, energy=e.energy + offsets[f.types].sum())
        for f, e in zip(frames(), potential.evaluate(frames()), strict=True)
    ]
    found = adjusted_bias(model, shifted, "change", make_mesh())
    np.testing.assert_allclose(found - np.array(model.bias), offsets, atol=1e-9)


def test_float32_models_lose_no_digits_of_large_energies(theirs):
    with jax.enable_x64(False):
        description = {"neuron": [4, 8], "attn_layer": 1, "precision": "float32"}
        single = make_model(2, TYPE_MAP, description, {"precision": "float32"}, random_statistics=True)
        model = read_model(single.serialize()).with_bias([-2.0e5, -1.0e4, 0.0])
        far = [
            Frame(f.positions, f.types, f.cell, f.pbc, f.source, energy=f.energy - 2.0e6) for f in frames()
        ]
        found = adjusted_bias(model, far, "change", make_mesh())
        again = adjusted_bias(model.with_bias(found), far, "change", make_mesh())
    np.testing.assert_allclose(again, found, atol=1e-7)


def test_the_adjusted_model_is_another_one(theirs):
    model, told = read_model(theirs.serialize()), []
    before = model.bias
    adjusted = with_adjusted_bias(model, frames(), make_mesh(), told.append)
    assert model.bias == before
    assert adjusted.bias == tuple(adjusted_bias(model, frames(), "change", make_mesh()))
    (text,) = told
    assert text.startswith(f"energy bias in eV: O {before[0]:.6g} to {adjusted.bias[0]:.6g}, H ")


def test_data_without_energies_are_refused(theirs):
    model = read_model(theirs.serialize())
    bare = [replace(frame, energy=None) for frame in frames()]
    with pytest.raises(InputError, match="no frame of the data has an energy"):
        adjusted_bias(model, bare, "change", make_mesh())


def test_preset_types_keep_their_bias():
    """DeePMD-kit's fit of the others with "set"; with "change" it would add the preset a second time."""
    preset = {"preset_out_bias": {"energy": [None, [2.0], None]}}
    theirs = make_model(2, TYPE_MAP, {"neuron": [4, 8], "attn_layer": 1}, energy_bias=(-3.5, 2.0), **preset)
    model = read_model(theirs.serialize())
    found = adjusted_bias(model, frames(), "set", make_mesh())
    np.testing.assert_allclose(found, expected(theirs, "set"), rtol=1e-10, atol=1e-8)
    changed = adjusted_bias(model, frames(), "change", make_mesh())
    assert found[1] == changed[1] == 2.0
    potential = Potential(model.with_bias(changed))
    errors = [e.energy - f.energy for f, e in zip(frames(), potential.evaluate(frames()), strict=True)]
    oxygens = [np.sum(frame.types == 0) for frame in frames()]
    assert np.dot(oxygens, errors) == pytest.approx(0, abs=1e-7)
