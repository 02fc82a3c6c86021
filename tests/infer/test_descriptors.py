"""The descriptors of a potential are those of DeePMD-kit's model."""

import numpy as np
import pytest

from dpax.deepmd.model_dictionary import read_model
from dpax.infer import Potential
from infer.test_potential import atoms_of
from oracle.deepmd_model import evaluate_descriptor, extended_input, make_model, structures


@pytest.mark.parametrize("version", [1, 2])
def test_descriptors_of_deepmd_kit(version):
    options = {"attn_layer": 1, "neuron": [4, 8]}
    model = make_model(version, descriptor_options=options, random_statistics=version == 2)
    some = list(structures().values())[:4]
    found = Potential(read_model(model.serialize())).descriptors([atoms_of(one) for one in some])
    for one, array in zip(some, found, strict=True):
        expected, _ = evaluate_descriptor(model.atomic_model.descriptor, *one)
        np.testing.assert_allclose(array, expected, rtol=0, atol=1e-12 * np.abs(expected).max())


def test_excluded_pairs_are_not_described():
    model = make_model(2, descriptor_options={"attn_layer": 0}, pair_exclude_types=[[0, 1]])
    one = structures()["triclinic"]
    descriptor, pairs = model.atomic_model.descriptor, model.atomic_model.pair_excl
    coord, types, neighbors, mapping = extended_input(descriptor, *one)
    seen = np.where(pairs.build_type_exclude_mask(neighbors, types), neighbors, -1)
    expected = descriptor.call(coord, types, seen, mapping)[0][0]
    found = Potential(read_model(model.serialize())).descriptors([atoms_of(one)])[0]
    np.testing.assert_allclose(found, expected, rtol=0, atol=1e-12 * np.abs(expected).max())
