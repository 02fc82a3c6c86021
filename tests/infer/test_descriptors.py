"""The descriptors of a potential are those of DeePMD-kit's model."""

import numpy as np
import pytest

from dpax.infer import Potential
from dpax.model.potential import EnergyModel
from infer.test_potential import atoms_of
from oracle.deepmd_model import evaluate_descriptor, make_model, structures


@pytest.mark.parametrize("version", [1, 2])
def test_descriptors_of_deepmd_kit(version):
    options = {"attn_layer": 1, "neuron": [4, 8]}
    model = make_model(version, descriptor_options=options, random_statistics=version == 2)
    some = list(structures().values())[:4]
    found = Potential(EnergyModel.deserialize(model.serialize())).descriptors([atoms_of(one) for one in some])
    for one, array in zip(some, found, strict=True):
        expected, _ = evaluate_descriptor(model.atomic_model.descriptor, *one)
        np.testing.assert_allclose(array, expected, rtol=0, atol=1e-12 * np.abs(expected).max())
