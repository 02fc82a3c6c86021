"""Tiny inputs and data for trainings of a few steps."""

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np

from dpax.train.settings import InputSettings

INPUT: dict[str, Any] = {
    "model": {
        "type_map": ["O", "H"],
        "descriptor": {
            "type": "se_atten_v2",
            "rcut": 3.5,
            "rcut_smth": 0.5,
            "sel": 20,
            "neuron": [4, 8],
            "axis_neuron": 2,
            "tebd_dim": 4,
            "attn": 8,
            "attn_layer": 1,
            "precision": "float64",
        },
        "fitting_net": {"neuron": [8], "precision": "float64"},
    },
    "learning_rate": {"start_lr": 1e-3, "stop_lr": 1e-5, "decay_steps": 2},
    "loss": {"start_pref_v": 0.1, "limit_pref_v": 0.1},
    "training": {
        "training_data": {"systems": ["small", "large"], "batch_size": [2, 1]},
        "numb_steps": 8,
        "seed": 3,
        "disp_freq": 2,
        "save_freq": 4,
    },
}


def content(changes: Mapping[str, Any] | None = None) -> dict[str, Any]:
    """The input with values replaced, by dotted path."""
    made = json.loads(json.dumps(INPUT))
    for path, value in (changes or {}).items():
        *sections, key = path.split(".")
        place = made
        for section in sections:
            place = place.setdefault(section, {})
        place[key] = value
    return made


def settings(changes: Mapping[str, Any] | None = None) -> InputSettings:
    """The checked input with values replaced, by dotted path."""
    return InputSettings.model_validate(content(changes))


def write_toy(
    folder: Path, types=(0, 1, 1), frames=6, seed=0, *, periodic=True, labels=("energy", "force", "virial")
) -> None:
    """Write a system of atoms on a shaken grid with random labels, which no model could learn."""
    rng = np.random.default_rng(seed)
    n = len(types)
    grid = np.stack(np.meshgrid(*[np.arange(3)] * 3, indexing="ij"), -1).reshape(-1, 3)[:n]
    arrays = {
        "coord": (2.0 * grid + rng.uniform(-0.4, 0.4, (frames, n, 3))).reshape(frames, -1),
        "box": np.tile(np.diag([6.0, 6.5, 7.0]).reshape(1, 9), (frames, 1)),
        "energy": rng.normal(-3.0 * n, 1, frames),
        "force": rng.normal(size=(frames, 3 * n)),
        "virial": rng.normal(size=(frames, 9)),
        "atom_ener": rng.normal(-3.0, 1, (frames, n)),
    }
    (folder / "set.000").mkdir(parents=True)
    (folder / "type.raw").write_text("\n".join(map(str, types)) + "\n")
    (folder / "type_map.raw").write_text("O\nH\n")
    if not periodic:
        (folder / "nopbc").touch()
    for name in ("coord", *(["box"] if periodic else []), *labels):
        np.save(folder / "set.000" / f"{name}.npy", arrays[name])


def write_data(folder: Path) -> None:
    """The systems of the input, of different sizes, and one for validation."""
    write_toy(folder / "small", (0, 1, 1), 6, 0)
    write_toy(folder / "large", (0, 1, 1, 0, 1), 5, 1)
    write_toy(folder / "valid", (1, 0, 1), 3, 2)
