"""The record of a run's data: sizes, times and digests of the files, by which a restart detects changes.

A file whose size, times and number on the file system are unchanged is not read again. Digests are made
in a thread of their own, so that no training waits for them.
"""

import hashlib
import json
import os
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path
from threading import Event, Thread

from dpax.data import System
from dpax.data.deepmd_system import ARRAYS, TEXTS
from dpax.data.hdf5_file import SEPARATOR
from dpax.errors import WRONG_CONTENTS, InputError, MachineError, brief
from dpax.files import write_json

_CHUNK = 1 << 20
_LMDB = "data.mdb"
"""The file of a data set in LMDB."""
_SHOWN = 8
"""The number of sentences that a message lists."""
_PATIENCE = 5.0
"""Seconds that the end of a training waits for digests; a file without one counts as changed once touched."""


@dataclass
class FileRecord:
    """One file of the data."""

    size: int
    stamp: list[int]
    """Times of the last change of its contents and of its entry, ns, and its number on the file system."""
    digest: str | None = None
    """Of its contents, where it was read."""
    path: str | None = field(default=None, compare=False)
    """Its path; not known for a file of the past."""

    def is_now(self, other: "FileRecord") -> bool:
        """Whether another file has the contents that this one had; it is read if necessary."""
        if self.size != other.size:
            return False
        if self.stamp == other.stamp:
            other.digest = other.digest or self.digest
            return True
        return self.digest is not None and self.digest == other.read()

    def read(self, stop: Event | None = None) -> str | None:
        """The digest; None if it was stopped, or the file cannot be read."""
        if self.digest is None and self.path is not None:
            with suppress(OSError):
                self.digest = _digest(self.path, min(self.size, _CHUNK) + 1, stop)
        return self.digest


@dataclass
class SystemRecord:
    """One system."""

    name: str
    frames: int
    files: dict[str, FileRecord]
    """By their names within the system, wherever that lies."""

    def changed_files(self, now: "SystemRecord") -> list[str]:
        """The names of the files that have changed."""
        names = dict.fromkeys([*self.files, *now.files])
        pairs = {name: (self.files.get(name), now.files.get(name)) for name in names}
        return [name for name, (old, new) in pairs.items() if not (old and new and old.is_now(new))]

    def contents(self) -> tuple[tuple[str, str | None], ...]:
        """What two systems with the same contents share; reads the files."""
        return tuple(sorted((name, file.read()) for name, file in self.files.items()))


SECTIONS = ("training_data", "validation_data")
Sections = dict[str, list[SystemRecord]]
"""The systems of these sections of an input file."""


def describe(sections: Mapping[str, Sequence[System]]) -> Sections:
    """The present state of the systems; nothing is read."""
    seen: dict[str, FileRecord] = {}  # systems may share a file
    return {
        section: [
            SystemRecord(
                system.name,
                len(system),
                {name: seen.setdefault(file.path or "", file) for name, file in _files(system)},
            )
            for system in systems
        ]
        for section, systems in sections.items()
    }


def _files(system: System) -> Iterator[tuple[str, FileRecord]]:
    """The files of a system that are read, by names that stay when it is moved."""
    path = str(system.path)
    if not os.path.isdir(path):
        group = system.name.rpartition(SEPARATOR)[2] if SEPARATOR in system.name else ""
        yield group, _record(path, os.stat(path))
        return
    for entry in os.scandir(path):
        if entry.name in TEXTS or entry.name == _LMDB:
            yield entry.name, _record(entry.path, entry.stat())
        elif entry.name.startswith("set.") and entry.is_dir():
            arrays = (item for item in os.scandir(entry.path) if item.name in ARRAYS)
            yield from ((f"{entry.name}/{item.name}", _record(item.path, item.stat())) for item in arrays)


def _record(path: str, facts: os.stat_result) -> FileRecord:
    return FileRecord(facts.st_size, [facts.st_mtime_ns, facts.st_ctime_ns, facts.st_ino], path=path)


def compare(before: Sequence[SystemRecord], now: Sequence[SystemRecord]) -> list[str]:
    """What has changed, a sentence for each system."""
    if len(before) != len(now):
        return [f"there were {len(before)} systems and are now {len(now)}"]
    changes = []
    changed = [(a, b) for a, b in zip(before, now, strict=True) if a.frames != b.frames or a.changed_files(b)]
    exchanged = {a.contents(): a.name for a, _ in changed} if len(changed) > 1 else {}
    for old, new in changed:
        other = exchanged.get(new.contents()) if exchanged else None
        if other is not None:
            changes.append(f"{new.name} has taken the place of {other}")
        elif old.frames != new.frames:
            changes.append(_grown(old, new))
        else:
            changes.append(f"{new.name} has changed{_named(old, new)}")
    return changes


def _named(old: SystemRecord, new: SystemRecord) -> str:
    """The files that have changed, or may have."""
    files = sorted(name for name in old.changed_files(new) if name in TEXTS or "/" in name)
    unread = any(file.digest is None for file in old.files.values())
    notes = [", ".join(files)] * bool(files)
    if unread:
        notes.append("some were modified before dpax had recorded their contents")
    return f" ({'; '.join(notes)})" if notes else ""


def check_sizes(before: Sequence[SystemRecord], now: Sequence[SystemRecord]) -> None:
    """Check that training data have the systems and frames that the order of the batches counts.

    Raises:
        InputError: they have others.
    """
    if len(before) != len(now):
        changes = [f"the run was started with {len(before)} systems, and there are now {len(now)}"]
    else:
        changes = [_grown(a, b) for a, b in zip(before, now, strict=True) if a.frames != b.frames]
    if changes:
        raise InputError(
            f"--restart: {listed(changes)}; a run continues with the frames that it began with. Put the data "
            "back, or start from the model in another folder (--init-model)"
        )


def _grown(old: SystemRecord, new: SystemRecord) -> str:
    return f"{new.name} had {old.frames} frames and now has {new.frames}"


def listed(texts: Sequence[str]) -> str:
    """The first of many sentences."""
    more = len(texts) - _SHOWN
    return "; ".join(texts[:_SHOWN]) + (f"; and {more} more" if more > 0 else "")


@contextmanager
def digests(sections: Sections, path: Path) -> Iterator[None]:
    """Write a record at once, and again with digests when a thread has made them."""
    write(sections, path)
    stop = Event()

    def work() -> None:
        for file in _every_file(sections):
            if not stop.is_set():
                file.read(stop)
        with suppress(OSError, MachineError):  # on a full disk the training run itself reports it
            write(sections, path)

    thread = Thread(target=work, name="digests of the data", daemon=True)
    thread.start()
    try:
        yield
    finally:
        thread.join(_PATIENCE)
        stop.set()
        thread.join()


def _every_file(sections: Sections) -> list[FileRecord]:
    systems = [system for section in sections.values() for system in section]
    return list({id(file): file for system in systems for file in system.files.values()}.values())


def _digest(path: str, chunk: int, stop: Event | None) -> str | None:
    """The digest of a file, read by so many bytes at a time; None if it was stopped."""
    digest, buffer = hashlib.blake2b(digest_size=16), bytearray(chunk)
    with open(path, "rb", buffering=0) as file:
        while count := file.readinto(buffer):
            if stop is not None and stop.is_set():
                return None
            digest.update(memoryview(buffer)[:count])
    return digest.hexdigest()


def write(sections: Sections, path: Path) -> None:
    """Write a record, completely or not at all."""
    content = {
        section: [
            {
                "name": system.name,
                "frames": system.frames,
                "files": {name: [f.size, f.stamp, f.digest] for name, f in system.files.items()},
            }
            for system in systems
        ]
        for section, systems in sections.items()
    }
    write_json(path, content, indent=None)


def read(path: Path) -> Sections | None:
    """The record in a file; None if it is not there.

    Raises:
        InputError: it is damaged.
    """
    try:
        content = json.loads(path.read_text(encoding="utf-8"))
        return {
            section: [
                SystemRecord(
                    str(system["name"]),
                    int(system["frames"]),
                    {name: FileRecord(*facts) for name, facts in system["files"].items()},
                )
                for system in content[section]
            ]
            for section in SECTIONS
        }
    except FileNotFoundError:
        return None
    except (OSError, *WRONG_CONTENTS) as error:
        raise InputError(
            f"{path}: the record of the run's data cannot be read ({brief(error)}); restore it, or remove it "
            "to go on without comparing the data"
        ) from None
