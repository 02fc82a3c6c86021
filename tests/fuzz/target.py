"""What is fuzzed: sound inputs of one format, how they are damaged, and how they are read."""

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from random import Random

Input = dict[str, bytes]
"""The files of one input, by their paths from the folder that it lies in."""


@dataclass(frozen=True)
class Target:
    """A format and its reader; how to write one says `fuzz/__init__.py`."""

    name: str
    make: Callable[[Path], None]
    """Writes sound inputs, always the same: every entry of the folder is one."""
    read: Callable[[Path], object]
    """Opens an input and uses all that is in it."""
    damage: Callable[[Random, str, bytes], bytes]
    """Given the name of a file and its bytes, other bytes."""
    seconds: int = 5
    """Processor time that a reading may take."""
    gigabytes: float = 1.0
    """Memory that a reading may take."""

    def damaged(self, inputs: list[Input], seed: int, number: int) -> Input:
        """A damaged input; it follows from the seed and its number."""
        random = Random(f"{self.name} {seed} {number}")
        sound = dict(random.choice(inputs))
        name = random.choice(sorted(sound))
        sound[name] = self.damage(random, name, sound[name])
        return sound


def inputs_in(folder: Path) -> list[Input]:
    """The inputs that lie in a folder, sorted by name."""
    return [
        {
            str(path.relative_to(folder)): path.read_bytes()
            for path in sorted([entry, *entry.rglob("*")])
            if path.is_file()
        }
        for entry in sorted(folder.iterdir())
    ]


def write_input(folder: Path, files: Input) -> Path:
    """Write an input into an empty folder; the path is that of its file or folder."""
    for name, content in files.items():
        path = folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(content)
    return folder / next(iter(files)).partition("/")[0]
