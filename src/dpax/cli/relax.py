"""`dpax relax`: relax a structure."""

from pathlib import Path
from typing import Annotated

import typer

from dpax.cli.md import Index, Structure
from dpax.cli.outputs import refuse_inputs
from dpax.cli.sources import LammpsTypesOption
from dpax.cli.start import Branch, Devices, load_potential
from dpax.errors import InputError
from dpax.files import replacing
from dpax.simulate.settings import OptimizerName


def relax(
    model: Annotated[Path, typer.Argument(help="Model file.")],
    structure: Structure,
    output: Annotated[
        Path,
        typer.Option("--output", "-o", help="File for the relaxed structure, in any format that ASE writes."),
    ],
    cell: Annotated[bool, typer.Option("--cell", help="Relax the cell too.")] = False,
    pressure: Annotated[float, typer.Option(help="Pressure to which the cell is relaxed, bar.")] = 0.0,
    fmax: Annotated[float, typer.Option(help="Largest force at the end, eV/Å.")] = 0.01,
    steps: Annotated[int, typer.Option("--steps", "-n", help="Steps after which to give up.")] = 1000,
    optimizer: Annotated[OptimizerName, typer.Option(help="ASE's optimizer.")] = "BFGS",
    index: Index = -1,
    type_map: LammpsTypesOption = None,
    overwrite: Annotated[bool, typer.Option("--overwrite", help="Replace the output if it exists.")] = False,
    branch: Branch = None,
    devices: Devices = None,
) -> None:
    """Relax the positions of a structure, and with --cell its cell."""
    from ase.io import write

    from dpax.simulate.structure import check_elements, output_format, read_structure

    file_format = output_format(output, overwrite)
    refuse_inputs(output, model, structure)
    atoms = read_structure(structure, index, lammps_types=type_map or ())
    potential = load_potential(model, devices, branch)
    check_elements(atoms, potential.type_map, structure)
    from dpax.simulate.relax import relax as relaxed

    result = relaxed(
        potential,
        atoms,
        cell=cell,
        pressure=pressure,
        fmax=fmax,
        steps=steps,
        optimizer=optimizer,
        report=lambda step, energy, force: typer.echo(f"step {step}: {energy:.6f} eV, {force:.5f} eV/Å"),
    )
    with replacing(output) as temporary:
        write(temporary, result.atoms, format=file_format)
    if not result.converged:
        raise InputError(
            f"not relaxed after {result.steps} steps: the largest force is {result.fmax:.3g} eV/Å, above "
            f"--fmax {fmax:g}; {output} holds the structure so far, from which more --steps or another "
            "--optimizer may continue"
        )
    typer.echo(f"relaxed in {result.steps} steps: {output}")
