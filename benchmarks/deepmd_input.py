"""Model and data as DeePMD-kit takes them, made without dpax: its environment need not have it."""

from pathlib import Path
from typing import Any

import numpy as np
from deepmd.dpmodel.utils.serialization import load_dp_model
from structures import Structure


def model_dictionary(path: str) -> dict[str, Any]:
    """DeePMD-kit's dictionary of a model, which dpax has written beside its own file."""
    return load_dp_model(str(Path(path).with_suffix(".dp")))["model"]


def batch_of(group: list[Structure]) -> dict[str, Any]:
    """A batch of one composition as DeePMD-kit's data system hands it out."""
    frames = len(group)
    arrays = {
        "coord": np.stack([one.positions for one in group]).reshape(frames, -1),
        "type": np.stack([one.types for one in group]).astype(np.int32),
        "energy": np.array([[one.energy] for one in group]),
        "force": np.stack([one.forces for one in group]).reshape(frames, -1),
    }
    if group[0].cell is not None:
        arrays["box"] = np.stack([one.cell for one in group]).reshape(frames, 9)
    return {**arrays, **{f"find_{name}": np.float32(name in arrays) for name in ("box", "energy", "force")}}
