"""Frames, and system folders written by hand: the readers are not tested against dpax's own writer alone."""

from pathlib import Path

import h5py
import numpy as np

from dpax.data import Frame
from dpax.data.quantities import labels_of

RNG = np.random.default_rng(11)


def rare_labels(n_atoms, rng) -> dict[str, np.ndarray]:
    """The labels and parameters that few data sets have."""
    return {
        "atom_pref": rng.uniform(size=n_atoms),
        "atom_ener_coeff": rng.uniform(size=n_atoms),
        "drdq": rng.normal(size=(3 * n_atoms, 2)),
        "hessian": rng.normal(size=(3 * n_atoms, 3 * n_atoms)),
        "fparam": rng.normal(size=2),
        "aparam": rng.normal(size=(n_atoms, 3)),
        "frame_weight": rng.uniform(size=()),
    }


def random_frame(
    n_atoms=5, *, seed=0, periodic=True, labels=True, rare=False, ntypes=2, source="made up"
) -> Frame:
    rng = np.random.default_rng(seed)
    grid = np.stack(np.meshgrid(*[np.arange(6)] * 3, indexing="ij"), -1).reshape(-1, 3)[:n_atoms]
    positions = 1.5 * grid + rng.uniform(-0.3, 0.3, (n_atoms, 3))
    made = {}
    if labels:
        made = {
            "energy": float(rng.normal(-100, 1)),
            "forces": rng.normal(size=(n_atoms, 3)),
            "virial": rng.normal(size=(3, 3)),
            "atom_energies": rng.normal(size=n_atoms),
        }
    if rare:
        made |= rare_labels(n_atoms, rng)
    return Frame(
        positions=positions,
        types=rng.integers(0, ntypes, n_atoms),
        cell=np.diag([9.0, 9.5, 10.0]) + 0.1 if periodic else None,
        pbc=(periodic,) * 3,
        source=source,
        **made,
    )


def write_system(
    folder: Path,
    *,
    types=(0, 1, 1),
    type_map: tuple[str, ...] | None = ("O", "H"),
    frames=4,
    sets=1,
    nopbc=False,
    dtype=np.float64,
    seed=0,
    rare=False,
) -> dict[str, np.ndarray]:
    """Write a system and return its arrays, all sets joined: coord, box, energy, force, virial, atom_ener."""
    rng = np.random.default_rng(seed)
    folder.mkdir(parents=True)
    n = len(types)
    (folder / "type.raw").write_text("\n".join(map(str, types)) + "\n")
    if type_map is not None:
        (folder / "type_map.raw").write_text("\n".join(type_map) + "\n")
    if nopbc:
        (folder / "nopbc").touch()
    total = frames * sets
    arrays = {
        "coord": rng.uniform(0, 9, (total, 3 * n)),
        "box": np.tile(np.diag([9.0, 10.0, 11.0]).reshape(1, 9), (total, 1)),
        "energy": rng.normal(-10, 1, total),
        "force": rng.normal(size=(total, 3 * n)),
        "virial": rng.normal(size=(total, 9)),
        "atom_ener": rng.normal(size=(total, n)),
    }
    if rare:
        made = [rare_labels(n, rng) for _ in range(total)]
        arrays |= {name: np.stack([labels[name].reshape(-1) for labels in made]) for name in made[0]}
    arrays = {name: array.astype(dtype) for name, array in arrays.items()}
    for number in range(sets):
        path = folder / f"set.{number:03d}"
        path.mkdir()
        for name, array in arrays.items():
            if name != "box" or not nopbc:
                np.save(path / f"{name}.npy", array[number * frames : (number + 1) * frames])
    return arrays


class OneFrame:
    """A system of the same frame, once or several times."""

    def __init__(self, frame: Frame, times=1):
        self._frame, self._times = frame, times
        self.name, self.path, self.type_map = frame.source, Path(frame.source), ("O", "H")
        self.copies: np.ndarray | None = None
        self.unread: dict[str, list[str]] = {}
        self.labels = labels_of([frame])

    def __len__(self):
        return self._times

    def n_atoms(self, index):
        return len(self._frame.types)

    def frame(self, index):
        return self._frame


FIELDS = {
    "coord": "positions",
    "box": "cell",
    "energy": "energy",
    "force": "forces",
    "virial": "virial",
    "atom_ener": "atom_energies",
    "atom_pref": "atom_pref",
    "atom_ener_coeff": "atom_ener_coeff",
    "drdq": "drdq",
    "hessian": "hessian",
    "fparam": "fparam",
    "aparam": "aparam",
    "frame_weight": "frame_weight",
}
"""The field of a frame for each file of a set."""


def write_hdf5(path: Path, groups: dict[str, Path]) -> None:
    """Copy system folders into groups of an HDF5 file, as dpdata writes them."""
    with h5py.File(path, "w") as file:
        for name, folder in groups.items():
            file[f"{name}/type.raw"] = np.loadtxt(folder / "type.raw", dtype=np.int64, ndmin=1)
            if (folder / "type_map.raw").exists():
                names = (folder / "type_map.raw").read_text().split()
                file[f"{name}/type_map.raw"] = np.array(names, dtype="S")
            if (folder / "nopbc").exists():
                file[f"{name}/nopbc"] = True
            for array in sorted(folder.glob("set.*/*.npy")):
                file[f"{name}/{array.parent.name}/{array.name}"] = np.load(array)
