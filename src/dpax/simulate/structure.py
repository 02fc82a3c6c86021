"""The structure that a simulation starts from, and the name of the file that one ends in."""

import math
from collections.abc import Sequence
from pathlib import Path

import ase
from ase.io.formats import UnknownFileTypeError, filetype, ioformats

from dpax.data.structure_files import iterate_structures
from dpax.errors import InputError
from dpax.files import check_output

MOST_ATOMS = 10**8
"""More have no room in the memory of any machine."""


def read_structure(
    path: Path,
    index: int = -1,
    supercell: tuple[int, int, int] = (1, 1, 1),
    lammps_types: Sequence[str] = (),
) -> ase.Atoms:
    """Read one structure of a file.

    Args:
        path: any file that ASE reads.
        index: which of several structures; negative numbers count from the last one.
        supercell: how often it is repeated along each lattice vector.
        lammps_types: the elements of the types 1, 2, … of a LAMMPS file that names none.

    Raises:
        InputError: no such file or structure, or a repetition along a direction that is not periodic.
    """
    if not path.is_file():
        raise InputError(f"{path}: no such file")
    structures = list(iterate_structures(path, str(path), index, lammps_types))
    if not structures:
        raise InputError(f"{path}: has no structure with the index {index}")
    atoms = structures[0]
    if min(supercell) < 1:
        raise InputError(
            f"--supercell: should be three positive numbers, got {' '.join(map(str, supercell))}"
        )
    if len(atoms) * math.prod(supercell) > MOST_ATOMS:
        raise InputError(
            f"--supercell: {path} would become more than {MOST_ATOMS} atoms; repeat it less often"
        )
    for direction, (times, periodic) in enumerate(zip(supercell, atoms.pbc, strict=True)):
        if times > 1 and not periodic:
            raise InputError(
                f"--supercell: {path} is not periodic along lattice vector {direction + 1}, so it cannot be "
                f"repeated {times} times along it"
            )
    return atoms if supercell == (1, 1, 1) else atoms.repeat(supercell)


def check_elements(atoms: ase.Atoms, type_map: Sequence[str], path: Path) -> None:
    """Check that a potential knows all elements of a structure that was read.

    Raises:
        InputError: it does not; the message names the file and the elements.
    """
    missing = sorted(set(atoms.symbols) - set(type_map))
    if missing:
        raise InputError(
            f"{path}: contains {', '.join(missing)}, which the model does not know; its elements are "
            f"{', '.join(type_map)}"
        )


def output_format(path: Path, overwrite: bool) -> str:
    """The name of the format that ASE writes into a file, by its ending.

    Raises:
        InputError: it cannot be told or ASE does not write it, the folder is missing, or the file is
            there and not to be replaced.
    """
    check_output(path, overwrite=overwrite)
    try:
        name = filetype(str(path.absolute()), read=False)
    except UnknownFileTypeError:
        name = ""
    if name not in ioformats or not ioformats[name].can_write:
        raise InputError(f"{path}: ASE writes no format of this name; end it in .xyz, .cif, .traj or .vasp")
    return name
