"""Data sets of DeePMD-kit in LMDB: a msgpack record for each frame, and one that describes them all.

A record holds coords (3 per atom, Å), atom_types, cells (9, Å; absent or all zero where nothing is periodic),
energies, forces, virials, and any of the names of DeePMD-kit's npy layout. Arrays stand in it as {type,
shape, data}. `find_X` = 0 says that the frame has no X, whatever stands under X. The record `__metadata__`
has the number of frames (nframes), how their keys are written (frame_idx_fmt), and as an option type_map,
the number of atoms of each frame (frame_nlocs), and the system each was taken from (frame_system_ids).
"""

import re
import threading
from collections.abc import Callable, Sequence
from importlib import import_module
from pathlib import Path
from typing import Any
from weakref import WeakValueDictionary

import numpy as np

from dpax.data.frame import Frame
from dpax.data.label_keys import look_alikes
from dpax.data.lmdb_pages import DamagedError, LmdbPages
from dpax.data.quantities import CELL, LABELS, POSITIONS, QUANTITIES, Quantity
from dpax.data.rows import whole_numbers
from dpax.data.type_files import VIRTUAL, translation
from dpax.errors import InputError, brief

_FIELDS = {q.name: q for q in (POSITIONS, CELL, *QUANTITIES.values())}
"""What a record may hold of a frame."""
_TYPES = ("atom_types", "atype")
_WORDS = frozenset(word for quantity in _FIELDS.values() for word in (*quantity.records, *quantity.files))
_PROBED = 256
"""Frames of a system, at most, that are asked which labels they have."""


class LmdbSystem:
    """Some of the frames of a data set in LMDB; each is read when it is asked for.

    Args:
        data: the data set.
        numbers: of its frames that belong to the system.
        type_map: the model's element names.
        name: of the system, for messages.
        source: the name of the data set, for messages.
    """

    def __init__(
        self, data: "LmdbFile", numbers: np.ndarray, type_map: Sequence[str], name: str, source: str
    ):
        self.name = name
        self.path = data.path
        self.type_map = tuple(type_map)
        self.copies: np.ndarray | None = None
        self._data, self._numbers, self._source = data, numbers, source
        probed = np.linspace(0, len(numbers) - 1, min(len(numbers), _PROBED)).round().astype(int)
        self.labels = frozenset(label for k in probed for label in self._labels(int(numbers[k])))
        words = {str(word) for k in probed for word in data.record(int(numbers[k]))}
        self.unread = look_alikes(word for word in sorted(words - _WORDS) if not word.startswith("find_"))

    def _labels(self, number: int) -> list[str]:
        record = self._data.record(number)
        source = f"{self._source} frame {number}"
        return [name for name, label in LABELS.items() if _has(record, label, source)]

    def __len__(self) -> int:
        """The number of frames."""
        return len(self._numbers)

    def n_atoms(self, index: int) -> int:
        """The atoms of a frame, virtual ones included."""
        return int(self._data.n_atoms[self._numbers[index]])

    def frame(self, index: int) -> Frame:
        """Read one frame.

        Raises:
            InputError: a record that is damaged or does not fit, or an element that the type_map lacks.
        """
        number = int(self._numbers[index])
        source = f"{self._source} frame {number}"
        record = self._data.record(number)
        types = _array(record, _TYPES, source)
        if types is None:
            raise InputError(f"{source}: has no atom_types; expected one index for each atom")
        types = whole_numbers(types, f"{source}: atom_types").reshape(-1)
        if len(types) != self.n_atoms(index):
            raise InputError(
                f"{source}: has {len(types)} atom_types, but frame_nlocs says {self.n_atoms(index)} atoms; "
                "write it again"
            )
        real = np.flatnonzero(types >= 0)
        shaped: dict[str, Any] = {
            name: _shaped(quantity, value, types.size, real, source)
            for name, quantity in _FIELDS.items()
            if (value := _value(record, quantity, source)) is not None
        }
        if "positions" not in shaped:
            raise InputError(f"{source}: has no coords; every frame needs the positions of its atoms")
        unforeseen = sorted(name for name in shaped if _FIELDS[name].rare and name not in self.labels)
        if unforeseen:
            raise InputError(
                f"{source}: has {unforeseen[0]}, which none of the {_PROBED} frames of its system has that "
                "were looked at first; take it out, or put such frames into a data set of their own"
            )
        cell = shaped.pop("cell", None)
        periodic = cell is not None and bool(cell.any())
        used = np.where(types >= 0, types, VIRTUAL)
        return Frame(
            **shaped,
            types=translation(used, self._data.names, self.type_map, source)[types[real]],
            cell=cell if periodic else None,
            pbc=(periodic, periodic, periodic),
            source=source,
        )


class LmdbFile:
    """A data set in LMDB.

    Args:
        path: the folder with data.mdb.

    Raises:
        InputError: not such a data set, or the extra `lmdb` is not installed.
    """

    def __init__(self, path: Path):
        self.path = path
        self._msgpack = _library("msgpack")
        try:
            self._pages = LmdbPages(path / "data.mdb")
        except (OSError, DamagedError) as error:
            raise self._damaged(error) from error
        metadata = self._unpack(b"__metadata__", f"{path} has no record __metadata__")
        self.frames = self._described(metadata, "nframes", None, lambda n: type(n) is int and n < 2**40)
        self._format = self._described(metadata, "frame_idx_fmt", "012d", _is_format)
        if self.frames < 1:
            raise InputError(f"{path} holds no frames; remove it")
        if self.frames > self._pages.entries:
            raise InputError(
                f"{path}: nframes is {self.frames}, but it has {self._pages.entries} records; write it again"
            )
        self.names = self._described(metadata, "type_map", None, _are_names, needed=False)
        self.n_atoms = self._column(metadata, "frame_nlocs")
        self.systems = self._column(metadata, "frame_system_ids")
        if self.n_atoms is None:
            self.n_atoms = np.array([self._count(number) for number in range(self.frames)])

    def _described(
        self,
        metadata: dict[str, Any],
        key: str,
        default: Any,
        fits: Callable[[Any], bool],
        needed: bool = True,
    ) -> Any:
        value = metadata.get(key, default)
        if value is None and not needed:
            return None
        if not fits(value):
            raise InputError(
                f"{self.path}: {key} in its __metadata__ is {str(value)[:60]!r}, expected {_DESCRIBED[key]}; "
                "write it again"
            )
        return value

    def _column(self, metadata: dict[str, Any], key: str) -> Any:
        values = _array(metadata, (key,), f"{self.path} __metadata__")
        if values is None:
            return None
        if values.shape != (self.frames,):
            raise InputError(
                f"{self.path}: {key} has the shape {list(values.shape)}, nframes is {self.frames}; "
                "expected one number for each frame"
            )
        return whole_numbers(values, f"{self.path}: {key}")

    def _count(self, number: int) -> int:
        types = _array(self.record(number), _TYPES, f"{self.path} frame {number}")
        return 0 if types is None else types.size

    def _key(self, number: int) -> bytes:
        return format(number, self._format).encode()

    def record(self, number: int) -> dict[str, Any]:
        """The record of a frame, its arrays still packed.

        Raises:
            InputError: it is missing or damaged.
        """
        return self._unpack(self._key(number), f"{self.path} has no frame {number} of {self.frames}")

    def _unpack(self, key: bytes, missing: str) -> dict[str, Any]:
        try:
            raw = self._pages.get(key)
        except (OSError, DamagedError) as error:
            raise self._damaged(error) from error
        try:
            record = None if raw is None else self._msgpack.unpackb(raw, raw=False, strict_map_key=False)
        except MemoryError:
            raise
        except Exception as error:  # msgpack raises what it and Python's dictionaries run into
            raise InputError(
                f"{self.path}: the record {key.decode()} is damaged ({brief(error)}); write it again"
            ) from error
        if not isinstance(record, dict):
            raise InputError(f"{missing}; expected a data set of DeePMD-kit in LMDB")
        return record

    def _damaged(self, error: Exception) -> InputError:
        return InputError(f"{self.path} is not a whole LMDB data set ({brief(error)}); write it again")


_DESCRIBED = {
    "nframes": "the number of frames",
    "frame_idx_fmt": "a format of whole numbers such as 012d",
    "type_map": "a list of different element names",
}
"""What the metadata tell, for messages."""


def _is_format(value: Any) -> bool:
    return isinstance(value, str) and re.fullmatch(r"0?[0-9]{0,2}d?", value) is not None


def _are_names(value: Any) -> bool:
    return (
        isinstance(value, list)
        and all(isinstance(name, str) and name for name in value)
        and len(set(value)) == len(value)
    )


_OPEN: WeakValueDictionary[tuple[Path, int], LmdbFile] = WeakValueDictionary()
_OPENING = threading.Lock()


def is_lmdb(path: Path) -> bool:
    """Whether a path is a data set in LMDB."""
    return (path / "data.mdb").is_file()


def open_lmdb(path: Path, type_map: Sequence[str], name: str) -> list[LmdbSystem]:
    """The systems that a data set was made from; if it does not say, one for each number of atoms.

    Raises:
        InputError: as `LmdbFile`.
    """
    data = _open(path)
    kind = "atoms" if data.systems is None else "system"
    groups = data.n_atoms if data.systems is None else data.systems
    return [
        LmdbSystem(data, np.flatnonzero(groups == group), type_map, f"{name} {kind} {group}", name)
        for group in np.unique(groups)
    ]


def lmdb_names(path: Path) -> set[str]:
    """The elements in a data set's type_map; empty where it has none.

    Raises:
        InputError: as `LmdbFile`.
    """
    return set(_open(path).names or ())


def _open(path: Path) -> LmdbFile:
    """A data set, the same one for all that hold it."""
    try:
        key = (path.absolute(), (path / "data.mdb").stat().st_mtime_ns)
    except OSError as error:
        raise InputError(f"{path} cannot be read: {error.strerror}") from error
    with _OPENING:
        environment = _OPEN.get(key)
        if environment is None:
            environment = _OPEN[key] = LmdbFile(path)
        return environment


def _library(name: str) -> Any:
    try:
        return import_module(name)
    except ImportError as error:
        raise InputError(
            f"data in LMDB needs the package {name}, which is not installed: pip install 'dpax[lmdb]'"
        ) from error


def _has(record: dict[str, Any], quantity: Quantity, source: str) -> bool:
    """Whether a frame has a quantity: it stands in the record, and no `find_` denies it."""
    words = (*quantity.records, *quantity.files)
    if all(record.get(word) is None for word in words):
        return False
    denials = (_values(record, f"find_{word}", source) for word in words)
    return all(denial is None or bool(denial.any()) for denial in denials)


def _value(record: dict[str, Any], quantity: Quantity, source: str) -> np.ndarray | None:
    if not _has(record, quantity, source):
        return None
    return _array(record, (*quantity.records, *quantity.files), source)


def _array(record: dict[str, Any], spellings: Sequence[str], source: str) -> np.ndarray | None:
    """The numbers under the first of several names that a record has."""
    for spelling in spellings:
        array = _values(record, spelling, source)
        if array is not None:
            if array.dtype.kind not in "fiu":
                raise InputError(f"{source}: {spelling} does not hold numbers; write it again")
            return array
    return None


def _values(record: dict[str, Any], key: str, source: str) -> np.ndarray | None:
    if record.get(key) is None:
        return None
    try:
        return _unpacked(record[key])
    except MemoryError:
        raise
    except Exception as error:  # NumPy raises much of what is no type, shape or number
        raise InputError(f"{source}: {key} is not an array ({brief(error)}); write it again") from error


def _unpacked(value: Any) -> np.ndarray:
    """An array from how msgpack-numpy and DeePMD-kit pack it, or from plain numbers."""
    if not isinstance(value, dict):
        return np.asarray(value)
    packed = {key.decode() if isinstance(key, bytes) else key: item for key, item in value.items()}
    array = np.frombuffer(packed["data"], np.dtype(packed["type"]))
    return array.reshape(packed["shape"]) if "shape" in packed else array


def _shaped(quantity: Quantity, value: np.ndarray, n_atoms: int, real: np.ndarray, source: str) -> np.ndarray:
    """A value in the shape that `Frame` has it in, without virtual atoms."""
    try:
        whole = value.astype(np.float64).reshape(quantity.sized(n_atoms))
    except ValueError:
        raise InputError(
            f"{source}: {quantity.name} has {value.size} numbers, expected {quantity.described(n_atoms)}"
        ) from None
    return quantity.of_atoms(whole, real)
