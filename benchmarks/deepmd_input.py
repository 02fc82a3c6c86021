"""Model and data as DeePMD-kit takes them, made without dpax: its environment need not have it."""

import json
from pathlib import Path
from typing import Any

import numpy as np
from structures import Structure

_DTYPES = {"F64": np.float64, "F32": np.float32, "I64": np.int64, "I32": np.int32, "BOOL": np.bool_}


def model_dictionary(path: str) -> dict[str, Any]:
    """DeePMD-kit's dictionary of the model in a model file of dpax (docs/model-file.md)."""
    content = Path(path).read_bytes()
    start = 8 + int.from_bytes(content[:8], "little")
    header = json.loads(content[8:start])

    def array(name: str) -> np.ndarray:
        entry = header[name]
        first, last = (start + offset for offset in entry["data_offsets"])
        return np.frombuffer(content[first:last], _DTYPES[entry["dtype"]]).reshape(entry["shape"])

    def filled(tree: Any) -> Any:
        if isinstance(tree, dict):
            return array(tree["@array"]) if "@array" in tree else {k: filled(v) for k, v in tree.items()}
        return [filled(item) for item in tree] if isinstance(tree, list) else tree

    return filled(json.loads(header["__metadata__"]["model"]))


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
