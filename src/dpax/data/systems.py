"""From the paths in the settings to systems."""

import glob
import os
from collections.abc import Iterator, Sequence
from fnmatch import fnmatch
from pathlib import Path
from typing import NamedTuple

from dpax.data.ase_io import AseSystem, Reading, read_atoms
from dpax.data.deepmd_system import DeepmdSystem, used_names
from dpax.data.frame import System
from dpax.data.hdf5_file import SEPARATOR, SUFFIXES, Hdf5Group, find_groups
from dpax.data.lmdb_file import is_lmdb, lmdb_names, open_lmdb
from dpax.data.npy_file import NpyFolder
from dpax.errors import InputError

LAYOUT = (
    "a folder with type.raw and set.* (DeePMD-kit's npy layout), a folder that holds such folders at any "
    "depth, the same in HDF5 (file.h5 or file.h5#/group), a data set in LMDB, a file that ASE reads "
    "(.extxyz, .traj, .db, OUTCAR, vasprun.xml, ...), or a pattern such as 'data/*/train.extxyz'"
)


class _Location(NamedTuple):
    """The place of a system: a folder in the npy layout, a file, or a group in an HDF5 file."""

    path: Path
    name: str
    group: str | None = None

    @property
    def folder(self) -> NpyFolder | Hdf5Group | None:
        """The system folder, if it is one."""
        if self.group is not None:
            return Hdf5Group(self.path, self.group)
        return NpyFolder(self.path) if self.path.is_dir() and not is_lmdb(self.path) else None


def open_systems(
    paths: str | Sequence[str],
    type_map: Sequence[str],
    base: Path | None = None,
    patterns: Sequence[str] = (),
    reading: Reading | None = None,
) -> list[System]:
    """Open every system that the paths name, in their order; within one path sorted.

    A relative path or pattern is looked up from `base`, the folder of the input file, and if nothing is
    there, from the working directory, which is where DeePMD-kit looks.

    Args:
        paths: each a system folder, a folder that holds system folders at any depth, the same in an HDF5
            file, a folder of LMDB, a file that ASE reads, or a glob pattern for these. A system named twice
            counts twice. A data set in LMDB is as many systems as it was made from, if it records them,
            and otherwise one for each number of atoms.
        type_map: the model's element names, which the types of the frames index.
        base: the folder that relative paths start from first; the working directory alone if not given.
        patterns: of the system folders searched for below a folder; each may match at any depth, and all
            are taken if there is none.
        reading: how labels and elements are found in the files of other programs.

    Raises:
        InputError: nothing found under a path, a system that cannot be read, or keys of labels where no file
            is read by ASE.
    """
    places = _locate(paths, base, patterns)
    systems = [system for place in places for system in _open(place, type_map, reading)]
    if reading and reading.keys and not any(isinstance(system, AseSystem) for system in systems):
        raise InputError(
            f"{systems[0].name}: its labels have the names of its format (docs/data.md), and keys "
            f"({', '.join(reading.keys)}) are for files that ASE reads; leave them out"
        )
    return systems


def absolute_path(path: str, base: Path | None = None, patterns: Sequence[str] = ()) -> str:
    """An absolute path or pattern for the same systems.

    Args:
        path: as for `open_systems`; it exists. base:
        as for `open_systems`.
        patterns: as for `open_systems`.
    """
    for folder in (base or Path(), Path()):
        for text in dict.fromkeys((path, _expanded(path))):
            if _search(text, folder, patterns):
                return os.path.join(folder.absolute(), text)
    return path


def elements_in(paths: str | Sequence[str], base: Path | None = None) -> list[str]:
    """The names of all elements in the data, sorted.

    Systems without `type_map.raw` have indices instead of names and add nothing.

    Args:
        paths: as for `open_systems`.
        base: as for `open_systems`.

    Raises:
        InputError: nothing found under a path, or a system that cannot be read.
    """
    return sorted(set().union(*(_names(place) for place in _locate(paths, base, ()))))


def type_names(paths: str | Sequence[str], base: Path | None = None) -> list[str]:
    """As `elements_in`, for data whose types all have names: no index is then taken for another element.

    Raises:
        InputError: a system has no names for its types, nothing is found, or a system cannot be read.
    """
    names_by_system = {place.name: _names(place) for place in _locate(paths, base, ())}
    nameless = [name for name, names in names_by_system.items() if not names]
    if nameless:
        raise InputError(
            f"{nameless[0]} has no names for its types (type_map.raw); give them with --type-map, in the "
            "order of the indices"
        )
    return sorted(set().union(*names_by_system.values()))


def _names(place: _Location) -> set[str]:
    """The elements of a system; empty if it only has indices."""
    folder = place.folder
    if folder is not None:
        return used_names(folder)
    if is_lmdb(place.path):
        return lmdb_names(place.path)
    structures = read_atoms(place.path, place.name, Reading(keep_unconverged=True))
    return {name for atoms in structures.values() for name in atoms.symbols}


def _open(place: _Location, type_map: Sequence[str], reading: Reading | None) -> Sequence[System]:
    folder = place.folder
    if folder is not None:
        source = folder if isinstance(folder, Hdf5Group) else folder.path
        return [DeepmdSystem(source, type_map, place.name)]
    if is_lmdb(place.path):
        return open_lmdb(place.path, type_map, place.name)
    return [AseSystem(place.path, type_map, place.name, reading)]


def _locate(paths: str | Sequence[str], base: Path | None, patterns: Sequence[str]) -> Iterator[_Location]:
    entries = [paths] if isinstance(paths, str) else list(paths)
    if not entries:
        raise InputError(f"no data is named; give at least one path: {LAYOUT}")
    for path in entries:
        if not path:
            raise InputError(f"an empty path names no data; expected {LAYOUT}")
        places = _search(path, base or Path(), patterns) or _search(path, Path(), patterns)
        if not places:
            wanted = f" with a folder that matches {', '.join(patterns)}" if patterns else ""
            raise InputError(f"no data found at '{path}'{wanted}{_seen_from(path, base)}; expected {LAYOUT}")
        yield from places


def _search(path: str, base: Path, patterns: Sequence[str]) -> list[_Location]:
    """What exists under exactly this name, before any of it is read as a group, a home folder or a pattern.

    A pattern may match a folder and folders in it, and links may lead in a circle: each system is there once.
    """
    texts = [path, _expanded(path)] if path.startswith("~") else [path]
    readings = [reading for text in texts for reading in _readings(text)]
    named = [[reading] for reading in readings if _exists(base / reading[0])]
    matched = ([(match, group) for match in _matches_of(file, base)] for file, group in readings)
    for places in (*named, *matched):
        unique: dict[tuple[Path, str | None], _Location] = {}
        for file, group in places:
            for place in _systems_in(base / file, file, group, patterns):
                unique.setdefault((place.path.resolve(), place.group), place)
        if unique:
            return list(unique.values())
    return []


def _exists(path: Path) -> bool:
    """As `Path.exists`, which raises where a name is too long."""
    return os.path.exists(path)


def _readings(path: str) -> Iterator[tuple[str, str]]:
    """A file and a group in it: the whole path is the file, or what comes before one of the separators."""
    yield path, ""
    file, separator, group = path.rpartition(SEPARATOR)
    while separator:
        yield file, group
        file, separator, more = file.rpartition(SEPARATOR)
        group = f"{more}{SEPARATOR}{group}"


def _expanded(path: str) -> str:
    """With the home of a user for ~ at the beginning, if there is one."""
    try:
        return str(Path(path).expanduser())
    except RuntimeError:
        return path


def _matches_of(pattern: str, base: Path) -> list[str]:
    """The files that match a pattern; leading folders that exist under exactly this name are no pattern."""
    literal, parts = Path(), list(Path(pattern).parts)
    while len(parts) > 1 and _exists(base / literal / parts[0]):
        literal /= parts.pop(0)
    folders = "/" if pattern.endswith("/") else ""  # and no files
    matches = glob.glob(f"{Path(*parts)}{folders}", root_dir=base / literal, recursive=True)
    return [str(literal / match) for match in sorted(matches)]


def _systems_in(whole: Path, name: str, group: str, patterns: Sequence[str]) -> Iterator[_Location]:
    if group and not whole.is_file():
        return
    if whole.is_file() and (group or whole.suffix in SUFFIXES):
        for inner in find_groups(whole, group):
            if _matches(inner.strip("/"), patterns):
                yield _Location(whole, f"{name}{SEPARATOR}{inner}", inner)
    elif whole.is_file() or is_lmdb(whole):
        yield _Location(whole, name)
    for marker in sorted(glob.glob("**/type.raw", root_dir=whole, recursive=True)):
        folder = Path(marker).parent
        if _matches(str(folder), patterns):
            yield _Location(whole / folder, str(Path(name) / folder))


def _matches(folder: str, patterns: Sequence[str]) -> bool:
    """Whether a folder is what `Path.rglob` finds for one of the patterns; any is, where there is none."""
    if not patterns:
        return True
    parts = Path(folder).parts
    return any(
        len(wanted) <= len(parts) and all(map(fnmatch, parts[len(parts) - len(wanted) :], wanted))
        for wanted in (Path(pattern).parts for pattern in patterns)
    )


def _seen_from(path: str, base: Path | None) -> str:
    if Path(_expanded(path)).is_absolute():
        return ""
    places = dict.fromkeys(str(place.resolve()) for place in (base or Path(), Path()))
    return f" (looked for in {' and in '.join(places)})"
