"""Makes `data/`: small model files written by DeePMD-kit itself, and what it computes with them.

    python tests/interfaces/make_deepmd_files.py

needs deepmd-kit 3.2.0 with torch, jax, flatbuffers and mpich, and a few minutes. Every file is made by
DeePMD-kit's command line: a training of two steps with its PyTorch or JAX backend, then `freeze`, `compress`
and `convert-backend`. Energies, forces and virials are those of `deepmd.infer.DeepPot`. Files are kept
zipped, without compiled programs and information for debuggers.
"""

import json
import os
import shutil
import subprocess
import sys
import tempfile
import zipfile
from pathlib import Path

import h5py
import numpy as np

sys.path.insert(0, str(Path(__file__).parents[1]))
from oracle.deepmd_model import structures

DATA = Path(__file__).parent / "data"
NAMES = ("triclinic", "small cell", "cluster")
DESCRIPTOR = {
    "rcut": 3.5,
    "rcut_smth": 0.5,
    "sel": 48,
    "neuron": [4, 8],
    "axis_neuron": 2,
    "attn": 8,
    "attn_layer": 1,
    "seed": 1,
}
V1 = {"type": "se_atten"} | DESCRIPTOR
V2 = {"type": "se_atten_v2"} | DESCRIPTOR
PARAMETERS = {"numb_fparam": 2, "numb_aparam": 1, "default_fparam": [0.1, 0.2]}
TABLE = {"use_srtab": "table.txt", "smin_alpha": 0.1, "sw_rmin": 0.8, "sw_rmax": 1.6}
MODELS = {
    "v1": {"descriptor": V1},
    "v2": {
        "descriptor": V2,
        "fitting_net": PARAMETERS,
        "atom_exclude_types": [1],
        "pair_exclude_types": [[0, 1]],
    },
    "table": {"descriptor": V1 | {"smooth_type_embedding": True, "activation_function": "gelu"}, **TABLE},
    "no_attention": {"descriptor": V2 | {"attn_layer": 0}},
}


def parameters(n_atoms):
    """fparam [2] and aparam [atoms, 1] of the reference structures."""
    rng = np.random.default_rng(n_atoms)
    return rng.standard_normal(2), rng.standard_normal((n_atoms, 1))


def write_data(folder):
    """A system of six atoms with random labels, and a table of pair energies."""
    rng = np.random.default_rng(0)
    place = folder / "system" / "set.000"
    place.mkdir(parents=True)
    (folder / "system" / "type.raw").write_text("0\n0\n1\n1\n1\n1\n")
    (folder / "system" / "type_map.raw").write_text("O\nH\n")
    base = np.array([[0, 0, 0], [3, 3, 3], [1, 0.1, 0], [0, 1, 0.2], [4, 3, 3.1], [3, 4, 3]], float)
    arrays = {
        "coord": base + 0.1 * rng.standard_normal((4, 6, 3)),
        "box": np.tile(np.diag([6.2, 6.0, 6.4]), (4, 1, 1)),
        "energy": rng.standard_normal((4, 1)) - 20,
        "force": rng.standard_normal((4, 18)),
        "fparam": rng.standard_normal((4, 2)),
        "aparam": rng.standard_normal((4, 6)),
    }
    for name, array in arrays.items():
        np.save(place / f"{name}.npy", array.reshape(4, -1))
    r = np.linspace(0.02, 3.5, 60)
    pairs = [(k + 1) * np.exp(-2 * r) / r * (1 - r / 3.5) ** 3 for k in range(3)]
    np.savetxt(folder / "table.txt", np.stack([r, *pairs], axis=1))


def input_of(models):
    """An input file for one model, or for several that share a descriptor."""
    data = {"training_data": {"systems": ["system"], "batch_size": 1}}
    training = {"numb_steps": 2, "seed": 1, "disp_freq": 1, "save_freq": 2}
    rate = {"type": "exp", "start_lr": 0.01, "stop_lr": 1e-5, "decay_steps": 10}
    if "descriptor" in models:
        net = {"neuron": [8, 8], "seed": 1} | models.get("fitting_net", {})
        model = models | {"type_map": ["O", "H"], "fitting_net": net}
        return {
            "model": model,
            "learning_rate": rate,
            "loss": {"type": "ener"},
            "training": training | data,
        }
    branches = {
        name: {"type_map": "types", "descriptor": "shared", "fitting_net": {"neuron": [8, 8], "seed": seed}}
        | more
        for seed, (name, more) in enumerate(models.items())
    }
    return {
        "model": {"shared_dict": {"types": ["O", "H"], "shared": V2}, "model_dict": branches},
        "learning_rate": rate,
        "loss_dict": {name: {"type": "ener"} for name in models},
        "training": training
        | {"model_prob": dict.fromkeys(models, 0.5), "data_dict": dict.fromkeys(models, data)},
    }


def dp(folder, *arguments):
    """Run DeePMD-kit's command line."""
    print("dp", *arguments, flush=True)
    command = [str(Path(sys.executable).with_name("dp")), *arguments]
    done = subprocess.run(command, cwd=folder, capture_output=True, text=True, check=False)
    if done.returncode:
        sys.exit(done.stdout[-2000:] + done.stderr[-4000:])


def make_files(folder):
    """All files of `data/`, in a folder."""
    for name, model in MODELS.items():
        train(folder, name, model)
        freeze(folder, name, f"{name}.pth")
        for ending in (".jax", ".hlo"):
            dp(folder, "convert-backend", f"{name}.pth", f"{name}{ending}")
    for name, source in {"compressed": "no_attention", "compressed_pairs": "v2"}.items():
        for ending in (".jax", ".hlo"):
            compress(folder, f"{source}{ending}", f"{name}{ending}", f"{source}.json")
    train(
        folder,
        "branches",
        {"water": {"model_branch_alias": ["H2O"], "info": {"description": "liquid"}}, "ice": {}},
    )
    join_branches(folder)


def train(folder, name, model):
    """A checkpoint after two steps, and the input beside it."""
    (folder / f"{name}.json").write_text(json.dumps(input_of(model)))
    dp(folder, "--pt", "train", f"{name}.json")
    shutil.move(folder / "model.ckpt-2.pt", folder / f"{name}.pt")
    (folder / "model.ckpt.pt").unlink()


def freeze(folder, name, output, *options):
    """Freezing takes the model.ckpt.pt of a folder, or the checkpoint that the file `checkpoint` names."""
    (folder / "checkpoint").write_text(f"{name}.pt")
    dp(folder, "--pt", "freeze", "-o", output, *options)


def compress(folder, source, output, script):
    dp(folder, "--jax", "compress", "-i", source, "-o", output, "-t", script, "-s", "0.1", "-e", "2")


def join_branches(folder):
    """DeePMD-kit makes a multi-task `.jax` folder from a `.dp` file with several models."""
    from deepmd.dpmodel.utils.serialization import load_dp_model, save_dp_model

    parts = {}
    for branch in ("water", "ice"):
        freeze(folder, "branches", f"{branch}.pth", "--head", branch)
        dp(folder, "convert-backend", f"{branch}.pth", f"{branch}.dp")
        parts[branch] = load_dp_model(str(folder / f"{branch}.dp"))
    document = {
        "model": {"model_dict": {name: part["model"] for name, part in parts.items()}},
        "model_def_script": {"model_dict": {name: part["model_def_script"] for name, part in parts.items()}},
        "@variables": {},
    }
    save_dp_model(str(folder / "branches.dp"), document)
    dp(folder, "convert-backend", "branches.dp", "branches.jax")


def reference(path, **options):
    """Energy, forces and virial of the structures by DeePMD-kit."""
    from deepmd.infer import DeepPot

    potential, found = DeepPot(str(path), **options), {}
    for name in NAMES:
        coord, types, box = structures()[name]
        fparam, aparam = parameters(len(types))
        told = {"fparam": fparam[None], "aparam": aparam[None]} if potential.get_dim_fparam() else {}
        cell = None if box is None else box.reshape(1, 9)
        energy, force, virial = potential.eval(coord.reshape(1, -1), cell, types, **told)[:3]
        found[name] = {"energy": energy.reshape(()), "forces": force[0], "virial": virial.reshape(3, 3)}
    return found


def references(folder):
    """By the names of the files; DeePMD-kit cannot evaluate a `.jax` folder, but the `.hlo` beside it."""
    files = {f"{name}{ending}": f"{name}{ending}" for name in MODELS for ending in (".pt", ".pth", ".hlo")}
    files |= {f"{name}.hlo": f"{name}.hlo" for name in ("compressed", "compressed_pairs")}
    found = {name: reference(folder / file) for name, file in files.items()}
    found |= {
        name.replace(".hlo", ".jax"): numbers for name, numbers in found.items() if name.endswith(".hlo")
    }
    for branch in ("water", "ice"):
        found[f"branches.pt:{branch}"] = reference(folder / "branches.pt", head=branch)
        found[f"branches.jax:{branch}"] = found[f"branches.pt:{branch}"]
    return found


def trim(path):
    """Take out what is large and not read by dpax: compiled programs, and information for debuggers."""
    rest = path.with_suffix(".rest")
    if path.suffix == ".hlo":
        with h5py.File(path) as old, h5py.File(rest, "w") as new:
            text = old.attrs["json"]
            variables = json.loads(text)["@variables"]
            programs = {place.strip("/") for name, place in variables.items() if name.startswith("stablehlo")}
            for name, dataset in old.items():
                new[name] = np.void(b"a program") if name in programs else dataset[()]
            new.attrs["json"] = text
    elif path.suffix == ".pth":
        with zipfile.ZipFile(path) as old, zipfile.ZipFile(rest, "w") as new:
            for part in old.infolist():
                if not part.filename.endswith(".debug_pkl"):
                    new.writestr(part, old.read(part))
    if rest.exists():
        rest.replace(path)


def keep(folder, found):
    """Zip the files that have references, and write these."""
    for name in sorted({name.partition(":")[0] for name in found}):
        path = folder / name
        trim(path)
        parts = [part for part in sorted(path.rglob("*")) if part.is_file()] if path.is_dir() else [path]
        with zipfile.ZipFile(DATA / f"{name}.zip", "w", zipfile.ZIP_LZMA) as archive:
            for part in parts:
                archive.write(part, part.relative_to(folder))
    flat = {
        f"{file}|{structure}|{quantity}": value
        for file, by_structure in found.items()
        for structure, values in by_structure.items()
        for quantity, value in values.items()
    }
    np.savez_compressed(DATA / "references.npz", **flat)


if __name__ == "__main__":
    DATA.mkdir(exist_ok=True)
    with tempfile.TemporaryDirectory() as name:
        workplace = Path(name)
        write_data(workplace)
        os.chdir(workplace)  # the checkpoint with a table names it without its folder
        make_files(workplace)
        keep(workplace, references(workplace))
