"""Ground-state electron configurations of the neutral atoms, as input of the type embedding."""

from collections.abc import Mapping

import numpy as np
from ase.data import atomic_numbers

from dpax.errors import InputError

# The occupied subshells up to oganesson, in the order of the vector's entries: by n, then by l.
# fmt: off
SUBSHELLS = (
    "1s", "2s", "2p", "3s", "3p", "3d", "4s", "4p", "4d", "4f",
    "5s", "5p", "5d", "5f", "6s", "6p", "6d", "7s", "7p",
)
# fmt: on
SPIN_ORBITALS = 118
_ANGULAR = {"s": 0, "p": 1, "d": 2, "f": 3}

# Where the ground state departs from the Madelung rule: occupations that replace the rule's. Measured up to
# Cm (NIST Atomic Spectra Database). Lr, Ds and Rg are what DeePMD-kit's models were trained with: Lr by the
# rule, Ds and Rg like Pt and Au, although relativistic theory favours Lr 7s² 7p¹, Ds 6d⁸ 7s² and Rg 6d⁹ 7s².
_EXCEPTIONS: Mapping[str, Mapping[str, int]] = {
    "Cr": {"3d": 5, "4s": 1},
    "Cu": {"3d": 10, "4s": 1},
    "Nb": {"4d": 4, "5s": 1},
    "Mo": {"4d": 5, "5s": 1},
    "Ru": {"4d": 7, "5s": 1},
    "Rh": {"4d": 8, "5s": 1},
    "Pd": {"4d": 10, "5s": 0},
    "Ag": {"4d": 10, "5s": 1},
    "La": {"4f": 0, "5d": 1},
    "Ce": {"4f": 1, "5d": 1},
    "Gd": {"4f": 7, "5d": 1},
    "Pt": {"5d": 9, "6s": 1},
    "Au": {"5d": 10, "6s": 1},
    "Ac": {"5f": 0, "6d": 1},
    "Th": {"5f": 0, "6d": 2},
    "Pa": {"5f": 2, "6d": 1},
    "U": {"5f": 3, "6d": 1},
    "Np": {"5f": 4, "6d": 1},
    "Cm": {"5f": 7, "6d": 1},
    "Ds": {"6d": 9, "7s": 1},
    "Rg": {"6d": 10, "7s": 1},
}


def occupations(symbol: str) -> dict[str, int]:
    """Number of electrons in each of `SUBSHELLS` for a neutral atom in its ground state.

    Args:
        symbol: chemical symbol, H to Og.

    Raises:
        InputError: `symbol` is no element.
    """
    left = atomic_numbers.get(symbol, 0)
    if not 1 <= left <= SPIN_ORBITALS:
        raise InputError(
            f"'{symbol}' is not a chemical element, and the electron-configuration type embedding needs one: "
            "write H to Og in type_map, or set use_econf_tebd to false."
        )
    filled: dict[str, int] = dict.fromkeys(SUBSHELLS, 0)
    for name in sorted(SUBSHELLS, key=_madelung):
        filled[name] = min(left, 2 * _orbitals(name))
        left -= filled[name]
    return {**filled, **_EXCEPTIONS.get(symbol, {})}


def electron_configuration(symbol: str) -> np.ndarray:
    """Occupation of the spin orbitals of a neutral atom, scaled to a unit vector.

    The subshells stand in the order of `SUBSHELLS`, each with two entries (two spins) for each of its
    orbitals. Electrons follow Hund's rule: the first orbitals hold pairs, the next ones a single electron,
    which is written in the second of the two entries.

    Args:
        symbol: chemical symbol, H to Og.

    Returns:
        float64 [118]: +1/√118 where there is an electron, -1/√118 where there is none.

    Raises:
        InputError: `symbol` is no element.
    """
    spins = [_spins(electrons, _orbitals(name)) for name, electrons in occupations(symbol).items()]
    return np.where(np.concatenate(spins), 1.0, -1.0) / np.sqrt(SPIN_ORBITALS)


def _orbitals(subshell: str) -> int:
    return 2 * _ANGULAR[subshell[1]] + 1


def _madelung(subshell: str) -> tuple[int, int]:
    n = int(subshell[0])
    return n + _ANGULAR[subshell[1]], n


def _spins(electrons: int, orbitals: int) -> np.ndarray:
    """Bool [2·orbitals]: which spin orbitals of a subshell are occupied."""
    orbital = np.arange(orbitals)
    second = orbital < electrons
    first = orbital < electrons - orbitals
    return np.stack([first, second], axis=1).ravel()
