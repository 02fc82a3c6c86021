"""The units of dpax, and factors to and from those of other programs (CODATA 2018).

Inside dpax: energies eV, lengths Å, masses amu (daltons), time fs where a person reads or writes it.
A factor named `A_PER_B` multiplies a number in B and gives a number in A. Masses of 1 amu move under
forces in eV/Å with accelerations in `VELOCITY_SQUARED` Å²/fs² per eV/amu.
"""

from math import sqrt

BOLTZMANN = 8.617333262145e-5
"""eV/K."""
EV_PER_HARTREE = 27.211386245988
"""eV per hartree, the atomic unit of energy."""
ANGSTROM_PER_BOHR = 0.529177210903
"""Å per bohr, the atomic unit of length."""
FS_PER_ATOMIC_TIME = 0.024188843265857
"""fs per atomic unit of time."""
GPA_PER_EV_PER_CUBIC_ANGSTROM = 160.2176634
"""GPa per eV/Å³, exact: 1 eV is 1.602176634e-19 J."""
BAR_PER_EV_PER_CUBIC_ANGSTROM = 1.0e4 * GPA_PER_EV_PER_CUBIC_ANGSTROM
"""bar per eV/Å³."""
VELOCITY_SQUARED = 9.648533212331e-3
"""Å²/fs² per eV/amu: (1 eV / 1 amu) in Å²/fs²."""
FS_PER_NATURAL_TIME = 1.0 / sqrt(VELOCITY_SQUARED)
"""fs per sqrt(amu Å²/eV), the unit of time in which eV, Å and amu need no factor: 10.18 fs."""
