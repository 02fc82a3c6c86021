"""Unit factors against ASE's, an independent table (CODATA 2014, hence the tolerance)."""

import ase.units
import pytest

from dpax.geometry import units


@pytest.mark.parametrize(
    ("ours", "theirs"),
    [
        (units.BOLTZMANN, ase.units.kB),
        (units.EV_PER_HARTREE, ase.units.Hartree),
        (units.ANGSTROM_PER_BOHR, ase.units.Bohr),
        (units.FS_PER_ATOMIC_TIME, ase.units.AUT / ase.units.fs),
        (units.GPA_PER_EV_PER_CUBIC_ANGSTROM, 1.0 / ase.units.GPa),
        (units.BAR_PER_EV_PER_CUBIC_ANGSTROM, 1.0 / ase.units.bar),
        (units.FS_PER_NATURAL_TIME, 1.0 / ase.units.fs),
        (units.VELOCITY_SQUARED, ase.units.fs**2),
    ],
)
def test_factors_agree_with_ase(ours, theirs):
    assert ours == pytest.approx(theirs, rel=1e-6)
