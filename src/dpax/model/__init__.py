"""The energy model: its description, atomic energies, derivatives by blocks of atoms, and its file."""
