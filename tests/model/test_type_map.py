"""A model whose type_map changes says the same of the elements that it knew."""

from dataclasses import replace

import numpy as np
import pytest

from dpax.deepmd.model_dictionary import model_dictionary, read_model
from dpax.descriptor.initial import with_statistics
from dpax.errors import InputError
from dpax.geometry.neighborhoods import Capacity
from dpax.model.energy_model import EnergyModel
from dpax.nn.arrays import placed

from .support import energies_of, tiny_model

OLD = ("O", "H")
MAPS = {
    "the same": ("O", "H"),
    "permutation": ("H", "O"),
    "superset": ("C", "O", "He", "H"),
    "subset": ("H",),
    "another": ("C", "H", "N"),
}
MODELS = {
    "v1": {},
    "v2": {"version": 2},
    "an identity in the embedding": {"tebd_dim": 2, "exclude_types": [[0, 1]]},
    "configurations": {"use_econf_tebd": True, "use_tebd_bias": True},
}
ROOM = Capacity(16, 16)


def rich_model(**options) -> EnergyModel:
    """With something in everything that belongs to types."""
    plain = tiny_model(**options)
    spec = plain.spec.changed(
        pair_exclude_types=[(1, 1)], preset_out_bias=[None, 2.0], isolated_energies=[-3.0, None]
    )
    return replace(plain, spec=spec)


def frame_of(type_map, elements=OLD):
    rng = np.random.default_rng(2)
    names = [name for name in elements if name in type_map]
    return (
        rng.random((8, 3)) * 4.0,
        [type_map.index(names[n % len(names)]) for n in range(8)],
        None,
        [False] * 3,
    )


CASES = [
    pytest.param(options, new, id=f"{model}-{name}", marks=[] if (m + n) % 2 == 0 else pytest.mark.slow)
    for m, (model, options) in enumerate(MODELS.items())
    for n, (name, new) in enumerate(MAPS.items())
]
"""Half of them belong to every test run, each model and each map to some of it."""


@pytest.mark.parametrize(("options", "new"), CASES)
def test_known_elements_keep_their_energies(options, new):
    model = rich_model(**options)
    shared = [name for name in OLD if name in new]
    before = energies_of(model, [frame_of(OLD, shared)], ROOM)[:8]
    changed = model.change_type_map(new, seed=1)
    assert changed.type_map == new == changed.spec.descriptor.type_map
    assert model.type_map == OLD
    again = read_model(model_dictionary(changed))
    for each in (changed, again):
        after = energies_of(each, [frame_of(new, shared)], ROOM)[:8]
        np.testing.assert_allclose(after, before, rtol=0, atol=1e-12)


def test_what_belongs_to_types_follows_their_names():
    model = rich_model().change_type_map(("H", "C", "O"))
    assert model.bias == (2.0, 0.0, -3.0)
    assert model.spec.preset_out_bias == (2.0, None, None)
    assert model.spec.isolated_energies == (None, None, -3.0)
    assert model.spec.fixed_bias == (2.0, None, -3.0)
    assert model.spec.pair_exclude_types == ((0, 0),)
    fewer = model.change_type_map(("O", "C"))
    assert fewer.spec.preset_out_bias is None
    assert fewer.spec.pair_exclude_types == ()


def test_excluded_types_follow_too():
    plain = tiny_model()
    model = replace(plain, spec=plain.spec.changed(atom_exclude_types=[0])).with_bias([-3.0, 2.0])
    turned = model.change_type_map(("H", "O"))
    assert turned.spec.atom_exclude_types == (1,)
    assert turned.bias == (2.0, 0.0)


def test_new_types_take_statistics_and_bias_of_another_model():
    model, other = tiny_model(), tiny_model(seed=5).change_type_map(("C", "O")).with_bias([7.0, 8.0])
    statistics = np.full((2, 4), 0.1), np.full((2, 4), 0.3)
    measured = with_statistics(other.spec.descriptor, other.descriptor, *statistics)
    other = other.with_arrays(placed(measured, "descriptor"))
    changed = model.change_type_map(("C", "O"), seed=1, statistics_from=other)
    assert changed.bias == (7.0, -3.0)
    new, old = changed.descriptor["stddev"], model.descriptor["stddev"]
    np.testing.assert_array_equal(new[0], 0.3)
    np.testing.assert_array_equal(new[1], old[0])


def test_statistics_of_other_types_are_refused():
    with pytest.raises(InputError, match=r"statistics for the types C O cannot come from a model of O H"):
        tiny_model().change_type_map(("C", "O"), statistics_from=tiny_model())
