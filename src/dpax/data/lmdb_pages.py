"""Lookups in a file of LMDB that survive any damage of it.

LMDB's own library maps the file into memory and follows the numbers in its pages unchecked: where a file is
cut short or damaged, the process dies of a signal. What a reader needs of the format (version 1, of LMDB 0.9,
in the byte order of all common processors) is small, so the pages are read here, with every number checked.
"""

import os
import struct
from bisect import bisect_left, bisect_right
from pathlib import Path
from typing import NamedTuple

_MAGIC, _VERSION = 0xBEEFC0DE, 1
_HEADER = struct.Struct("<QHHHH")
"""Of a page: its number, padding, its kind, and where its list of nodes ends and its free room ends."""
_NODE = struct.Struct("<HHHH")
"""Of a node: two halves of a size or of a page's number, flags or its upper part, the length of the key."""
_META = struct.Struct("<IIQQ I44x IHHQQQQQ QQ")
"""Of the file: magic, version, address, size of the map, size of a page; the tree; last page, transaction."""
_BRANCH, _LEAF, _OVERFLOW = 1, 2, 4
_ELSEWHERE, _OTHER_KINDS = 1, 6
"""Flags of nodes: the value lies on pages of its own; it is a database or a list of values."""
_EMPTY = 2**64 - 1
_DEEPEST = 32
"""Levels of the tree, as in LMDB itself."""
_KEPT = 1024
"""Branches of the tree that are kept in memory: they lead to some hundred thousand frames."""


class DamagedError(ValueError):
    """The file is not what LMDB writes."""


class _Tree(NamedTuple):
    page_size: int
    depth: int
    root: int
    entries: int
    transaction: int


class LmdbPages:
    """The keys and values of a file of LMDB.

    Safe for threads and for processes that are forked: no position in the file is kept.

    Args:
        path: of `data.mdb`.

    Raises:
        DamagedError: it is not a file of LMDB 0.9.
        OSError: it cannot be opened.
    """

    def __init__(self, path: Path):
        self._file = path.open("rb", buffering=0)
        self._size = os.fstat(self._file.fileno()).st_size
        first = self._tree(0)
        # The two descriptions are written alternately; the one of the later transaction counts.
        self._now = max(first, self._tree(first.page_size), key=lambda tree: tree.transaction)
        if self._now.page_size != first.page_size:
            raise DamagedError("its two descriptions have different sizes of a page")
        self._branches: dict[int, _Page] = {}

    @property
    def entries(self) -> int:
        """The number of keys, as the file says."""
        return self._now.entries

    def _tree(self, start: int) -> _Tree:
        raw = self._read(start + _HEADER.size, _META.size)
        magic, version, _, _, page_size, _, flags, depth, _, _, _, entries, root, _, transaction = (
            _META.unpack(raw)
        )
        if magic != _MAGIC:
            raise DamagedError("it does not begin as a file of LMDB")
        if version != _VERSION:
            raise DamagedError(f"its format has the version {version}, expected {_VERSION}")
        if flags or page_size not in (2**n for n in range(9, 17)):
            raise DamagedError("it is described by impossible numbers")
        return _Tree(page_size, depth, root, entries, transaction)

    def _read(self, start: int, length: int) -> bytes:
        # Looked at before memory is taken for what may never come.
        raw = os.pread(self._file.fileno(), length, start) if start + length <= self._size else b""
        if len(raw) < length:
            raise DamagedError(
                f"it has {self._size} bytes and refers to byte {start + length}; it was cut short"
            )
        return raw

    def get(self, key: bytes) -> bytes | None:
        """The value of a key, or None if there is no such key.

        Raises:
            DamagedError: the pages on the way to it cannot be followed.
            OSError: the file cannot be read.
        """
        if self._now.root == _EMPTY:
            return None
        number = self._now.root
        for _ in range(min(self._now.depth, _DEEPEST)):
            page = self._branches.get(number) or self._page(number)
            if page.kind == _LEAF:
                node = page.node_of(key)
                return None if node is None else self._value(page, node)
            number = page.child_of(key)
        raise DamagedError("its page tree is too deep or circular")

    def _page(self, number: int) -> "_Page":
        page = _Page(number, self._read(number * self._now.page_size, self._now.page_size))
        if page.kind == _BRANCH and len(self._branches) < _KEPT:
            self._branches[number] = page
        return page

    def _value(self, page: "_Page", node: int) -> bytes:
        low, high, flags, width = page.header(node)
        start, length = node + _NODE.size + width, low | high << 16
        if flags & _OTHER_KINDS:
            raise DamagedError("a record is no plain value")
        if not flags & _ELSEWHERE:
            return page.bytes_at(start, length)
        (number,) = struct.unpack("<Q", page.bytes_at(start, 8))
        raw = self._read(number * self._now.page_size, _HEADER.size + length)
        own, _, kind, _, _ = _HEADER.unpack_from(raw)
        if (own, kind) != (number, _OVERFLOW):
            raise DamagedError(f"page {number} does not hold the record that it should")
        return raw[_HEADER.size :]


class _Page:
    """A page of the tree: nodes, sorted by their keys."""

    def __init__(self, number: int, raw: bytes):
        own, _, self.kind, lower, _ = _HEADER.unpack_from(raw)
        if own != number or self.kind not in (_BRANCH, _LEAF) or not _HEADER.size <= lower <= len(raw):
            raise DamagedError(f"page {number} is not the one that it should be")
        self.raw, self._number = raw, number
        self._nodes = struct.unpack_from(f"<{(lower - _HEADER.size) // 2}H", raw, _HEADER.size)

    def bytes_at(self, start: int, length: int) -> bytes:
        """A part of the page."""
        if start + length > len(self.raw):
            raise DamagedError(f"page {self._number} has a node that does not end on it")
        return self.raw[start : start + length]

    def _key(self, node: int) -> bytes:
        return self.bytes_at(node + _NODE.size, self.header(node)[3])

    def header(self, node: int) -> tuple[int, int, int, int]:
        """The four numbers of a node."""
        if node + _NODE.size > len(self.raw):
            raise DamagedError(f"page {self._number} has a node that is not on it")
        return _NODE.unpack_from(self.raw, node)

    def node_of(self, key: bytes) -> int | None:
        """The node of a key on a leaf."""
        place = bisect_left(self._nodes, key, key=self._key)
        if place == len(self._nodes) or self._key(self._nodes[place]) != key:
            return None
        return self._nodes[place]

    def child_of(self, key: bytes) -> int:
        """The number of the page below a branch that has a key; the first one has no lower end."""
        if not self._nodes:
            raise DamagedError(f"page {self._number} leads nowhere")
        place = bisect_right(self._nodes, key, lo=1, key=self._key) - 1
        low, high, upper, _ = self.header(self._nodes[place])
        return low | high << 16 | upper << 32
