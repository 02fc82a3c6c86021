"""From the paths in the settings to systems."""

import glob
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import NamedTuple

from dpax.data.ase_io import AseSystem, read_atoms
from dpax.data.deepmd_npy import DeepmdSystem, used_names
from dpax.data.frame import System
from dpax.errors import InputError

LAYOUT = (
    "a folder with type.raw and set.* (DeePMD-kit's npy layout), a folder that holds such folders at any "
    "depth, a file that ASE reads (.extxyz, .traj, .db, OUTCAR, vasprun.xml, ...), or a pattern such as "
    "'data/*/train.extxyz'"
)


class _Location(NamedTuple):
    """One system found: a folder in the npy layout, or a file."""

    path: Path
    name: str


def open_systems(
    paths: str | Sequence[str], type_map: Sequence[str], base: Path | None = None
) -> list[System]:
    """Open every system that the paths name, in their order; within one path sorted.

    A relative path or pattern is looked up from `base`, the folder of the input file, and if nothing is
    there, from the working directory, which is where DeePMD-kit looks.

    Args:
        paths: each a system folder, a folder that holds system folders at any depth, a file that ASE
            reads, or a glob pattern for these. A system named twice counts twice.
        type_map: the model's element names, which the types of the frames index.
        base: the folder that relative paths start from first; the working directory alone if not given.

    Raises:
        InputError: nothing found under a path, or a system that cannot be read.
    """
    return [_open(location, type_map) for location in _locate(paths, base)]


def elements_in(paths: str | Sequence[str], base: Path | None = None) -> list[str]:
    """The names of all elements in the data, sorted.

    Systems without `type_map.raw` have indices instead of names and add nothing.

    Args:
        paths: as for `open_systems`.
        base: as for `open_systems`.

    Raises:
        InputError: nothing found under a path, or a system that cannot be read.
    """
    found: set[str] = set()
    for location in _locate(paths, base):
        if location.path.is_dir():
            found |= used_names(location.path)
        else:
            found |= {name for atoms in read_atoms(location.path, location.name) for name in atoms.symbols}
    return sorted(found)


def _open(location: _Location, type_map: Sequence[str]) -> System:
    if location.path.is_dir():
        return DeepmdSystem(location.path, type_map, location.name)
    return AseSystem(location.path, type_map, location.name)


def _locate(paths: str | Sequence[str], base: Path | None) -> Iterator[_Location]:
    given = [paths] if isinstance(paths, str) else list(paths)
    if not given:
        raise InputError(f"no data is named; give at least one path: {LAYOUT}")
    for path in given:
        found = list(_search(path, base or Path())) or list(_search(path, Path()))
        if not found:
            raise InputError(f"no data found at '{path}'{_seen_from(path, base)}; expected {LAYOUT}")
        yield from found


def _search(path: str, base: Path) -> Iterator[_Location]:
    whole = base / Path(path).expanduser()
    if whole.exists():
        yield from _systems_in(whole, path)
        return
    # Relative to the base, so that special characters in the base are not taken for a pattern.
    for match in sorted(glob.glob(str(Path(path).expanduser()), root_dir=base, recursive=True)):
        yield from _systems_in(base / match, match)


def _systems_in(whole: Path, name: str) -> Iterator[_Location]:
    if whole.is_file():
        yield _Location(whole, name)
    for marker in sorted(glob.glob("**/type.raw", root_dir=whole, recursive=True)):
        inner = Path(marker).parent
        yield _Location(whole / inner, str(Path(name) / inner))


def _seen_from(path: str, base: Path | None) -> str:
    if Path(path).expanduser().is_absolute():
        return ""
    places = dict.fromkeys(str(place.resolve()) for place in (base or Path(), Path()))
    return f" (looked for in {' and in '.join(places)})"
