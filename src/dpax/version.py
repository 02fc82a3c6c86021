"""The version of dpax, which model files and runs record."""

__version__ = "0.1.0"
