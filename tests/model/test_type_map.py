"""A model whose type_map changes says the same of the elements that it knew."""

import numpy as np
import pytest

from dpax.errors import InputError
from dpax.geometry.neighbors import Capacity
from dpax.model.potential import EnergyModel

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
    return EnergyModel(
        plain.descriptor,
        plain.fitting,
        OLD,
        np.array([-3.0, 2.0]),
        pair_exclude_types=[(1, 1)],
        preset_out_bias=[None, 2.0],
        isolated_energies=[-3.0, None],
    )


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
    model.change_type_map(new, seed=1)
    assert model.type_map == new == tuple(model.descriptor.get_type_map())
    again = EnergyModel.deserialize(model.serialize())
    for each in (model, again):
        after = energies_of(each, [frame_of(new, shared)], ROOM)[:8]
        np.testing.assert_allclose(after, before, rtol=0, atol=1e-12)


def test_what_belongs_to_types_follows_their_names():
    model = rich_model()
    model.change_type_map(("H", "C", "O"))
    assert model.bias == (2.0, 0.0, -3.0)
    assert model.preset_out_bias == (2.0, None, None)
    assert model.isolated_energies == (None, None, -3.0)
    assert model.fixed_bias == (2.0, None, -3.0)
    assert model.pair_exclude_types == ((0, 0),)
    model.change_type_map(("O", "C"))
    assert model.preset_out_bias is None
    assert model.pair_exclude_types == ()


def test_excluded_types_follow_too():
    plain = tiny_model()
    model = EnergyModel(plain.descriptor, plain.fitting, OLD, np.array([-3.0, 2.0]), atom_exclude_types=[0])
    model.change_type_map(("H", "O"))
    assert model.atom_exclude_types == (1,)
    assert model.bias == (2.0, 0.0)


def test_new_types_take_statistics_and_bias_of_another_model():
    model, other = tiny_model(), tiny_model(seed=5)
    other.change_type_map(("C", "O"))
    other.set_bias(np.array([7.0, 8.0]))
    other.descriptor.se_atten.set_statistics(np.full((2, 4), 0.1), np.full((2, 4), 0.3))
    old = np.asarray(model.descriptor.se_atten.stddev[...])
    model.change_type_map(("C", "O"), seed=1, statistics_from=other)
    assert model.bias == (7.0, -3.0)
    new = np.asarray(model.descriptor.se_atten.stddev[...])
    np.testing.assert_array_equal(new[0], 0.3)
    np.testing.assert_array_equal(new[1], old[0])


def test_statistics_of_other_types_are_refused():
    with pytest.raises(InputError, match=r"statistics for the types C O cannot come from a model of O H"):
        tiny_model().change_type_map(("C", "O"), statistics_from=tiny_model())
