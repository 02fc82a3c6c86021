"""Energies are DeePMD-kit's, for models exchanged as dictionaries in both directions."""

import numpy as np
import pytest

from dpax.deepmd.model_dictionary import model_dictionary, read_model
from dpax.geometry.neighborhoods import Capacity
from oracle.deepmd_model import evaluate as deepmd_evaluate
from oracle.deepmd_model import make_model, structures

from .support import energies_of

STRUCTURES = structures()
OPTIONS = [
    {},
    {"tebd_input_mode": "strip", "smooth_type_embedding": True},
    {"smooth_type_embedding": False, "attn_layer": 1},
    {"exclude_types": [[0, 1]], "lmax": 3, "resnet_dt": True},
    {"attn_layer": 0, "tebd_input_mode": "strip", "type_one_side": True},
    {"use_econf_tebd": True, "use_tebd_bias": True, "env_protection": 0.1},
]
FITTINGS = [
    {},
    {"neuron": [8, 16, 16], "resnet_dt": False, "activation_function": "silu"},
    {"neuron": [], "activation_function": "gelu"},
]
CASES = [
    *((1, options, FITTINGS[number % 3]) for number, options in enumerate(OPTIONS)),
    *((1, {}, fitting) for fitting in FITTINGS[1:]),
    *((2, {}, fitting) for fitting in FITTINGS),
    (2, OPTIONS[3], FITTINGS[1]),
]


@pytest.mark.parametrize(("version", "options", "fitting"), CASES)
def test_energies_equal_deepmd(version, options, fitting):
    """Together with all frames in one batch: a frame's energy does not depend on its company."""
    reference = make_model(version, ["O", "H"], options, fitting, random_statistics=True)
    model = read_model(reference.serialize())
    back = type(reference).deserialize(model_dictionary(model))
    frames = [(s.coord, s.atype, s.box, [s.box is not None] * 3) for s in STRUCTURES.values()]
    energies = energies_of(model, frames, Capacity(atoms=56, slots=64))
    start = 0
    for structure in STRUCTURES.values():
        energy, atomic = deepmd_evaluate(reference, *structure)
        got = energies[start : start + len(atomic)]
        np.testing.assert_allclose(got, atomic, rtol=1e-10, atol=1e-12)
        np.testing.assert_allclose(got.sum(), energy, rtol=1e-10)
        np.testing.assert_array_equal(deepmd_evaluate(back, *structure)[1], atomic)
        start += len(atomic)
