"""Simulations with a potential: molecular dynamics and relaxations by ASE, as `dpax md` and `dpax relax` run.

Importing this loads nothing else, so that the command line may look up defaults in `settings` at once.
"""
