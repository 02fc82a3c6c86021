"""What runs leave: checkpoints of trainings and of simulations, and statistics."""

import io
import json
from dataclasses import asdict
from pathlib import Path
from random import Random

import ase.build
import numpy as np
from ase.calculators.lj import LennardJones

from dpax.simulate.checkpoint import Checkpoint as MDCheckpoint
from dpax.simulate.integrator import Integrator
from dpax.simulate.settings import MDSettings, check_unchanged
from dpax.simulate.thermo import Thermo
from dpax.train.checkpoints import Checkpoint, Checkpoints, from_named_arrays
from dpax.train.error_sums import ErrorMeans
from dpax.train.statistics import Statistics, fingerprint, is_statistics, read_statistics, write_statistics

from ..mutations import damaged_bytes, damaged_text
from ..target import Target

_SETTINGS = {
    "nvt": MDSettings(steps=9, temperature=(300.0, 300.0)),
    "npt": MDSettings(steps=9, temperature=(300.0, 300.0), ensemble="npt"),
}
_ARRAYS = {"params['w']": np.arange(12.0).reshape(3, 4), "params['b']": np.ones(4, np.float32)}


def _atoms() -> ase.Atoms:
    atoms = ase.build.bulk("Ar", "fcc", 5.3, cubic=True)
    atoms.calc = LennardJones(rc=2.0)
    return atoms


def _make_md(folder: Path) -> None:
    for name, settings in _SETTINGS.items():
        atoms, rng = _atoms(), np.random.default_rng(0)
        state = Integrator(atoms, settings, rng).state()
        thermo = Thermo(0, 0.0, 300.0, -1.5, -1.0, None, 1.0, float(atoms.get_volume()))
        facts = {
            "step": 3,
            "energy": -1.5,
            "start": asdict(thermo),
            "settings": settings.physics(),
            "rng": rng.bit_generator.state,
            "capacities": {"capacities": [[8, 16]]},
            "marks": {"trajectory": 100, "log": 200},
        }
        arrays = {
            "numbers": atoms.numbers,
            "positions": atoms.positions,
            "momenta": atoms.get_momenta(),
            "cell": atoms.cell.array,
        }
        MDCheckpoint(arrays | state, facts).write(folder / f"{name}.checkpoint")


def _read_md(path: Path) -> None:
    checkpoint, settings = MDCheckpoint.read(path), _SETTINGS[path.stem]
    arrays, facts, atoms, rng = dict(checkpoint.arrays), checkpoint.facts, _atoms(), np.random.default_rng()
    if arrays.pop("numbers").tolist() != atoms.numbers.tolist():
        return
    check_unchanged(facts["settings"], settings)
    atoms.set_cell(arrays.pop("cell"))
    atoms.set_positions(arrays.pop("positions"))
    atoms.set_momenta(arrays.pop("momenta"))
    Integrator(atoms, settings, rng).restore(arrays)
    rng.bit_generator.state = facts["rng"]
    rng.random(3)
    Thermo(**facts["start"]).columns()


def _damage_md(random: Random, name: str, content: bytes) -> bytes:
    """Half of the time facts or an array are changed, in a file without a digest or with one of its own."""
    if random.random() < 0.5:
        return damaged_bytes(random, content)
    with np.load(io.BytesIO(content)) as file:
        arrays = {key: file[key] for key in file.files}
    del arrays["digest"]
    key = random.choice(["facts", "facts", *arrays])
    if key == "facts":
        text = damaged_text(random, str(arrays[key]).encode()).decode(errors="replace")
        arrays[key] = np.array(text.replace("\0", " "))
    else:
        shape = random.choice([(), (1,), (3,), (4, 3), (3, 3), (0, 3), (7,)])
        kind = random.choice([float, int, bool, complex, "U3"])
        arrays[key] = np.full(
            shape, random.choice([0, -1, 10**9, float("nan")]) if kind is float else 1
        ).astype(kind)
    changed = io.BytesIO()
    np.savez(changed, **arrays)
    return changed.getvalue()


def _make_training(folder: Path) -> None:
    meta = {
        "order": {"step": 4, "epochs": [0, 1], "positions": [2, 2], "frames": [6, 5]},
        "planner": {"capacities": [[8, 16]]},
        "bias": [-3.0, 2.0],
        "progress": {"step": 10},
        "seed": 1,
        "valid": None,
        "best": {},
        "shown": asdict(ErrorMeans()),
        "sel": 20,
    }
    with Checkpoints(folder / "checkpoints") as checkpoints:
        checkpoints.save(10, Checkpoint(_ARRAYS, meta))


def _read_training(path: Path) -> None:
    with Checkpoints(path, read_only=True) as checkpoints:
        checkpoint = checkpoints.latest(lambda _: None)
    from_named_arrays({"w": np.zeros((3, 4)), "b": np.zeros(4)}, "params", checkpoint.arrays)
    assert checkpoint.meta["progress"]["step"] == 10


def _damage_training(random: Random, name: str, content: bytes) -> bytes:
    is_text = content[:1] == b"{"
    return (
        damaged_text(random, content) if is_text and random.random() < 0.7 else damaged_bytes(random, content)
    )


def _make_statistics(folder: Path) -> None:
    numbers = (np.zeros((2, 4)), np.full((2, 4), 0.2), np.array([-3.0, 2.0]))
    told = (np.array([0.5]), np.array([0.1]))
    statistics = Statistics(*numbers, 20, 17, "water, frame 3", *told, [0, 1], 0.9, "abc")
    write_statistics(folder / "statistics.json", statistics)


def _read_statistics(path: Path) -> None:
    is_statistics(path)
    found = read_statistics(path, "abc")
    if found is not None:
        assert found.stddev.min() > 0
        assert found.mean.shape == (len(found.bias), 4)


def _damage_statistics(random: Random, name: str, content: bytes) -> bytes:
    changed = damaged_text(random, content)
    if random.random() < 0.5:
        return changed
    try:
        tree = json.loads(changed)
        del tree["digest"]
        tree["digest"] = fingerprint(tree)
        return json.dumps(tree).encode()
    except Exception:  # no JSON any more
        return changed


TARGETS = [
    Target("md-checkpoint", _make_md, _read_md, _damage_md),
    Target("training-checkpoint", _make_training, _read_training, _damage_training),
    Target("statistics", _make_statistics, _read_statistics, _damage_statistics),
]
