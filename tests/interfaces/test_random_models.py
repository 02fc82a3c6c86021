"""Random DPA-1 energy models of DeePMD-kit, written by it, read here, written here, read by it: all equal."""

import numpy as np
import pytest

from dpax.geometry.neighborhoods import Capacity
from dpax.interfaces.model_files import open_model, write_model
from model.support import energies_of
from oracle.deepmd_model import evaluate, make_model, make_zbl_model, structures, write_pair_table

from deepmd.dpmodel.model.base_model import BaseModel  # isort: skip (the oracle skips where it is missing)
from deepmd.dpmodel.utils.serialization import load_dp_model, save_dp_model  # isort: skip

MODELS = 44
OFTEN = 13
"""Of them belong to every test run, the others to the slow one."""
ROOM = Capacity(atoms=56, slots=64)
STRUCTURES = structures()
ACTIVATIONS = (
    *("tanh", "relu", "relu6", "gelu", "gelu_tf", "softplus", "sigmoid"),
    *("silu", "silut", "silut:2", "custom_silu:4", "linear", "none"),
)
TYPE_MAPS = (("O", "H"), ("H", "C", "O"), ("O", "H"), ("Ni", "O", "H", "Cl"), ("Fe",))


def descriptor_options(number, rng, version):
    """Every option is drawn in some models; what the number decides comes in turns."""
    options = {
        "activation_function": ACTIVATIONS[number % len(ACTIVATIONS)],
        "precision": "float32" if number % 5 == 4 else "float64",
        "axis_neuron": int(rng.integers(1, 5)),
        "tebd_dim": int(rng.choice([2, 4, 6, 8])),
        "attn_layer": int(rng.integers(0, 3)),
        "attn_dotr": bool(rng.integers(2)),
        "resnet_dt": bool(rng.integers(2)),
        "type_one_side": bool(rng.integers(2)),
        "set_davg_zero": bool(rng.integers(2)),
        "env_protection": float(rng.choice([0.0, 0.1])),
        "scaling_factor": float(rng.choice([1.0, 0.5])),
        "normalize": bool(rng.integers(2)),
        "temperature": [None, 0.7][int(rng.integers(2))],
        "trainable_ln": bool(rng.integers(2)),
        "ln_eps": [None, 1e-4][int(rng.integers(2))],
        "concat_output_tebd": bool(rng.integers(2)),
        "use_econf_tebd": bool(rng.integers(2)),
        "use_tebd_bias": bool(rng.integers(2)),
        "lmax": int(rng.choice([1, 1, 2, 4])),
        "seed": number,
    }
    if version == 1:
        options["tebd_input_mode"] = str(rng.choice(["concat", "strip"]))
        options["smooth_type_embedding"] = bool(rng.integers(2))
    return options


def fitting_options(number, rng, n_types):
    return {
        "activation_function": ACTIVATIONS[(number + 4) % len(ACTIVATIONS)],
        "precision": "float32" if number % 5 == 4 else "float64",
        "neuron": [[16, 16], [8, 16, 16], []][number % 3],
        "resnet_dt": bool(rng.integers(2)),
        "numb_fparam": int(rng.choice([0, 0, 2])),
        "numb_aparam": int(rng.choice([0, 0, 3])),
        "dim_case_embd": 3 if number % 11 == 7 else 0,
        "atom_ener": [-1.5] + [None] * (n_types - 1) if number % 7 == 3 else None,
        "seed": number,
    }


def model_options(number, rng, n_types):
    options = {}
    if number % 4 == 1:
        options["atom_exclude_types"] = [n_types - 1]
    if number % 3 == 2:
        options["pair_exclude_types"] = [(0, n_types - 1)]
    if number % 6 == 4:
        # DeePMD-kit writes arrays there to neither of its files.
        options["preset_out_bias"] = {"energy": [None, *[[-1.25]] * (n_types - 1)]}
    return options


def random_model(number, folder):
    """A model of DeePMD-kit."""
    rng = np.random.default_rng(number)
    version, type_map = 1 + number % 2, TYPE_MAPS[number % len(TYPE_MAPS)]
    descriptor = descriptor_options(number, rng, version)
    arguments = {
        "version": version,
        "type_map": type_map,
        "fitting_options": fitting_options(number, rng, len(type_map)),
        "random_statistics": True,
        "energy_bias": rng.normal(scale=100.0, size=len(type_map)),
        **model_options(number, rng, len(type_map)),
    }
    compressed, short_range = number % 4 == 3, number % 6 == 5
    if compressed:
        descriptor |= {"resnet_dt": False} | ({"tebd_input_mode": "strip"} if version == 1 else {})
        descriptor |= {"lmax": 1, "attn_layer": number // 4 % 2}
        if descriptor["activation_function"].startswith(("silut", "custom_silu")):
            descriptor["activation_function"] = "silu"  # DeePMD-kit does not tabulate the others
    if short_range:
        table = write_pair_table(folder / "table.txt", len(type_map))
        arguments.pop("preset_out_bias", None)
        model = make_zbl_model(table=table, descriptor_options=descriptor, **arguments)
    else:
        model = make_model(descriptor_options=descriptor, **arguments)
    network = model.atomic_model.models[0] if short_range else model.atomic_model
    if network.fitting_net.dim_case_embd:
        network.fitting_net.set_case_embd(1)
    if compressed:
        network.descriptor.enable_compression(0.8, 5, 0.1, 1.0)  # few numbers: YAML is slow
    return model


def frames_of(model, number):
    """The structures with random types and parameters, once for each program."""
    rng = np.random.default_rng(number)
    frames = []
    for s in STRUCTURES.values():
        types = rng.integers(len(model.get_type_map()), size=len(s.atype))
        told = {}
        if model.get_dim_fparam():
            told["fparam"] = rng.normal(size=model.get_dim_fparam())
        if model.get_dim_aparam():
            told["aparam"] = rng.normal(size=(len(types), model.get_dim_aparam()))
        frames.append((s.coord, types, s.box, told))
    return frames


def energies_here(model, frames):
    """All structures in one block: periodic ones, and others that are not."""
    packed = []
    for coord, types, box, told in frames:
        columns = [np.broadcast_to(part, (len(types), part.shape[-1])) for part in told.values()]
        rows = np.concatenate(columns, axis=1) if columns else np.zeros((len(types), 0))
        packed.append((coord, types, box, [box is not None] * 3, rows))
    return energies_of(model, packed, ROOM)[: sum(len(frame[1]) for frame in frames)]


def energies_there(model, frames):
    return np.concatenate([evaluate(model, x, types, box, **told)[1] for x, types, box, told in frames])


def arrays_of(model):
    return {name: np.asarray(array).tobytes() for name, array in model.arrays.items()}


@pytest.mark.parametrize(
    "number", [n if n < OFTEN else pytest.param(n, marks=pytest.mark.slow) for n in range(MODELS)]
)
def test_there_and_back(number, tmp_path):
    theirs = random_model(number, tmp_path)
    frames = frames_of(theirs, number)
    script = {"type_map": theirs.get_type_map(), "info": {"observed_type": ["H"]}}
    document = {"model": theirs.serialize(), "model_def_script": script, "@variables": {"min_nbor_dist": 0.8}}
    save_dp_model(str(tmp_path / "theirs.dp"), document)
    model, provenance = open_model(tmp_path / "theirs.dp")
    assert provenance["min_nbor_dist"] == 0.8
    if model.spec.short_range is None:  # DeePMD-kit cannot write a table's NumPy scalars as YAML
        save_dp_model(str(tmp_path / "theirs.yaml"), document)
        from_yaml = open_model(tmp_path / "theirs.yaml")[0]
        assert arrays_of(from_yaml) == arrays_of(model)
        assert from_yaml.spec == model.spec
        assert from_yaml.bias == model.bias

    expected = energies_there(theirs, frames)
    tight = number % 5 != 4
    close = {"rtol": 1e-10, "atol": 1e-10} if tight else {"rtol": 2e-6, "atol": 2e-4}
    np.testing.assert_allclose(energies_here(model, frames), expected, **close)

    for ending in (".dp", ".yaml"):
        write_model(tmp_path / f"ours{ending}", model, provenance)
        back = load_dp_model(str(tmp_path / f"ours{ending}"))
        assert float(back["@variables"]["min_nbor_dist"]) == back["min_nbor_dist"] == 0.8
        again = energies_there(BaseModel.deserialize(back["model"]), frames)
        np.testing.assert_allclose(
            again, expected, rtol=1e-12 if tight else 1e-6, atol=1e-12 if tight else 1e-5
        )
        assert back["model_def_script"]["info"] == {"observed_type": ["H"]}
