"""Cells, neighbours and the names of recurring arrays; nothing here knows of models."""
