"""Structures from any file that ASE reads, in Å and with the elements that the file names."""

import bz2
import gzip
import lzma
import tempfile
import zlib
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from io import BufferedIOBase
from itertools import chain
from pathlib import Path
from typing import IO, Any, Literal

import ase
import ase.db
import ase.io
import numpy as np
from ase.data import atomic_numbers
from ase.io.formats import filetype

from dpax.data.ase_checks import check_extxyz
from dpax.data.convergence import unconverged
from dpax.data.declared_units import declared_factors, unit_keys, unit_of
from dpax.data.frame import check_numbers
from dpax.data.label_keys import SPELLINGS
from dpax.errors import InputError, brief

_PIECE = 2**20
_MOST_PACKED = 500
"""Bytes that one byte of a compressed file may stand for; those of structures stand for ten or so."""
_ALWAYS_FINE = 2**28
"""Bytes that any compressed file may become."""
_OPENERS = {".gz": gzip.open, ".bz2": bz2.open, ".xz": lzma.open}
_DPDATA = {
    "outcar": "vasp/outcar",
    "vasprun": "vasp/xml",
    "poscar": "vasp/poscar",
    "contcar": "vasp/contcar",
    "movement": "pwmat/movement",
    "stru": "abacus/stru",
}
"""dpdata's formats, by how the names of such files begin."""


def iterate_structures(
    path: Path,
    name: str,
    index: int | Literal[":"] = ":",
    lammps_types: Sequence[str] = (),
) -> Iterator[ase.Atoms]:
    """The structures in a file without their labels, one at a time: it may be longer than the memory.

    Positions and cells are in Å, in whichever unit of length the file declares them.

    Args:
        path: any file that ASE reads, perhaps compressed (.gz, .bz2, .xz).
        name: of the file, for messages.
        index: of one structure, negative from the end, or ":" for all.
        lammps_types: the elements of the types 1, 2, … of a LAMMPS file that names none.

    Raises:
        InputError: ASE cannot read the file, a unit that is not known, or elements that nobody names.
    """
    with uncompressed(path) as plain, _ase_errors(plain, name):
        for atoms in _iterate(plain, _format(plain), name, index, lammps_types):
            yield _without_labels(atoms)


def read_structures(
    path: Path, name: str, lammps_types: Sequence[str] = ()
) -> tuple[list[ase.Atoms], list[int]]:
    """All structures in a file with their labels, and the numbers of those that did not converge.

    Args:
        path: as for `iterate_structures`.
        name: of the file, for messages.
        lammps_types: as for `iterate_structures`.

    Raises:
        InputError: as `iterate_structures`.
    """
    with uncompressed(path) as plain, _ase_errors(plain, name):
        form = _format(plain)
        structures = list(_iterate(plain, form, name, ":", lammps_types))
        return structures, unconverged(plain, form, len(structures))


def _format(path: Path) -> str:
    """ASE's name of the format of a file, which is not compressed.

    One that is called .xyz is in extended XYZ, though ASE would take `POSCAR.xyz` for VASP's. A small file is
    read in half the time where its first bytes are not compared with those of all formats.
    """
    return "extxyz" if path.suffix in (".xyz", ".extxyz") else filetype(str(path))


def _iterate(
    path: Path, form: str, name: str, index: int | Literal[":"], lammps_types: Sequence[str]
) -> Iterator[ase.Atoms]:
    """The structures in a file of one of ASE's formats, which is not compressed; in Å."""
    if form == "extxyz":
        check_extxyz(path, name, index + 1 if isinstance(index, int) and index >= 0 else None)
    header = _dump_header(path, name) if form == "lammps-dump-text" else []
    options: dict[str, Any] = {"units": _dump_units(header)} if header else {}
    number, foreign, silent = -1, None, None
    if form in ("db", "json"):
        structures = _rows_of(path, form, index)
    else:
        structures = ase.io.iread(path, index, form, do_not_split_by_at_sign=True, **options)
    for number, atoms in enumerate(structures):
        check_numbers(atoms.numbers, f"{name} frame {number}" if index == ":" else name)
        if header:
            _correct_dump(atoms, header[-1].split(), lammps_types, name)
        factors = declared_factors(atoms.info, name, present=keys_of(atoms))
        if any(factor != 1.0 for factor in factors.values()):
            foreign = number
        elif not factors:
            silent = number
        if foreign is not None and silent is not None:
            raise InputError(
                f"{name}: frame {foreign} declares units and frame {silent} declares none; declare them "
                "everywhere, or convert the file to eV and Å"
            )
        yield _in_angstrom(atoms, factors.get("length", 1.0))
    if number < 0 and index == ":":
        raise InputError(f"{name} holds no structures that ASE finds. {dpdata_advice(path)}")


@contextmanager
def _ase_errors(path: Path, name: str) -> Iterator[None]:
    """Any exception of ASE's readers, as one line."""
    try:
        yield
    except InputError:
        raise
    except Exception as error:
        raise InputError(
            f"{name} cannot be read by ASE: {brief(error)}; expected a file with structures (.extxyz, "
            f".traj, .db, OUTCAR, vasprun.xml, …). {dpdata_advice(path)}"
        ) from error


@contextmanager
def uncompressed(path: Path) -> Iterator[Path]:
    """The file itself, or a temporary decompressed copy under its name without the suffix."""
    opener = _OPENERS.get(path.suffix)
    if opener is None:
        yield path
        return
    with tempfile.TemporaryDirectory(prefix="dpax-") as folder:
        plain = Path(folder) / path.stem
        try:
            with opener(path, "rb") as packed, plain.open("wb") as file:
                _copy(packed, file, max(_MOST_PACKED * path.stat().st_size, _ALWAYS_FINE))
        except (OSError, EOFError, lzma.LZMAError, zlib.error) as error:
            raise InputError(f"{path} cannot be decompressed: {error}") from error
        yield plain


def _copy(source: BufferedIOBase, target: IO[bytes], most: int) -> None:
    """Copy a file of so many bytes at most.

    Raises:
        OSError: it has more.
    """
    copied = 0
    while piece := source.read(_PIECE):
        copied += len(piece)
        if copied > most:
            raise OSError(f"it becomes more than {_MOST_PACKED} times as large, which no structures do")
        target.write(piece)


def _rows_of(path: Path, form: str, index: int | Literal[":"]) -> Iterator[ase.Atoms]:
    """The rows of a data base of ASE, with the keys and values that ASE's own reader leaves out."""
    kind = "extract_from_name" if path.suffix in (".db", ".json", ".aselmdb") else form
    base = ase.db.connect(path, kind, serial=True)
    wanted = slice(None) if index == ":" else slice(index, int(index) + 1 or None)
    start, stop, _ = wanted.indices(base.count())
    for row in base.select(offset=start, limit=stop - start) if stop > start else ():
        atoms = row.toatoms()
        atoms.info |= row.key_value_pairs
        yield atoms


def keys_of(atoms: ase.Atoms) -> set[str]:
    """All names under which a structure has something."""
    results = getattr(atoms.calc, "results", None) or {}
    return {str(key) for key in (*results, *atoms.info, *atoms.arrays)}


def _in_angstrom(atoms: ase.Atoms, factor: float) -> ase.Atoms:
    if factor != 1.0:
        atoms.set_cell(factor * atoms.cell.array)
        atoms.set_positions(factor * atoms.positions, apply_constraint=False)
    for key in unit_keys(atoms.info, "length"):
        del atoms.info[key]
    return atoms


def _without_labels(atoms: ase.Atoms) -> ase.Atoms:
    """To be written to another file with labels of dpax; labels by other names stay, with their units."""
    atoms.calc = None
    for key in chain(*SPELLINGS.values()):
        atoms.info.pop(key, None)
        atoms.arrays.pop(key, None)
    others = keys_of(atoms)
    for key in unit_keys(atoms.info):
        if unit_of(key) not in others:
            del atoms.info[key]
    return atoms


def dpdata_advice(path: Path) -> str:
    """What to do with a file that ASE does not read."""
    name = path.name.lower()
    form = next((form for start, form in _DPDATA.items() if name.startswith(start)), "FORMAT")
    return f"If dpdata reads it: `dpax convert-data --dpdata-format {form}`"


# LAMMPS


def _dump_header(path: Path, name: str) -> list[str]:
    """The lines of a dump up to the columns of its first frame.

    Raises:
        InputError: another frame has other columns or units, which ASE would take for those of the first.
    """
    lines: list[str] = []
    with path.open(encoding="utf-8", errors="replace") as file:
        for line in file:
            lines.append(line)
            if line.startswith("ITEM: ATOMS"):
                break
        for line in file:
            columns = line.startswith("ITEM: ATOMS") and line.split() != lines[-1].split()
            if columns or (line.startswith("ITEM: UNITS") and next(file, "").strip() != _dump_units(lines)):
                raise InputError(
                    f"{name}: its frames have different columns or units; make a file of each kind"
                )
    return lines


def _dump_units(header: Sequence[str]) -> str:
    """The units that a dump declares (`dump_modify units yes`); metal if it does not."""
    return next((header[n + 1].strip() for n, line in enumerate(header) if "ITEM: UNITS" in line), "metal")


def _correct_dump(atoms: ase.Atoms, columns: Sequence[str], names: Sequence[str], source: str) -> None:
    """Remove what ASE invents where a dump has nothing: an energy of 0, and elements."""
    if atoms.calc is not None:
        atoms.calc.results.pop("energy", None)
    if "element" in columns:
        return
    types = atoms.arrays["type"]
    if not names:
        raise InputError(
            f"{source}: has the atom types of LAMMPS, but no elements; name those of the "
            "types 1, 2, … with --type-map (for a training run: `dpax convert-data --type-map`), or write "
            "the dump with `dump_modify element`"
        )
    unknown = [name for name in names if name not in atomic_numbers]
    if unknown or types.min() < 1 or types.max() > len(names):
        raise InputError(
            f"{source}: its atoms are of the LAMMPS types {types.min()} to {types.max()}, which --type-map "
            f"{' '.join(names)} should name: expected the symbol of an element for each"
        )
    atoms.numbers = np.array([atomic_numbers[name] for name in names])[types - 1]
