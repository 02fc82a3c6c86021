"""Damage: a few random changes to the bytes of a file, or to the words of a text."""

import re
import struct
from collections.abc import Callable, Sequence
from random import Random

_INTEGERS = (0, 1, -1, 127, 255, 2**15, 2**16 - 1, 2**31 - 1, -(2**31), 2**32 - 1, 2**40, 2**62, -(2**63))
_WIDTHS = {1: "b", 2: "h", 4: "i", 8: "q"}
_BLOCK = 512
_CHANGES = (1, 1, 1, 2, 4)
_LONGEST = 2**20

Damage = Callable[[Random, bytes], bytes]


def damaged_bytes(random: Random, content: bytes) -> bytes:
    """A file with a few of its bytes changed, moved, lost or added."""
    return _damaged(random, content, _OF_BYTES)


def damaged_text(random: Random, content: bytes) -> bytes:
    """A text with a few of its words, numbers and brackets changed, and now and then a byte."""
    kinds = _OF_TEXT if random.random() < 0.9 else _OF_BYTES
    return _damaged(random, content, kinds)


def _damaged(random: Random, content: bytes, kinds: Sequence[Damage]) -> bytes:
    for _ in range(random.choice(_CHANGES)):
        content = random.choice(kinds)(random, content)[:_LONGEST]
    return content


# Bytes


def _piece(random: Random, content: bytes) -> slice:
    start = random.randint(0, len(content))
    return slice(start, min(len(content), start + random.choice((1, 2, 4, 8, random.randint(1, _BLOCK)))))


def _replaced(content: bytes, piece: slice, new: bytes) -> bytes:
    return content[: piece.start] + new + content[piece.stop :]


def _flip(random: Random, content: bytes) -> bytes:
    changed = bytearray(content)
    for _ in range(random.choice((1, 1, 2, 8)) if content else 0):
        changed[random.randrange(len(changed))] ^= 1 << random.randrange(8)
    return bytes(changed)


def _overwrite(random: Random, content: bytes) -> bytes:
    piece = _piece(random, content)
    length = piece.stop - piece.start
    filling = random.choice((b"\0" * length, b"\xff" * length, random.randbytes(length)))
    return _replaced(content, piece, filling)


def _number(random: Random, content: bytes) -> bytes:
    """An integer of 1 to 8 bytes, small, huge or negative, mostly where integers stand in files."""
    width = random.choice(tuple(_WIDTHS))
    start = random.randint(0, max(0, len(content) - width))
    if random.random() < 0.7:
        start -= start % width
    bits = random.choice(_INTEGERS) % 2 ** (8 * width)
    new = struct.pack(random.choice("<>") + _WIDTHS[width].upper(), bits)
    return _replaced(content, slice(start, start + width), new)


def _truncate(random: Random, content: bytes) -> bytes:
    return content[: random.randint(0, len(content))]


def _extend(random: Random, content: bytes) -> bytes:
    return content + random.choice((b"\0", random.randbytes(16))) * random.choice((1, 16, 4096))


def _remove(random: Random, content: bytes) -> bytes:
    return _replaced(content, _piece(random, content), b"")


def _insert(random: Random, content: bytes) -> bytes:
    place = random.randint(0, len(content))
    return _replaced(content, slice(place, place), random.randbytes(random.choice((1, 4, 16))))


def _copy(random: Random, content: bytes) -> bytes:
    """A block written over another place."""
    block = content[_piece(random, content)]
    start = random.randint(0, max(0, len(content) - len(block)))
    return _replaced(content, slice(start, start + len(block)), block)


def _swap(random: Random, content: bytes) -> bytes:
    blocks = len(content) // _BLOCK
    if blocks < 2:
        return _copy(random, content)
    a, b = (slice(k * _BLOCK, (k + 1) * _BLOCK) for k in random.sample(range(blocks), 2))
    changed = bytearray(content)
    changed[a], changed[b] = changed[b], changed[a]
    return bytes(changed)


_OF_BYTES: tuple[Damage, ...] = (
    _flip,
    _flip,
    _overwrite,
    _number,
    _number,
    _truncate,
    _extend,
    _remove,
    _insert,
    _copy,
    _swap,
)

# Text

_WORD = re.compile(rb"[\w.+-]+|\s+|[^\w\s]")
_NUMBER = re.compile(rb"\d+")
STRANGE = (
    *(b"0 1 -1 -0 00 0060 0o17 0x1f 1_000 1:30 99999999 99999999999999 -2147483649 4294967296").split(),
    *(b"1e6 1e400 -1e400 1E-400 .5 5. . nan NaN .nan inf Infinity -.inf 1j").split(),
    *(
        b"true false yes No on off null ~ None True H No Xx o -- --- ... << = ? !!python/name:os !!binary"
    ).split(),
    *(b"[ ] { } ( ) , : ; # & * | > % @ ` ' \" \\ \\u0000 \\ud800 \\x00 &a *a [] {} '' \"\"").split(),
    *(b"2024-01-01 2024-99-99 2024-01-01T25:00:00Z 12:00:00").split(),
    b"9" * 5000,
    b"0." + b"3" * 5000,
    b"[" * 3000,
    b"{a:" * 3000,
    b"a" * 20000,
    b"\xef\xbb\xbf",
    b"\xff\xfe",
    b"\0",
    b"\xff",
    "Å".encode(),
    "½".encode(),
    "٣".encode(),
    b"\r",
    b"\n",
    b"\t",
    b"\n- ",
    b"\n\n\n",
    b"\n---\n",
)
"""Words at which readers of text stumble."""


def _words(content: bytes) -> list[bytes]:
    return _WORD.findall(content)


def _of_words(change: Callable[[Random, list[bytes]], None]) -> Damage:
    def damage(random: Random, content: bytes) -> bytes:
        words = _words(content)
        if words:
            change(random, words)
        return b"".join(words)

    return damage


def _strange_word(random: Random, words: list[bytes]) -> None:
    words[random.randrange(len(words))] = random.choice(STRANGE)


def _added_word(random: Random, words: list[bytes]) -> None:
    words.insert(random.randint(0, len(words)), random.choice(STRANGE))


def _lost_word(random: Random, words: list[bytes]) -> None:
    del words[random.randrange(len(words))]


def _word_of_elsewhere(random: Random, words: list[bytes]) -> None:
    words[random.randrange(len(words))] = random.choice(words)


def _repeated_piece(random: Random, words: list[bytes]) -> None:
    start = random.randrange(len(words))
    piece = words[start : start + random.randint(1, 12)]
    words[start:start] = piece * random.choice((1, 1, 2, 50))


def _lost_piece(random: Random, words: list[bytes]) -> None:
    start = random.randrange(len(words))
    del words[start : start + random.randint(2, 40)]


def _longer_number(random: Random, content: bytes) -> bytes:
    """A number with more digits, a sign or a fraction."""
    numbers = list(_NUMBER.finditer(content))
    if not numbers:
        return content
    place = slice(*random.choice(numbers).span())
    digits = content[place]
    others = (
        digits + b"0" * random.choice((1, 3, 9, 20)),
        b"-" + digits,
        digits + b".5",
        digits + b"e9",
        b"",
    )
    return _replaced(content, place, random.choice(others))


_OF_TEXT: tuple[Damage, ...] = (
    _of_words(_strange_word),
    _of_words(_strange_word),
    _of_words(_added_word),
    _of_words(_lost_word),
    _of_words(_word_of_elsewhere),
    _of_words(_repeated_piece),
    _of_words(_lost_piece),
    _longer_number,
    _longer_number,
)
