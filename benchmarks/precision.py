"""How far a model in float32 is from the same model in float64, on every atom of a set of frames.

python benchmarks/precision.py MODEL SYSTEM…
"""

import argparse
from pathlib import Path
from typing import Any

import jax
import numpy as np

import dpax
from dpax.data import open_systems
from dpax.deepmd.model_dictionary import read_model
from dpax.infer import Potential

AT_ONCE = 16


def in_float64(content: Any) -> Any:
    """A model's dictionary with every precision, and every array, made float64."""
    if isinstance(content, dict):
        return {key: "float64" if key == "precision" else in_float64(value) for key, value in content.items()}
    if isinstance(content, list):
        return [in_float64(value) for value in content]
    if isinstance(content, np.ndarray) and content.dtype.kind == "f":
        return content.astype(np.float64)
    return content


def main() -> None:
    """Evaluate all frames twice, and print the largest deviations."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("model", type=Path)
    parser.add_argument("systems", nargs="+")
    given = parser.parse_args()
    dpax.configure()
    single = dpax.load(given.model)
    with jax.enable_x64(True):
        double = Potential(read_model(in_float64(model_dictionary(single.model))))
    if single.model.needs_x64 or not double.model.needs_x64:
        raise SystemExit(f"{given.model}: not a model in float32")
    energy, forces, frames = 0.0, 0.0, 0
    for system in open_systems(given.systems, single.type_map):
        for start in range(0, len(system), AT_ONCE):
            group = [system.frame(n) for n in range(start, min(start + AT_ONCE, len(system)))]
            for one, two in zip(single.evaluate(group), double.evaluate(group), strict=True):
                energy = max(energy, abs(one.energy - two.energy) / len(one.forces))
                forces = max(forces, float(np.abs(one.forces - two.forces).max()))
                frames += 1
    print(f"{frames} frames: at most {energy:.1e} eV/atom, and {forces:.1e} eV/Å of any component of a force")


if __name__ == "__main__":
    main()
