"""A potential as a program that JAX alone can run: StableHLO by `jax.export`, and what is needed beside it.

The program takes padded edge lists of any size: all its axes are symbolic. The atoms come in blocks on a
leading axis, over which it loops, so that memory beyond its inputs and outputs is that of one block.
"""

import json
import os
import shutil
from collections.abc import Sequence
from functools import partial
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float, Int

from dpax.computing import computing
from dpax.data import Frame
from dpax.errors import InputError
from dpax.files import check_output, replacing
from dpax.geometry.neighborhoods import Capacity, from_slots
from dpax.infer import Potential
from dpax.interfaces import run_exported
from dpax.model.blocks import default_block_size
from dpax.model.derivatives import block_gradients, forces_from, virials_from
from dpax.model.energies import Block, ModelSpec, ModelWeights
from dpax.model.energy_model import EnergyModel
from dpax.version import __version__

PLATFORMS = ("cpu", "cuda", "rocm", "tpu")
"""What `jax.export` can lower a program for; one file holds them all."""
TOLERANCE = {True: 1e-12, False: 1e-5}
"""How far the program may be from `Potential.evaluate`: all in float64, or anything in float32."""
_PROGRAM = "potential.stablehlo"


def export_potential(
    potential: Potential, folder: str | os.PathLike, platforms: Sequence[str] = PLATFORMS
) -> dict[str, float]:
    """Write a folder with the program, a JSON of what it needs, a README, and an example that checks it.

    The folder appears when it has been checked: read back, run by its own example, and compared with
    `potential.evaluate`.

    Args:
        potential: to export.
        folder: to make; must not exist.
        platforms: of `PLATFORMS`, those that the program is to run on; this machine's must be among them.

    Returns:
        The largest differences found in energy, forces and virial, relative to the largest number.

    Raises:
        InputError: the folder exists or cannot be made, or an unknown platform.
        RuntimeError: the program disagrees with the potential.
    """
    folder = Path(folder)
    check_output(folder, overwrite=None)
    _check_platforms(platforms)
    with replacing(folder) as made:
        made.mkdir()
        (made / _PROGRAM).write_bytes(_program(potential.model, platforms))
        _write_json(made / "potential.json", _facts(potential, platforms))
        _write_json(made / "check.json", _examples(potential))
        shutil.copyfile(run_exported.__file__, made / "run.py")
        (made / "README.md").write_text(_readme(potential.model, platforms), encoding="utf-8")
        worst, tolerance = run_exported.check(made)
        if not max(worst.values()) <= tolerance:
            raise RuntimeError(f"the exported program differs from the model by {worst}; nothing was written")
    return worst


def _check_platforms(platforms: Sequence[str]) -> None:
    unknown = [name for name in platforms if name not in PLATFORMS]
    if unknown or not platforms:
        raise InputError(f"platforms: {', '.join(unknown) or 'none'}; known ones: {', '.join(PLATFORMS)}")
    here = jax.default_backend()
    here = "cuda" if here == "gpu" and "cuda" in platforms else "rocm" if here == "gpu" else here
    if here not in platforms:
        raise InputError(
            f"platforms: {', '.join(platforms)}; the program is checked here, so {here} must be among them"
        )


def _program(model: EnergyModel, platforms: Sequence[str]) -> bytes:
    """The serialised program, with all sizes left open."""
    blocks, block, slots = jax.export.symbolic_shape("blocks, block, slots")
    inputs = sum(model.spec.parameter_widths[:2])
    spec, weights = model.spec, model.evaluation_weights()
    with computing(True):
        shapes = [
            jax.ShapeDtypeStruct((blocks, block, slots, 3), jnp.float64),
            jax.ShapeDtypeStruct((blocks, block, slots), jnp.int32),
            jax.ShapeDtypeStruct((blocks, block), jnp.int32),
            *([jax.ShapeDtypeStruct((blocks, block, inputs), jnp.float64)] if inputs else []),
        ]
        function = partial(_evaluate, spec, weights, np.array(model.bias), model.dtype)
        return bytes(jax.export.export(jax.jit(function), platforms=platforms)(*shapes).serialize())


def _evaluate(
    spec: ModelSpec,
    weights: ModelWeights,
    bias: np.ndarray,
    dtype: np.dtype,
    edges: Float[Array, "blocks block slots 3"],
    neighbors: Int[Array, "blocks block slots"],
    types: Int[Array, "blocks block"],
    parameters: Float[Array, "blocks block inputs"] | None = None,
) -> dict[str, Array]:
    """What the exported program computes, in float64 but for the model itself."""
    blocks, block, slots = neighbors.shape
    atoms = blocks * block
    if parameters is None:
        parameters = jnp.zeros((blocks, block, 0))
    inside = jnp.sum(edges * edges, axis=-1) <= spec.descriptor.rcut**2
    neighborhoods = from_slots(
        edges.reshape(atoms, slots, 3),
        jnp.where(inside, neighbors, -1).reshape(atoms, slots),
        types.reshape(atoms),
        parameters.reshape(atoms, parameters.shape[-1]),
        Capacity(atoms, slots + 1),
        dtype,
    )
    work = jax.tree.map(lambda x: x.reshape(blocks, block, *x.shape[1:]), Block.of(neighborhoods))
    energies, gradient = jax.lax.map(partial(block_gradients, spec, weights), work)
    energies = energies.reshape(atoms).astype(jnp.float64)
    centres = neighborhoods.types
    energies += jnp.where(centres >= 0, jnp.asarray(bias)[jnp.maximum(centres, 0)], 0.0)
    gradient = gradient.reshape(atoms, slots + 1, 3).astype(jnp.float64)
    exact = neighborhoods._replace(edges=neighborhoods.edges.astype(jnp.float64))
    return {
        "energy": jnp.sum(energies),
        "energies": energies,
        "forces": forces_from(gradient, exact),
        "virial": virials_from(gradient, exact, 1)[0],
    }


def _facts(potential: Potential, platforms: Sequence[str]) -> dict[str, Any]:
    """What the program needs to be run, and where it comes from."""
    model = potential.model
    n_frame, n_atomic, default = model.spec.parameter_widths
    return {
        "program": _PROGRAM,
        "type_map": list(model.type_map),
        "rcut": model.rcut,
        "precision": str(model.dtype),
        "bias": list(model.bias),
        "fparam": n_frame,
        "default_fparam": default,
        "aparam": n_atomic,
        "units": {"energy": "eV", "length": "Å", "forces": "eV/Å", "virial": "eV"},
        "inputs": _INPUTS + (_PARAMETERS if n_frame + n_atomic else []),
        "outputs": _OUTPUTS,
        "rows_of_a_block": {"cpu": default_block_size(1, "cpu"), "accelerator": default_block_size(1, "gpu")},
        "platforms": list(platforms),
        "tolerance": TOLERANCE[_all_float64(model)],
        "dpax": __version__,
        "jax": jax.__version__,
        "provenance": potential.provenance,
    }


_INPUTS = [
    {
        "name": "edges",
        "dtype": "float64",
        "shape": ["blocks", "block", "slots", 3],
        "meaning": "r_j - r_i of the neighbours of each atom, Å; anything in empty slots",
    },
    {
        "name": "neighbors",
        "dtype": "int32",
        "shape": ["blocks", "block", "slots"],
        "meaning": "j, counted over blocks * block; -1 in empty slots",
    },
    {
        "name": "types",
        "dtype": "int32",
        "shape": ["blocks", "block"],
        "meaning": "indices of type_map; -1 for atoms that only fill up the last block",
    },
]
_PARAMETERS = [
    {
        "name": "parameters",
        "dtype": "float64",
        "shape": ["blocks", "block", "fparam + aparam"],
        "meaning": "fparam, the same for each atom, then aparam",
    }
]
_OUTPUTS = [
    {"name": "energy", "dtype": "float64", "shape": [], "meaning": "of all atoms, bias included"},
    {"name": "energies", "dtype": "float64", "shape": ["blocks * block"], "meaning": "of each atom"},
    {"name": "forces", "dtype": "float64", "shape": ["blocks * block", 3], "meaning": "on each atom"},
    {"name": "virial", "dtype": "float64", "shape": [3, 3], "meaning": "-dE/d(strain)"},
]


def _all_float64(model: EnergyModel) -> bool:
    return model.dtype == np.float64 and model.spec.fitting.dtype == np.float64


def _examples(potential: Potential) -> list[dict[str, Any]]:
    """A crystal, a slab and a cluster of all types, with what the potential says of them."""
    model, rng = potential.model, np.random.default_rng(0)
    grid = np.stack(np.meshgrid(*map(np.arange, (3, 3, 2)), indexing="ij"), -1).reshape(-1, 3)
    cell = np.array([[7.5, 0.0, 0.0], [1.0, 7.5, 0.0], [-0.8, 1.2, 5.0]])
    n_frame, n_atomic, default = model.spec.parameter_widths
    examples = []
    for pbc in ((True, True, True), (True, True, False), (False, False, False)):
        positions = grid @ (cell / np.array([[3], [3], [2]])) + rng.uniform(-0.2, 0.2, grid.shape)
        types = rng.permutation(np.arange(len(grid)) % len(model.type_map)).astype(np.int32)
        inputs: dict[str, Any] = {}
        if n_frame:
            inputs["fparam"] = rng.normal(size=n_frame) if default is None else np.array(default)
        if n_atomic:
            inputs["aparam"] = rng.normal(size=(len(grid), n_atomic))
        box = cell if any(pbc) else None
        result = potential.evaluate(Frame(positions, types, box, pbc, "example", **inputs))
        expected = {"energy": result.energy, "forces": result.forces, "virial": result.virial}
        symbols = [model.type_map[t] for t in types]
        structure = {"positions": positions, "symbols": symbols, "cell": box, "pbc": pbc, **inputs}
        examples.append({**structure, "expected": expected})
    return examples


def _write_json(path: Path, content: Any) -> None:
    text = json.dumps(content, indent=1, default=np.ndarray.tolist, ensure_ascii=False)
    path.write_text(text + "\n", encoding="utf-8")


def _readme(model: EnergyModel, platforms: Sequence[str]) -> str:
    inputs = _INPUTS + (_PARAMETERS if any(model.spec.parameter_widths[:2]) else [])
    tables = [
        "\n".join(
            f"| `{row['name']}` | {row['dtype']} | [{', '.join(map(str, row['shape']))}] | {row['meaning']} |"
            for row in rows
        )
        for rows in (inputs, _OUTPUTS)
    ]
    return _README.format(
        types=" ".join(model.type_map),
        rcut=model.rcut,
        platforms=", ".join(platforms),
        program=_PROGRAM,
        inputs=tables[0],
        outputs=tables[1],
        jax=jax.__version__,
    )


_README = """\
# A DPA-1 potential of {types}

A program that `jax` runs without dpax (it reads the file with the small package `flatbuffers`), and what it
needs.

    pip install jax flatbuffers
    python run.py

evaluates the structures of `check.json` and compares the results with those of the model that was exported.
`run.py` is also the example to start from: it finds neighbours in plain NumPy, packs them and calls the
program.

- `{program}`: the program, StableHLO serialised by `jax.export` of jax {jax}, for {platforms}. Later
  versions of jax read it as long as jax promises (at least six months). The weights are inside.
- `potential.json`: cutoff ({rcut} Å), order of the types, energy bias (already in the energies), precision,
  and the arrays that the program takes and returns.

Energies are in eV, lengths in Å. Turn on JAX's 64-bit mode (`jax.enable_x64(True)`): the arrays are float64,
whatever the model computes in. The sizes `blocks`, `block` and `slots` are yours to choose; JAX compiles the
program for each choice. It loops over `blocks`, so that it needs the memory of one block of `block` atoms,
whatever their number. Pairs beyond the cutoff do no harm, so that lists may be kept for several steps.

Takes, in this order:

| name | dtype | shape | meaning |
| --- | --- | --- | --- |
{inputs}

Returns a dictionary:

| name | dtype | shape | meaning |
| --- | --- | --- | --- |
{outputs}
"""
