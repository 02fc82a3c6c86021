"""dpax: from quantum-mechanical data to molecular dynamics with a DPA-1 potential, in pure JAX."""

__version__ = "0.1.0"
