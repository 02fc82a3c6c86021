import numpy as np
import pytest
from ase.data import atomic_numbers, chemical_symbols

from dpax.errors import InputError
from dpax.nn.electron_configuration import SPIN_ORBITALS, electron_configuration, occupations

ELEMENTS = chemical_symbols[1:119]


def test_every_element_equals_deepmd_kit():
    table = pytest.importorskip("deepmd.utils.econf_embd").normalized_electronic_configuration_embedding
    assert sorted(table) == sorted(ELEMENTS)
    for symbol in ELEMENTS:
        np.testing.assert_array_equal(electron_configuration(symbol), table[symbol], err_msg=symbol)


@pytest.mark.parametrize("symbol", ELEMENTS)
def test_a_neutral_atom_has_as_many_electrons_as_protons(symbol):
    vector = electron_configuration(symbol)
    assert vector.shape == (SPIN_ORBITALS,)
    assert vector.dtype == np.float64
    assert np.count_nonzero(vector > 0) == atomic_numbers[symbol] == sum(occupations(symbol).values())
    np.testing.assert_allclose(np.linalg.norm(vector), 1.0)


def test_no_two_elements_share_a_vector():
    assert len({electron_configuration(symbol).tobytes() for symbol in ELEMENTS}) == len(ELEMENTS)


@pytest.mark.parametrize(
    ("symbol", "expected"),
    [
        ("O", {"2s": 2, "2p": 4}),
        ("K", {"3d": 0, "4s": 1}),
        ("Cr", {"3d": 5, "4s": 1}),
        ("Cu", {"3d": 10, "4s": 1}),
        ("Pd", {"4d": 10, "5s": 0}),
        ("U", {"5f": 3, "6d": 1, "7s": 2}),
    ],
)
def test_known_ground_states(symbol, expected):
    assert expected.items() <= occupations(symbol).items()


def test_oxygen_pairs_one_of_its_three_p_orbitals():
    # 1s, 2s, then 2p as (paired, single, single): Hund's rule, the single electrons in the second entry.
    signs = (electron_configuration("O") > 0).astype(int)
    assert signs[:10].tolist() == [1, 1, 1, 1, 1, 1, 0, 1, 0, 1]
    assert not signs[10:].any()


@pytest.mark.parametrize("symbol", ["X", "Xx", "", "o", "H2"])
def test_an_unknown_symbol_is_named(symbol):
    with pytest.raises(InputError, match=f"'{symbol}' is not a chemical element"):
        electron_configuration(symbol)
