"""Checkpoints come back as they were written, or are known to be damaged."""

import errno
import shutil
from pathlib import Path

import numpy as np
import pytest

from dpax.errors import InputError, MachineError
from dpax.model.energy_model import EnergyModel
from dpax.nn.arrays import below, placed
from dpax.train.checkpoints import (
    Checkpoint,
    Checkpoints,
    from_named_arrays,
    named_arrays,
    reads_contents,
    restored_model,
)
from model.support import tiny_model

RNG = np.random.default_rng(0)


def checkpoint(step) -> Checkpoint:
    arrays = {
        "params/w": RNG.normal(size=(20, 30)),
        "params/b": RNG.normal(size=30).astype(np.float32),
        "optimizer.count": np.array(step, np.int32),
    }
    meta = {"step": step, "order": {"epochs": [0, 3]}, "error": 0.1 + step / 3, "best": None}
    return Checkpoint(arrays, meta)


def write(folder: Path, *steps: int, keep=None) -> dict[int, Checkpoint]:
    made = {step: checkpoint(step) for step in steps}
    with Checkpoints(folder, keep) as checkpoints:
        for step, content in made.items():
            checkpoints.save(step, content)
    return made


def read(folder: Path, step: int | None = None) -> tuple[Checkpoint, list[str]]:
    """One checkpoint, or the latest good one, and what was said about it."""
    told: list[str] = []
    with Checkpoints(folder, read_only=True) as checkpoints:
        return checkpoints.latest(told.append) if step is None else checkpoints.restore(step), told


def assert_same(found: Checkpoint, expected: Checkpoint) -> None:
    assert found.meta == expected.meta
    assert found.arrays.keys() == expected.arrays.keys()
    for name, array in found.arrays.items():
        assert array.dtype == expected.arrays[name].dtype
        np.testing.assert_array_equal(array, expected.arrays[name])


@pytest.fixture(scope="module")
def written(tmp_path_factory):
    folder = tmp_path_factory.mktemp("checkpoints") / "run"
    return folder, write(folder, 10, 20, 30)


@pytest.fixture
def copy(written, tmp_path):
    """A copy that may be spoilt, and what was written."""
    folder, made = written
    return shutil.copytree(folder, tmp_path / "copy"), made


def test_round_trip(written):
    folder, made = written
    for step, expected in made.items():
        assert_same(read(folder, step)[0], expected)
    found, told = read(folder)
    assert_same(found, made[30])
    assert told == []


def test_old_ones_are_deleted(tmp_path):
    made = write(tmp_path / "kept", 1, 2, 3, 4, keep=2)
    with Checkpoints(tmp_path / "kept", read_only=True) as checkpoints:
        assert checkpoints.steps() == [3, 4]
    assert_same(read(tmp_path / "kept")[0], made[4])


def test_missing_step_is_named(written):
    with pytest.raises(InputError, match="no checkpoint of step 25; there are: 10, 20, 30"):
        read(written[0], 25)


def flip(path: Path) -> None:
    content = bytearray(path.read_bytes())
    content[len(content) // 2] ^= 0x55
    path.write_bytes(content)


def cut(path: Path) -> None:
    path.write_bytes(path.read_bytes()[: path.stat().st_size // 2])


@pytest.mark.parametrize("damage", [flip, cut, Path.unlink], ids=["flipped byte", "cut short", "deleted"])
def test_no_damaged_file_passes_for_good(copy, damage):
    """Whichever file it is: the checkpoint is as it was, or the one before is taken and that is said."""
    folder, made = copy
    outcomes = set()
    for path in sorted((folder / "30").rglob("*")):
        if not path.is_file():
            continue
        before = path.read_bytes()
        damage(path)
        found, told = read(folder)
        assert_same(found, made[found.meta["step"]])
        if found.meta["step"] == 20 and told:
            assert "copy/30: damaged checkpoint" in told[0]
            assert told[0].endswith("trying the one before")
        outcomes.add((found.meta["step"], len(told)))
        path.write_bytes(before)
    assert (20, 1) in outcomes
    assert outcomes <= {(20, 1), (30, 0)}


@pytest.mark.parametrize("error", [MemoryError(), OSError(errno.ENOMEM, "no"), OSError(errno.EIO, "no")])
def test_what_cannot_be_read_now_is_not_called_damaged(copy, monkeypatch, error):
    """Or an earlier checkpoint would be gone on with, and the sound ones behind it removed."""

    def fail(_):
        raise error

    monkeypatch.setattr("dpax.train.checkpoints.read_arrays", fail)
    with pytest.raises(MachineError, match="copy/30: "):
        read(copy[0])


def test_changed_numbers_are_noticed(copy):
    """The storage itself would read them without a murmur."""
    folder, made = copy
    meta = folder / "30" / "meta" / "metadata"
    assert '"epochs": [0, 3]' in meta.read_text()
    meta.write_text(meta.read_text().replace('"epochs": [0, 3]', '"epochs": [0, 4]'))
    found, (told,) = read(folder)
    assert_same(found, made[20])
    assert "its contents have changed" in told


def change_meta(folder: Path, change) -> None:
    """Other facts in the checkpoint of step 30, with the digest that belongs to them."""
    found, _ = read(folder, 30)
    shutil.rmtree(folder / "30")
    with Checkpoints(folder) as checkpoints:
        checkpoints.save(30, Checkpoint(found.arrays, change(dict(found.meta))))


def test_facts_of_another_version_are_named(copy):
    """A program that looks for what is not there says whose fault that is."""
    folder, _ = copy
    change_meta(folder, lambda meta: {"step": 30, "progress": {}})
    meta = read(folder, 30)[0].meta
    with pytest.raises(InputError, match="another version of dpax: it lacks 'sel'"):
        meta["sel"]
    with pytest.raises(InputError, match="another version of dpax: it lacks 'step'"):
        meta["progress"]["step"]
    assert meta.get("sel") is None

    @reads_contents
    def restore(meta):
        return int(meta["step"]) + len(meta["step"])

    with pytest.raises(
        InputError, match=r"another version of dpax, or is damaged \(TypeError: .*--init-model"
    ):
        restore(meta)


def arrays_of(model: EnergyModel) -> dict[str, np.ndarray]:
    """What a checkpoint holds of a model, by name."""
    trained = {name: array for name, array in model.arrays.items() if name in model.trained}
    fixed = {name: array for name, array in model.arrays.items() if name not in model.trained}
    return {**placed(trained, "params"), **placed(fixed, "fixed")}


@pytest.mark.parametrize(
    ("bias", "message"),
    [
        (None, "bias is missing"),
        ([1.0], r"bias has shape \(1,\)"),
        ([1.0, 2.0, 3.0], r"bias has shape \(3,\)"),
        ([1.0, float("nan")], "bias is not finite"),
        ("12", "holds no real numbers|has shape"),
    ],
)
def test_a_bias_that_is_not_the_models_is_refused(tmp_path, bias, message):
    model = tiny_model(attn_layer=0, neuron=[2, 4])
    with Checkpoints(tmp_path / "run") as checkpoints:
        checkpoints.save(3, Checkpoint(arrays_of(model), {} if bias is None else {"bias": bias}))
    with pytest.raises(InputError, match=message):
        restored_model(model, read(tmp_path / "run", 3)[0])


def without(arrays: dict[str, np.ndarray], name: str) -> dict[str, np.ndarray]:
    return {key: array for key, array in arrays.items() if key != name}


def test_a_model_comes_back_from_its_checkpoint():
    model, other = (tiny_model(attn_layer=0, neuron=[2, 4], seed=seed) for seed in (1, 2))
    found = restored_model(model, Checkpoint(arrays_of(other), {"bias": [-7.0, 8.0]}))
    assert found.bias == (-7.0, 8.0)
    assert found.arrays.keys() == other.arrays.keys()
    for name, array in other.arrays.items():
        np.testing.assert_array_equal(found.arrays[name], array)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (
            lambda arrays: without(arrays, "params/descriptor/embedding/1/w"),
            "of another model: it lacks descriptor/embedding/1/w",
        ),
        (
            lambda arrays: without(arrays, "fixed/descriptor/stddev"),
            "of another model: it lacks descriptor/stddev",
        ),
        (
            lambda arrays: arrays | {"params/fitting/0/b": np.zeros(3)},
            r"of another model: fitting/0/b has shape \(3,\), expected \(16,\)",
        ),
        (
            lambda arrays: {f"params[{name!r}]": array for name, array in arrays.items()},
            "written by another version of dpax.*--init-model",
        ),
    ],
)
def test_a_model_with_other_arrays_is_refused(change, message):
    model = tiny_model(attn_layer=0, neuron=[2, 4])
    spoilt = Checkpoint(change(arrays_of(model)), {"bias": [-7.0, 8.0]})
    with pytest.raises(InputError, match=message):
        restored_model(model, spoilt)


def test_an_average_is_taken_where_one_is_kept():
    model = tiny_model(attn_layer=0, neuron=[2, 4])
    arrays, meta = arrays_of(model), {"bias": [-7.0, 8.0]}
    with pytest.raises(InputError, match=r"no averaged weights; train with training\.enable_ema"):
        restored_model(model, Checkpoint(arrays, meta), averaged=True)
    average = {name: array + 1.0 for name, array in below(arrays, "params").items()}
    kept = Checkpoint(arrays | placed(average, "averaged"), meta)
    found = restored_model(model, kept, averaged=True)
    for name in model.arrays:
        expected = average.get(name, model.arrays[name])
        np.testing.assert_array_equal(found.arrays[name], expected)


@pytest.mark.parametrize("notes", ["{}", "[1]", "not JSON", '{"commit_timestamp_nsecs": 1.5}', ""])
def test_notes_of_orbax_are_not_needed(copy, notes):
    """It reads its notes on all checkpoints at once, so that one damaged file would hide them all."""
    folder, made = copy
    (folder / "30" / "_CHECKPOINT_METADATA").write_text(notes)
    assert_same(read(folder)[0], made[30])
    with Checkpoints(folder, keep=2) as checkpoints:
        checkpoints.save(40, made[20])
        assert checkpoints.steps() == [30, 40]


@pytest.mark.parametrize(
    "meta", ["[]", "1", "null", "[" * 20_000, '{"a": ' * 300 + "1" + "}" * 300, "1" * 5000]
)
def test_facts_that_are_none(copy, meta):
    folder, made = copy
    (folder / "30" / "meta" / "metadata").write_text(meta)
    found, told = read(folder)
    assert_same(found, made[20])
    assert "damaged checkpoint" in told[0]


def test_all_damaged(copy):
    folder, _ = copy
    for path in folder.rglob("meta/metadata"):
        path.write_text("{}")
    with pytest.raises(InputError, match="no usable checkpoint; start the training anew with --overwrite"):
        read(folder)


def test_damaged_later_ones_make_room(copy):
    folder, made = copy
    for path in (folder / "30").rglob("metadata"):
        path.write_text("{}")
    with Checkpoints(folder) as checkpoints:
        checkpoints.drop_after(20)
        assert checkpoints.steps() == [10, 20]
        checkpoints.save(25, made[30])
    assert_same(read(folder)[0], made[30])


def test_reader_leaves_a_half_written_one_alone(copy):
    """It may be that of a training under way; only the training itself clears it away."""
    folder, made = copy
    half = folder / "40.orbax-checkpoint-tmp"
    (half / "arrays").mkdir(parents=True)
    assert_same(read(folder)[0], made[30])
    assert half.exists()
    with Checkpoints(folder) as checkpoints:
        assert checkpoints.steps() == [10, 20, 30]
        checkpoints.save(40, made[30])
    assert not half.exists()


def test_arrays_of_another_model_are_refused():
    tree = {"a": np.zeros((2, 3)), "b": [np.ones(4)]}
    arrays = named_arrays(tree, "p")
    back = from_named_arrays(tree, "p", arrays)
    np.testing.assert_array_equal(back["b"][0], tree["b"][0])
    with pytest.raises(InputError, match=r"another model: it lacks p\['c'\]"):
        from_named_arrays(tree | {"c": np.zeros(1)}, "p", arrays)
    with pytest.raises(InputError, match=r"p\['a'\] has shape \(2, 3\), expected \(3, 2\)"):
        from_named_arrays(tree | {"a": np.zeros((3, 2))}, "p", arrays)


@pytest.mark.parametrize("name", ["[1]", "a*b", "**", "?", "a\\b", "a#b@c %20", "{x}"])
def test_a_folder_may_have_any_name(tmp_path, name):
    """Nothing in it is taken for a pattern, which would match another run's folder or none."""
    (tmp_path / "axb" / "1").mkdir(parents=True)
    made = write(tmp_path / name, 1, 2, 3, keep=2)
    with Checkpoints(tmp_path / name, read_only=True) as checkpoints:
        assert checkpoints.steps() == [2, 3]
    assert_same(read(tmp_path / name)[0], made[3])
