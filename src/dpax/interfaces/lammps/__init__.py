"""LAMMPS: `pair_style dpax`, a plugin compiled on first use, and `fix external`, which needs no compiler.

LAMMPS imports this package whenever it starts, so nothing is loaded here.
"""
