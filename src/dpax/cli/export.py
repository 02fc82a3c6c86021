"""`dpax export`: a program that runs with JAX alone."""

from pathlib import Path
from typing import Annotated

import typer

from dpax.cli.start import Branch, load_potential


def export(
    model: Annotated[Path, typer.Argument(help="Model file.")],
    output: Annotated[Path, typer.Option("--output", "-o", help="Folder to make.")],
    platforms: Annotated[
        str, typer.Option(help="Platforms that the program is to run on, with commas between.")
    ] = "cpu,cuda,rocm,tpu",
    branch: Branch = None,
) -> None:
    """Write energy, forces and virial as a StableHLO program that needs jax, but not dpax."""
    potential = load_potential(model, devices=1, branch=branch)
    from dpax.interfaces.export import export_potential

    worst = export_potential(potential, output, [name.strip() for name in platforms.split(",")])
    typer.echo(f"{output}: differs from the model by at most {max(worst.values()):.0e} (run.py checks it)")
