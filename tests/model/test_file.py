"""The model file: everything comes back bit by bit, and what is no model is refused in plain words."""

import hashlib
import json
import tracemalloc
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from safetensors import safe_open
from safetensors.numpy import save_file

from dpax.descriptor.compression import compressed
from dpax.errors import InputError
from dpax.model.energy_model import EnergyModel, initial_model
from dpax.model.file import VERSION, load_model, read_header, save_model
from dpax.model.pair_table import PairTable
from dpax.model.short_range import ShortRange
from dpax.nn.arrays import placed

from .support import tiny_descriptor, tiny_model, tiny_spec

CASES = {
    "v1 float64": {},
    "v2 float32": {"version": 2, "precision": "float32"},
    "float16": {"precision": "float16", "resnet_dt": True},
    "bfloat16": {"version": 2, "precision": "bfloat16"},
    "branch norm": {"attn_norm": "branch", "temperature": 1.7, "use_tebd_bias": True},
    "ignore empty": {"empty_slots": "ignore", "exclude_types": [[0, 1]], "attn_layer": 0},
    "many moments": {"lmax": 3, "tebd_input_mode": "strip", "env_protection": 0.1, "sel": [20, 30]},
    "electron configurations": {"use_econf_tebd": True, "smooth_type_embedding": False},
    "frozen": {"trainable": False},
    "frozen norms": {"trainable_ln": False, "concat_output_tebd": False},
}


def contents(model) -> dict:
    """Whether it is trained, precision, shape and bytes of every array by its name."""
    return {
        name: (name in model.trained, array.dtype.name, array.shape, np.asarray(array).tobytes())
        for name, array in model.arrays.items()
    }


def assert_same(model, expected) -> None:
    assert contents(model) == contents(expected)
    assert model.spec == expected.spec
    assert model.bias == expected.bias


def with_tables(**options) -> EnergyModel:
    model = tiny_model(version=2, **options)
    arrays = compressed(model.spec.descriptor, model.descriptor, 0.9, 2, 0.1, 0.5)
    return model.with_arrays(placed(arrays, "descriptor"))


def with_short_range(**options) -> EnergyModel:
    """A model with a table of made-up numbers, and with the options of the whole."""
    rng, plain = np.random.default_rng(3), tiny_model()
    knots = np.column_stack([np.arange(9) * 0.5, rng.normal(size=(9, 3))])
    table = PairTable(knots, rng.normal(size=(2, 2, 8, 4)), 3.5, plain.rcut)
    short = ShortRange(table=table, sw_rmin=0.5, sw_rmax=1.0, smin_alpha=0.2, **options)
    return replace(plain, spec=plain.spec.changed(short_range=short))


def with_options() -> EnergyModel:
    spec = tiny_spec(
        tiny_descriptor(precision="float64"),
        (8,),
        fitting_numb_fparam=2,
        fitting_default_fparam=[0.5, 1 / 3],
        fitting_numb_aparam=1,
        fitting_dim_case_embd=3,
        fitting_exclude_types=[0],
        fitting_zero_energies=[None, 1.5],
        fitting_rcond=1e-3,
        atom_exclude_types=[1],
        pair_exclude_types=[[0, 1]],
        preset_out_bias=[None, 2.0],
        isolated_energies=[1 / 3, None],
    )
    return initial_model(spec, seed=1).with_bias([-3.0, 2.0])


MODELS = {name: lambda options=options: tiny_model(**options) for name, options in CASES.items()} | {
    "tables": lambda: with_tables(attn_layer=0),
    "tables in half precision": lambda: with_tables(attn_layer=0, precision="float16"),
    "a table of type pairs": lambda: with_tables(attn_layer=1),
    "short range": with_short_range,
    "short range without bias": lambda: with_short_range(add_bias=False, fitting_bias=[0.1, 1 / 3]),
    "options of the whole": with_options,
}


@pytest.mark.filterwarnings("ignore:with attention layers:UserWarning")
@pytest.mark.parametrize("name", MODELS)
def test_everything_comes_back(tmp_path, name):
    """Same arrays, trained or not, and the same constants: so any number computed is the same too."""
    model = MODELS[name]()
    save_model(tmp_path / "model.dpax", model, {"step": 3})
    loaded, provenance = load_model(tmp_path / "model.dpax")
    assert_same(loaded, model)
    assert loaded.type_map == model.type_map
    assert provenance == {"step": 3}
    save_model(tmp_path / "again.dpax", loaded, {"step": 3})
    assert read_header(tmp_path / "again.dpax") == read_header(tmp_path / "model.dpax")


def test_frozen_layers_stay_frozen(tmp_path):
    spec = tiny_spec(tiny_descriptor(), (6, 6), fitting_trainable=[False, True, False])
    save_model(tmp_path / "model.dpax", initial_model(spec, seed=1), {})
    loaded = load_model(tmp_path / "model.dpax")[0]
    trained = {name for name in loaded.trained if name.startswith("fitting/")}
    assert trained == {"fitting/1/w", "fitting/1/b", "fitting/1/idt"}
    assert loaded.spec.fitting.trained_layers == (False, True, False)


def test_anyone_can_open_it(tmp_path):
    """Plain safetensors with telling names, and a description in JSON."""
    model = tiny_model()
    save_model(tmp_path / "model.dpax", model, {"data": ["water"], "step": 12})
    metadata, arrays = read_parts(tmp_path / "model.dpax")
    np.testing.assert_array_equal(arrays["fitting/0/w"], model.arrays["fitting/0/w"])
    assert arrays.keys() == model.arrays.keys() | {"bias"}
    assert {"descriptor/mean", "descriptor/stddev", "descriptor/embedding/1/w"} <= arrays.keys()
    assert (arrays["bias"].dtype, tuple(arrays["bias"])) == (np.float64, model.bias)
    assert metadata["format"] == "dpax"
    assert int(metadata["version"]) == VERSION == 2
    assert json.loads(metadata["model"])["descriptor"]["rcut"] == 4.0
    assert json.loads(metadata["provenance"]) == {"data": ["water"], "step": 12}
    header = read_header(tmp_path / "model.dpax")
    assert header.version == VERSION
    assert header.provenance == {"data": ["water"], "step": 12}
    assert header.digest == metadata["digest"]
    assert header.model["type_map"] == ["O", "H"]


def test_file_is_replaced_at_once_or_not_at_all(tmp_path, monkeypatch):
    path = tmp_path / "model.dpax"
    save_model(path, tiny_model(seed=1), {})
    before = path.read_bytes()

    def full_disk(file, content):
        file.write_text("half a file")
        raise OSError("no space left on device")

    with monkeypatch.context() as patch:
        patch.setattr(Path, "write_bytes", full_disk)
        with pytest.raises(OSError, match="no space"):
            save_model(path, tiny_model(seed=2), {})
    assert path.read_bytes() == before
    save_model(path, tiny_model(seed=2), {})
    assert path.read_bytes() != before
    assert list(tmp_path.iterdir()) == [path]


def test_folder_that_does_not_exist_is_named(tmp_path):
    with pytest.raises(InputError, match=r"model\.dpax: the folder .*none does not exist"):
        save_model(tmp_path / "none" / "model.dpax", tiny_model(), {})


def read_parts(path) -> tuple[dict, dict]:
    with safe_open(path, framework="numpy") as file:
        return file.metadata(), {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118


def rewritten(path, arrays=None, **changes):
    """The model file with changed metadata and arrays, and without a digest; None leaves one out."""
    metadata, there = read_parts(path)
    metadata |= {"digest": None, **changes}
    kept = ({k: v for k, v in part.items() if v is not None} for part in (there | (arrays or {}), metadata))
    save_file(next(kept), path, metadata=next(kept))


def foreign_safetensors(path):
    save_file({"x": np.zeros(3)}, path, metadata={"format": "pt"})


def newer(path):
    rewritten(path, version=str(VERSION + 1))


def no_version(path):
    rewritten(path, version=None)


def broken_json(path):
    rewritten(path, model="{")


def array_missing(path):
    rewritten(path, {"bias": None})


def layer_missing(path):
    rewritten(path, {"fitting/2/w": None})


def array_added(path):
    rewritten(path, {"fitting/3/w": np.zeros((1, 1))})


def key_missing(path):
    rewritten(path, model=path_with(path, lambda m: m["descriptor"].pop("ntypes")))


def section_missing(path):
    rewritten(path, model=path_with(path, lambda m: m.pop("fitting")))


def unknown_key(path):
    rewritten(path, model=path_with(path, lambda m: m["descriptor"].update(flavour="lemon")))


def other_descriptor(path):
    rewritten(path, model=path_with(path, lambda m: m["descriptor"].update(type="se_e2_a")))


def path_with(path, change):
    model = read_header(path).model
    change(model)
    return json.dumps(model)


@pytest.mark.parametrize(
    ("spoil", "message"),
    [
        (lambda path: path.unlink(), "there is no such model file"),
        (lambda path: path.write_bytes(b""), "not a dpax model file, or a damaged one"),
        (lambda path: path.write_text("model:\n  type_map: [O]\n"), "not a dpax model file"),
        (lambda path: path.write_bytes(path.read_bytes()[:-100]), "not a dpax model file, or a damaged one"),
        (foreign_safetensors, "a safetensors file, but not a dpax model"),
        (newer, f"format version {VERSION + 1}; this dpax reads up to {VERSION}: install a newer one"),
        (no_version, "damaged, or not written by dpax .*'version'"),
        (broken_json, "damaged, or not written by dpax"),
        (array_missing, "the array bias is missing"),
        (layer_missing, "the array .*2/w is missing"),
        (array_added, "the array .*3/w does not belong"),
        (key_missing, "descriptor.*ntypes: is required"),
        (section_missing, "fitting: is required"),
        (unknown_key, "descriptor.*flavour: unknown key"),
        (other_descriptor, "descriptor.*type: dpax is for DPA-1: .*'se_e2_a'"),
    ],
)
def test_what_is_no_model_is_refused(tmp_path, spoil, message):
    path = tmp_path / "model.dpax"
    save_model(path, tiny_model(attn_layer=0), {})
    spoil(path)
    with pytest.raises(InputError, match=rf"model\.dpax: .*{message}"):
        load_model(path)


@pytest.fixture(scope="module")
def sound(tmp_path_factory):
    path = tmp_path_factory.mktemp("sound") / "model.dpax"
    save_model(path, tiny_model(), {"step": 3, "min_nbor_dist": 0.7})
    return path


@pytest.fixture
def copy(sound, tmp_path):
    path = tmp_path / "model.dpax"
    path.write_bytes(sound.read_bytes())
    return path


def test_digest_is_what_the_documentation_says(sound):
    """Metadata in lines, then arrays, each sorted by name: nothing of dpax is needed to check a file."""
    metadata, arrays = read_parts(sound)
    text = "".join(f"{key}={metadata[key]}\n" for key in ("format", "model", "provenance", "version"))
    content = text.encode()
    for name, array in sorted(arrays.items()):
        content += f"{name} {array.dtype} [{', '.join(map(str, array.shape))}]\n".encode() + array.tobytes()
    assert metadata["digest"] == hashlib.sha256(content).hexdigest()


def test_a_flipped_bit_is_noticed_wherever_it_is(sound, copy):
    """In names, shapes, settings, weights, provenance: the model is as it was, or is not read."""
    content, expected = sound.read_bytes(), load_model(sound)[0]
    header = int.from_bytes(content[:8], "little")
    places = [*range(0, 8 + header, (8 + header) // 60), *range(8 + header, len(content), len(content) // 40)]
    refused = 0
    for number, place in enumerate(places):
        changed = bytearray(content)
        changed[place] ^= 1 << number % 8
        copy.write_bytes(changed)
        if place >= 8 + header:
            with pytest.raises(InputError, match="its contents are not those that its digest was made of"):
                load_model(copy)
            refused += 1
            continue
        try:
            model, provenance = load_model(copy)
        except InputError:
            refused += 1
        else:
            assert_same(model, expected)
            assert provenance == {"step": 3, "min_nbor_dist": 0.7}
    assert refused > 0.9 * len(places)


def test_files_without_a_digest_are_read(sound, copy):
    rewritten(copy)
    assert read_header(copy).digest is None
    assert_same(load_model(copy)[0], load_model(sound)[0])


def at(tree, path):
    """The part of a tree that a path of keys leads to, all but its last, and the last."""
    *parts, last = path.split("/")
    for part in parts:
        tree = tree[int(part) if part.isdecimal() else part]
    return tree, int(last) if last.isdecimal() else last


@contextmanager
def refused(message):
    """An `InputError`, which says so in short, and before anything large is allocated."""
    tracemalloc.start()
    try:
        with pytest.raises(InputError, match=message) as caught:
            yield
        peak = tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()
    assert len(str(caught.value)) < 800
    assert not isinstance(caught.value.__cause__, MemoryError)
    assert peak < 2**25


NUMBERS = [float("nan"), float("inf"), "6", [6.0], None]
CONTRADICTIONS = {
    "descriptor/ntypes": [3, 10**9, 0, -1, True, "2", 2.0, None, 10**400],
    "descriptor/sel": [10**9, 0, [], [0], [-1, 41], [40.0], "auto", None],
    "descriptor/neuron": [[4, 8, 10**9], [4, 8], [], "4 8 16", [4, 8, 16.0], [4, 8, 16] * 1000],
    "descriptor/axis_neuron": [0, 3, 17, 10**9],
    "descriptor/tebd_dim": [5, 10**9],
    "descriptor/attn": [13, 10**9],
    "descriptor/attn_layer": [1, 3, -1, 10**9],
    "descriptor/lmax": [0, 2, 5, 10**9],
    "descriptor/rcut": [*NUMBERS, 0, 0.4],
    "descriptor/rcut_smth": [*NUMBERS, -1.0, 4.0],
    "descriptor/env_protection": [*NUMBERS, -0.1],
    "descriptor/activation_function": ["lemon", 5],
    "descriptor/temperature": [0.0, float("nan"), "1"],
    "descriptor/scaling_factor": [*NUMBERS, 0.0],
    "descriptor/ln_eps": [float("nan"), -1.0, "small"],
    "descriptor/normalize": ["yes", 1],
    "descriptor/attn_norm": ["other", None],
    "descriptor/empty_slots": ["other", None],
    "descriptor/output_scale": [*NUMBERS, 0.0],
    "descriptor/tebd_input_mode": ["strip", "other"],
    "descriptor/smooth_type_embedding": ["yes", 0],
    "descriptor/precision": ["float32", "float128", 64],
    "descriptor/resnet_dt": [True, 0],
    "descriptor/use_econf_tebd": [True, 0],
    "descriptor/use_tebd_bias": [True, 0],
    "descriptor/concat_output_tebd": [False, 1],
    "descriptor/type_one_side": [True, 0],
    "descriptor/isotropic": ["yes", 1],
    "descriptor/trainable": [[True], 1],
    "descriptor/exclude_types": [[[0, 2]], [[0, -1]], [[0]], [0, 1], "01"],
    "descriptor/type_map": [["H", "O"], ["O"], ["O", False], "OH"],
    "descriptor/type": ["se_atten_v2", "se_e2_a", None],
    "descriptor/@version": [1],
    "descriptor": [[], "descriptor", None],
    "fitting/ntypes": [3, 1, 10**9, 0, True],
    "fitting/neuron": [[16], [16, 10**9], [16, 16] * 1000],
    "fitting/descriptor_width": [10, 10**9],
    "fitting/numb_fparam": [1, 10**9, -1],
    "fitting/numb_aparam": [1, 10**9, -1],
    "fitting/dim_case_embd": [1, 10**9, -1],
    "fitting/default_fparam": [[0.5], "x"],
    "fitting/resnet_dt": [False, 1],
    "fitting/precision": ["float32", "float128", 64],
    "fitting/trainable": [[True], [True, True, 1], "yes"],
    "fitting/exclude_types": [[2], [-1], 3],
    "fitting/zero_energies": [[1.0], ["x", None]],
    "fitting/activation_function": ["lemon", 5],
    "fitting/rcond": ["small", float("nan"), -1.0],
    "fitting": [[], "fitting", None],
    "type_map": [["H", "O"], ["O", "O"], ["O"], ["O", "H", "N"], ["O", False], "OH", 5],
    "atom_exclude_types": [[2], [-1], ["O"], [0.5], 3],
    "pair_exclude_types": [[[0, 2]], [[0]], [0, 1]],
    "preset_out_bias": [[1.0], [1.0, "x"], [[1.0, 2.0], None], {"energy": [1.0, 2.0]}],
    "isolated_energies": [[1.0], [float("inf"), None], "xy"],
    "short_range": [[], "table", 5, {}, {"sw_rmin": 0.5, "sw_rmax": 1.0, "rmax": 3.5}],
}
OF_SHORT_RANGE = {
    "short_range/sw_rmin": [*NUMBERS, -0.1, 1.0],
    "short_range/sw_rmax": [*NUMBERS, 0.5],
    "short_range/smin_alpha": [*NUMBERS, 0.0],
    "short_range/add_bias": ["yes", 1],
    "short_range/fitting_bias": [[1.0], [1.0, "x"], 5],
    "short_range/rmax": [float("nan"), "3.5", None, True],
    "short_range/flavour": ["lemon"],
}


def assert_refused(path, place, values) -> None:
    content = path.read_bytes()
    for value in values:
        path.write_bytes(content)
        model = read_header(path).model
        section, key = at(model, place)
        section[key] = value
        rewritten(path, model=json.dumps(model))
        with refused(r"model\.dpax: ."):
            load_model(path)


@pytest.mark.parametrize("place", CONTRADICTIONS)
def test_a_description_that_contradicts_itself_or_its_arrays_is_refused(copy, place):
    """When it is read and not when it is evaluated, and before anything is allocated by its numbers."""
    assert_refused(copy, place, CONTRADICTIONS[place])


@pytest.mark.parametrize("place", OF_SHORT_RANGE)
def test_a_description_of_a_short_range_table_is_checked_too(tmp_path, place):
    path = tmp_path / "model.dpax"
    save_model(path, with_short_range(), {})
    assert_refused(path, place, OF_SHORT_RANGE[place])


def nested(levels: int) -> str:
    return '{"a": ' * levels + "1" + "}" * levels


@pytest.mark.parametrize(
    "changes",
    [
        *({key: text} for key in ("model", "provenance") for text in ("[]", "1", nested(200), nested(10**5))),
        {"provenance": '{"min_nbor_dist": -1}'},
        {"provenance": '{"min_nbor_dist": "near"}'},
        {"provenance": '{"min_nbor_dist": NaN}'},
        {"provenance": '{"input": []}'},
        {"provenance": '{"step": ' + "1" * 5000 + "}"},
        {"version": "one"},
        {"version": "9" * 5000},
    ],
    ids=lambda changes: f"{changes}"[:40],
)
def test_what_json_can_hold_but_no_model_has(copy, changes):
    rewritten(copy, **changes)
    with pytest.raises(InputError, match=r"model\.dpax: ."):
        load_model(copy)


def changed(array, value):
    array = array.copy()
    array.flat[1] = value
    return array


@pytest.mark.parametrize(
    ("name", "change", "message"),
    [
        ("descriptor/embedding/0/w", lambda a: changed(a, np.nan), "embedding/0/w has numbers .* finite"),
        ("fitting/1/b", lambda a: changed(a, np.inf), "fitting/1/b has numbers .* finite"),
        ("bias", lambda a: changed(a, np.nan), "bias has numbers that are not finite"),
        ("descriptor/mean", lambda a: a * np.nan, "mean has numbers that are not finite"),
        ("descriptor/stddev", lambda a: a * 0, "stddev, .* is not positive"),
        ("descriptor/stddev", lambda a: -a, "stddev, .* is not positive"),
        ("descriptor/stddev", lambda a: a[..., :3], r"stddev has shape \(2, 1, 3\); expected \(2, 1, 4\)"),
        ("descriptor/stddev", lambda a: a.repeat(40, 1), r"stddev has shape .*; expected \(2, 1, 4\)"),
        ("descriptor/mean", lambda a: a[:1], "mean has shape"),
        ("descriptor/mean", lambda a: a + np.eye(4)[1], "isotropic"),
        ("descriptor/stddev", lambda a: a + np.eye(4)[1], "isotropic"),
        ("descriptor/embedding/1/w", lambda a: a.T.copy(), r"embedding/1/w has shape \(8, 4\)"),
        ("descriptor/embedding/1/b", lambda a: a[:3], r"embedding/1/b has shape \(3,\); expected \(8,\)"),
        ("descriptor/embedding/1/w", lambda a: a > 0, "holds no real numbers but bool"),
        ("fitting/0/w", lambda a: a[:-1], "0/w has shape"),
        ("bias", lambda a: np.zeros(3), r"bias has shape \(3,\); expected \(2\)"),
        ("bias", lambda a: np.zeros((2, 1)), "bias has shape"),
    ],
)
def test_numbers_that_no_model_computes_with_are_refused(copy, name, change, message):
    _, arrays = read_parts(copy)
    rewritten(copy, {name: change(arrays[name])})
    with refused(rf"model\.dpax: .*{message}"):
        load_model(copy)


@pytest.mark.parametrize(
    ("name", "change"),
    [
        ("knots", lambda a: a[:-1]),
        ("knots", lambda a: a[:, :-1]),
        ("knots", lambda a: a[::-1].copy()),
        ("knots", lambda a: changed(a, np.nan)),
        ("knots", lambda a: None),
        ("coefficients", lambda a: a[..., :3]),
        ("coefficients", lambda a: a[:, :1]),
        ("coefficients", lambda a: a[:, :, 1:]),
        ("coefficients", lambda a: changed(a, np.inf)),
        ("coefficients", lambda a: a[0]),
        ("coefficients", lambda a: None),
    ],
)
def test_a_short_range_table_that_is_none_is_refused(tmp_path, name, change):
    path = tmp_path / "model.dpax"
    save_model(path, with_short_range(), {})
    _, arrays = read_parts(path)
    rewritten(path, {f"short_range/{name}": change(np.ascontiguousarray(arrays[f"short_range/{name}"]))})
    with refused(r"model\.dpax: .*(short_range/|short-range table)"):
        load_model(path)


@pytest.mark.parametrize(
    ("name", "change"),
    [
        ("type_pairs", lambda a: a[:-1]),
        ("type_pairs", lambda a: None),
        ("table/knots", lambda a: a[:-1]),
        ("table/knots", lambda a: -a),
        ("table/knots", lambda a: None),
        ("table/coefficients", lambda a: a[:-1]),
        ("table/coefficients", lambda a: a[:, :5]),
        ("table/coefficients", lambda a: a[..., 1:]),
        ("table/coefficients", lambda a: None),
    ],
)
def test_tables_of_another_shape_are_refused(tmp_path, name, change):
    path = tmp_path / "model.dpax"
    save_model(path, with_tables(attn_layer=0), {})
    _, arrays = read_parts(path)
    array = change(arrays[f"descriptor/{name}"])
    rewritten(path, {f"descriptor/{name}": None if array is None else np.ascontiguousarray(array)})
    with refused(rf"model\.dpax: .*({name}|table)"):
        load_model(path)


def test_weights_beyond_the_precision_are_refused(tmp_path):
    """They would be infinite in bfloat16, and every energy NaN."""
    path = tmp_path / "model.dpax"
    save_model(path, tiny_model(precision="bfloat16"), {})
    rewritten(path, {"descriptor/embedding/0/w": np.full((9, 4), 3.4e38, np.float32)})
    with refused("not finite"):
        load_model(path)


def test_folder_is_no_model_file(tmp_path):
    with pytest.raises(InputError, match="there is no such model file"):
        load_model(tmp_path)
