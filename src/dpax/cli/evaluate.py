"""`dpax eval`: energies, forces and stresses of structures."""

from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from dpax.cli.outputs import refuse_inputs
from dpax.cli.sources import LammpsTypesOption
from dpax.cli.start import Branch, Devices, load_potential
from dpax.errors import InputError
from dpax.files import check_output, replacing

if TYPE_CHECKING:
    from ase import Atoms

    from dpax.infer import Evaluation, Potential

_ATOMS_AT_ONCE = 4096


def evaluate(
    structures: Annotated[Path, typer.Argument(help="File of structures in any format that ASE reads.")],
    model: Annotated[Path, typer.Option("--model", "-m", help="Model file.")],
    output: Annotated[Path, typer.Option("--output", "-o", help="Extended XYZ file to write.")],
    type_map: LammpsTypesOption = None,
    overwrite: Annotated[bool, typer.Option("--overwrite", help="Replace the output if it exists.")] = False,
    branch: Branch = None,
    devices: Devices = None,
) -> None:
    """Evaluate every structure of a file and write them with energy, forces and stress."""
    from ase.io.extxyz import write_extxyz

    _check_output(output, overwrite)
    refuse_inputs(output, model, structures)
    potential = load_potential(model, devices, branch)
    count = 0
    with replacing(output) as partial, partial.open("w", encoding="utf-8") as file:
        for atoms, evaluation in _evaluated(potential, structures, type_map or ()):
            write_extxyz(file, [with_results(atoms, evaluation)])
            count += 1
    typer.echo(f"{count} structure{'s' * (count != 1)} evaluated: {output}")


def _evaluated(
    potential: "Potential", path: Path, lammps_types: Sequence[str]
) -> Iterator[tuple["Atoms", "Evaluation"]]:
    """The structures of a file with their results, as many at a time as are worth evaluating together."""
    from dpax.data import frame_from_atoms
    from dpax.data.structure_files import iterate_structures

    if not path.is_file():
        raise InputError(f"{path}: no such file")
    for group in _groups(iterate_structures(path, str(path), lammps_types=lammps_types)):
        frames = [
            frame_from_atoms(atoms, potential.type_map, f"{path} frame {number}") for number, atoms in group
        ]
        yield from zip((atoms for _, atoms in group), potential.evaluate(frames), strict=True)


def _groups(structures: Iterator["Atoms"]) -> Iterator[list[tuple[int, "Atoms"]]]:
    """Numbered structures in their order, with about `_ATOMS_AT_ONCE` atoms together."""
    group: list[tuple[int, Atoms]] = []
    for number, atoms in enumerate(structures):
        group.append((number, atoms))
        if sum(len(atoms) for _, atoms in group) >= _ATOMS_AT_ONCE:
            yield group
            group = []
    if group:
        yield group


def with_results(atoms: "Atoms", evaluation: "Evaluation") -> "Atoms":
    """The same structure with energy (eV), forces (eV/Å) and, in a cell, stress (eV/Å³)."""
    from ase.calculators.singlepoint import SinglePointCalculator

    results = {"energy": evaluation.energy, "forces": evaluation.forces}
    if evaluation.volume is not None:
        results["stress"] = evaluation.stress
    described = atoms.copy()
    described.calc = SinglePointCalculator(described, **results)
    return described


def _check_output(output: Path, overwrite: bool) -> None:
    if output.suffix not in (".xyz", ".extxyz"):
        raise InputError(f"{output}: the output is extended XYZ; give it a name ending in .xyz or .extxyz")
    check_output(output, overwrite=overwrite)
