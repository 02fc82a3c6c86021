"""The application: its commands, and what surrounds each of them.

Nothing here or at the top of a command's file imports JAX, so that `dpax --help` is instant.
"""

import sys
import warnings
from io import TextIOWrapper
from typing import Annotated

import typer

from dpax.cli.change_bias import change_bias
from dpax.cli.command import Command
from dpax.cli.compress import compress
from dpax.cli.convert import convert
from dpax.cli.convert_data import convert_data
from dpax.cli.deepmd_commands import Commands
from dpax.cli.eval_desc import eval_desc
from dpax.cli.evaluate import evaluate
from dpax.cli.export import export
from dpax.cli.failures import guarded, show_warning
from dpax.cli.freeze import freeze
from dpax.cli.inspect import inspect
from dpax.cli.ipi import ipi
from dpax.cli.many_values import many_values
from dpax.cli.md import md
from dpax.cli.model_devi import model_devi
from dpax.cli.neighbor_stat import neighbor_stat
from dpax.cli.relax import relax
from dpax.cli.show import show
from dpax.cli.sources import KEYS, LAMMPS_TYPES, SYSTEM, TYPE_MAP
from dpax.cli.test import compare
from dpax.cli.train import train
from dpax.cli.validate import validate
from dpax.version import __version__

app = typer.Typer(
    name="dpax",
    help="Train and use DPA-1 machine-learning potentials.",
    cls=Commands,
    context_settings={"help_option_names": ["-h", "--help"]},
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
)
app.command("train", cls=Command)(train)
app.command("test", cls=many_values(*SYSTEM, KEYS))(compare)
app.command("eval", cls=many_values(LAMMPS_TYPES))(evaluate)
app.command("eval-desc", cls=many_values(*SYSTEM))(eval_desc)
app.command("model-devi", cls=many_values("--models", "-m", *SYSTEM, KEYS))(model_devi)
app.command("md", cls=many_values(LAMMPS_TYPES))(md)
app.command("relax", cls=many_values(LAMMPS_TYPES))(relax)
app.command("validate", cls=Command)(validate)
app.command("convert-data", cls=many_values(*TYPE_MAP, KEYS))(convert_data)
app.command("neighbor-stat", cls=many_values(*SYSTEM, *TYPE_MAP))(neighbor_stat)
app.command("inspect", cls=Command)(inspect)
app.command("show", cls=Command)(show)
app.command("convert", cls=Command)(convert)
app.command("convert-backend", cls=Command, help="The same as convert, by DeePMD-kit's name.")(convert)
app.command("freeze", cls=Command)(freeze)
app.command("export", cls=Command)(export)
app.command("ipi", cls=many_values(LAMMPS_TYPES))(ipi)
app.command("compress", cls=Command)(compress)
app.command("change-bias", cls=many_values(*SYSTEM, "--bias-value", "-b", KEYS))(change_bias)


def _print_version(wanted: bool) -> bool:
    if wanted:
        typer.echo(f"dpax {__version__}")
        raise typer.Exit
    return wanted


@app.callback()
def _options(
    version: Annotated[
        bool, typer.Option("--version", callback=_print_version, is_eager=True, help="Show the version.")
    ] = False,
) -> None:
    """Train and use DPA-1 machine-learning potentials."""


def main() -> None:
    """Run the command line; exit code 0, or 2 for a mistake of the user, or 1 for a failure of dpax."""
    warnings.showwarning = show_warning
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, TextIOWrapper):
            # A name or a unit that the terminal's encoding lacks is no reason to fail.
            stream.reconfigure(errors="backslashreplace")
    with guarded():
        app()
