"""Frames written in DeePMD-kit's npy layout."""

from collections import Counter, defaultdict
from collections.abc import Sequence
from pathlib import Path

import numpy as np

from dpax.data.frame import LABELS, Frame
from dpax.errors import InputError

FILES = {"energy": "energy", "forces": "force", "virial": "virial", "atom_energies": "atom_ener"}


def write_deepmd_npy(folder: Path, frames: Sequence[Frame], type_map: Sequence[str]) -> list[Path]:
    """Write frames as one system per composition and periodicity, all numbers float64.

    Atoms are put in the order of their types, as DeePMD-kit does on reading, so that frames of one
    composition share a system. Frames with different labels go to different sets of the system.

    Args:
        folder: receives one sub-folder per system, named by its formula.
        frames: their types index `type_map`.
        type_map: element names, written to every system.

    Returns:
        The system folders, in the order of their first frame.

    Raises:
        InputError: a frame is periodic in some directions only, which the layout cannot say; or a
            system folder of that name is already there.
    """
    systems: dict[tuple, list[Frame]] = defaultdict(list)
    for frame in frames:
        if any(frame.pbc) and not all(frame.pbc):
            raise InputError(
                f"{frame.source}: is periodic in some directions only, which DeePMD-kit's npy layout cannot "
                "express; keep it in a file of extended xyz"
            )
        systems[(tuple(np.sort(frame.types).tolist()), frame.pbc[0])].append(frame)
    return [
        _write_system(folder, types, periodic, members, type_map)
        for (types, periodic), members in systems.items()
    ]


def _write_system(
    folder: Path, types: tuple[int, ...], periodic: bool, frames: Sequence[Frame], type_map: Sequence[str]
) -> Path:
    formula = "".join(f"{type_map[index]}{count}" for index, count in sorted(Counter(types).items()))
    path = folder / (formula if periodic else f"{formula}_nopbc")
    if path.exists():
        raise InputError(f"{path} is already there; remove it or choose another folder")
    path.mkdir(parents=True)
    (path / "type.raw").write_text("".join(f"{index}\n" for index in types))
    (path / "type_map.raw").write_text("".join(f"{name}\n" for name in type_map))
    if not periodic:
        (path / "nopbc").touch()
    sets: dict[tuple[str, ...], list[Frame]] = defaultdict(list)
    for frame in frames:
        sets[tuple(label for label in LABELS if getattr(frame, label) is not None)].append(frame)
    for number, (labels, members) in enumerate(sets.items()):
        _write_set(path / f"set.{number:03d}", members, labels, periodic)
    return path


def _write_set(path: Path, frames: Sequence[Frame], labels: Sequence[str], periodic: bool) -> None:
    path.mkdir()
    orders = [np.argsort(frame.types, kind="stable") for frame in frames]
    keys = {"positions": "coord", **({"cell": "box"} if periodic else {}), **{k: FILES[k] for k in labels}}
    for key, name in keys.items():
        rows = [np.asarray(getattr(frame, key), dtype=np.float64) for frame in frames]
        if key in ("positions", "forces", "atom_energies"):
            rows = [row[order] for row, order in zip(rows, orders, strict=True)]
        values = np.stack([row.reshape(-1) for row in rows])
        np.save(path / f"{name}.npy", values[:, 0] if key == "energy" else values)
