"""Cells, neighbours and the names of recurring arrays; independent of any model."""
