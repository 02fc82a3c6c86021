"""The command line."""

from dpax.cli.app import main as main
