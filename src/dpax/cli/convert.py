"""`dpax convert`: a model file of another kind."""

from pathlib import Path
from typing import Annotated

import typer

from dpax.cli.outputs import refuse_inputs
from dpax.cli.start import Branch, start_jax
from dpax.files import check_output


def convert(
    source: Annotated[
        Path, typer.Argument(metavar="IN", help="Model file: .dpax, .dp, .yaml, .hlo, .jax, .pt or .pth.")
    ],
    target: Annotated[Path, typer.Argument(metavar="OUT", help="Model file to write: .dpax, .dp or .yaml.")],
    branch: Branch = None,
    overwrite: Annotated[bool, typer.Option("--overwrite", help="Replace the output if it exists.")] = False,
) -> None:
    """Convert between dpax's model files and DeePMD-kit's.

    Both models are evaluated on random structures; nothing is written if they differ.
    """
    check_output(target, overwrite=overwrite)
    refuse_inputs(target, source)
    start_jax(devices=1)
    from dpax.interfaces.conversion import convert as convert_file

    agreement = convert_file(source, target, branch)
    typer.echo(f"{target}: written; read again it agrees with {source}: {agreement}")
