"""`dpax eval`: energies, forces and stresses of structures."""

from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from dpax.cli.start import Branch, Devices, load_potential
from dpax.errors import InputError, brief

if TYPE_CHECKING:
    from ase import Atoms

    from dpax.infer import Evaluation, Potential

_ATOMS_AT_ONCE = 4096


def evaluate(
    structures: Annotated[Path, typer.Argument(help="File of structures in any format that ASE reads.")],
    model: Annotated[Path, typer.Option("--model", "-m", help="Model file.")],
    output: Annotated[Path, typer.Option("--output", "-o", help="Extended XYZ file to write.")],
    overwrite: Annotated[bool, typer.Option("--overwrite", help="Replace the output if it exists.")] = False,
    branch: Branch = None,
    devices: Devices = None,
) -> None:
    """Evaluate every structure of a file and write them with energy, forces and stress."""
    from ase.io.extxyz import write_extxyz

    _check_output(output, overwrite)
    potential = load_potential(model, devices, branch)
    partial = output.with_name(f"{output.name}.part")
    count = 0
    try:
        with partial.open("w", encoding="utf-8") as file:
            for atoms, evaluation in _evaluated(potential, structures):
                write_extxyz(file, [with_results(atoms, evaluation)])
                count += 1
        partial.replace(output)
    finally:
        partial.unlink(missing_ok=True)
    typer.echo(f"{count} structure{'s' * (count != 1)} evaluated: {output}")


def _evaluated(potential: "Potential", path: Path) -> Iterator[tuple["Atoms", "Evaluation"]]:
    """The structures of a file with their results, as many at a time as are worth evaluating together."""
    from dpax.data import frame_from_atoms

    for group in _groups(_read(path)):
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
    if not output.absolute().parent.is_dir():
        raise InputError(f"{output}: the folder {output.parent} does not exist")
    if output.exists() and not overwrite:
        raise InputError(f"{output} exists already; give another name, or --overwrite to replace it")


def _read(path: Path) -> Iterator["Atoms"]:
    """The structures of a file, one at a time: it may be longer than the memory."""
    from ase.io import iread

    from dpax.data.ase_checks import check_before_ase

    if not path.is_file():
        raise InputError(f"{path}: no such file")
    check_before_ase(path, str(path))
    try:
        yield from iread(path, index=":")
    except Exception as error:  # ASE's readers raise whatever their parsing runs into
        raise InputError(f"{path}: ASE cannot read this file ({brief(error)})") from error
