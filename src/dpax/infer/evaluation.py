"""What a potential says of one structure."""

from dataclasses import dataclass

import numpy as np

from dpax.errors import InputError

_VOIGT = ((0, 1, 2, 1, 0, 0), (0, 1, 2, 2, 2, 1))
"""Rows and columns of xx, yy, zz, yz, xz, xy."""


@dataclass(frozen=True)
class Evaluation:
    """What a potential says of one structure."""

    energy: float
    """eV."""
    energies: np.ndarray
    """[atoms], eV."""
    forces: np.ndarray
    """[atoms, 3], eV/Å."""
    virial: np.ndarray
    """[3, 3], eV; -dE/d(strain)."""
    volume: float | None
    """Å³; None unless periodic in all directions."""
    virials: np.ndarray | None = None
    """[atoms, 3, 3], eV, where asked for; they add up to `virial`."""

    @property
    def stress(self) -> np.ndarray:
        """Stress in ASE's sign and order xx, yy, zz, yz, xz, xy, eV/Å³.

        Raises:
            InputError: the structure is not periodic in all directions, so it has no volume.
        """
        return _voigt_stress(self.virial, self.volume)

    @property
    def stresses(self) -> np.ndarray:
        """Each atom's share of the stress, [atoms, 6], eV/Å³.

        Raises:
            InputError: no volume, or `virials` were not asked for.
        """
        if self.virials is None:
            raise InputError("atomic stresses need evaluate(..., atomic_virials=True)")
        return _voigt_stress(self.virials, self.volume)


def _voigt_stress(virial: np.ndarray, volume: float | None) -> np.ndarray:
    if volume is None:
        raise InputError("the stress needs a structure that is periodic in all three directions")
    symmetric = 0.5 * (virial + np.swapaxes(virial, -1, -2))
    return -symmetric[..., _VOIGT[0], _VOIGT[1]] / volume
