"""`test`, `model-devi` and `eval-desc` as a user of DeePMD-kit types them."""

import json
import re
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from safetensors import safe_open
from safetensors.numpy import save_file

from cli.commands import dpax, error_of
from data.builders import write_system
from dpax import load
from dpax.cli.inspect import _format
from dpax.cli.many_values import _repeated
from dpax.cli.model_devi import write_header, write_row
from dpax.data import open_systems
from dpax.infer.deviation import Deviation, Extent
from dpax.model.file import save_model
from model.support import tiny_model


@pytest.fixture(scope="module")
def folder(tmp_path_factory) -> Path:
    """Two models, and two systems of which one has atomic energies and weights of forces."""
    folder = tmp_path_factory.mktemp("commands")
    for seed in (1, 2):
        save_model(folder / f"m{seed}.dpax", tiny_model(seed=seed, attn_layer=0, neuron=[4, 8]), {})
    write_system(folder / "water" / "a", frames=3)
    write_system(folder / "water" / "b", frames=2, types=(0, 0, 1, 1))
    (folder / "water" / "b" / "set.000" / "atom_ener.npy").unlink()
    np.save(folder / "water" / "a" / "set.000" / "atom_pref.npy", np.tile([1.0, 0.0, 2.0], (3, 1)))
    (folder / "list.txt").write_text(f"{folder}/water/b\n\n{folder}/water/a\n")
    # Of the model the command needs to know nothing: it may be of another kind.
    training = {"training_data": {"systems": ["water"]}, "validation_data": {"systems": "water/a"}}
    (folder / "input.json").write_text(json.dumps({"model": {"type": "other"}, "training": training}))
    return folder


def report_of(folder: Path, *arguments: object) -> dict:
    dpax("test", "-m", folder / "m1.dpax", *arguments, "--json", folder / "report.json")
    return json.loads((folder / "report.json").read_text())


def test_data_of_an_input_file(folder):
    report = report_of(folder, "--valid-data", folder / "input.json", "-a")
    assert report["all"]["frames"] == 3
    frames = [one.frame(k) for one in open_systems(str(folder / "water" / "a"), ["O", "H"]) for k in range(3)]
    found = load(folder / "m1.dpax").evaluate(frames)
    pairs = list(zip(frames, found, strict=True))
    atomic = np.array([e.energies - f.atom_energies for f, e in pairs])
    assert report["all"]["atomic_energy_rmse_ev"] == pytest.approx(np.sqrt((atomic**2).mean()))
    forces = np.array([e.forces - f.forces for f, e in pairs])
    weighted = np.array([1.0, 0.0, 2.0])[:, None] * np.abs(forces)
    assert report["all"]["weighted_force_mae_ev_per_angstrom"] == pytest.approx(weighted.mean())
    stress = np.array([(e.virial - f.virial) / e.volume for f, e in pairs])
    assert report["all"]["stress_mae_ev_per_angstrom3"] == pytest.approx(np.abs(stress).mean())


def test_list_of_systems_and_detail_files(folder):
    report = report_of(folder, "-f", folder / "list.txt", "-d", folder / "detail")
    assert [report[f"{folder}/water/{name}"]["frames"] for name in "ba"] == [2, 3]
    lines = (folder / "detail.f.out").read_text().splitlines()
    assert lines[0] == f"# {folder}/water/b: data_fx data_fy data_fz pred_fx pred_fy pred_fz"
    assert len(lines) == 1 + 2 * 4 + 3 * 3


def test_frames_in_random_order(folder):
    arguments = ("--train-data", folder / "input.json", "--shuffle-test", "-n", 1, "-r", 3)
    prefix = folder / "shuffled"
    report_of(folder, *arguments, "-d", prefix)
    first = np.loadtxt(f"{prefix}.e.out")
    assert len(first) == 2
    energies = [np.load(folder / "water" / name / "set.000" / "energy.npy") for name in "ab"]
    chosen = [list(e).index(pytest.approx(label)) for e, label in zip(energies, first[:, 0], strict=True)]
    order = np.random.default_rng(3)
    assert chosen == [order.permutation(len(e))[0] for e in energies]
    assert chosen != [0, 0]


def test_mistakes_of_test(folder):
    model = ("test", "-m", folder / "m1.dpax")
    assert "keep one of them" in error_of(*model, "-s", folder, "-f", folder / "list.txt")
    assert "has no atomic energies" in error_of(*model, "-s", folder / "water", "--atomic")
    (folder / "bare.json").write_text('{"training": {"training_data": {"systems": "water"}}}')
    assert "no training.validation_data" in error_of(*model, "--valid-data", folder / "bare.json")


def test_model_deviation(folder):
    out, models = folder / "devi.out", (folder / "m1.dpax", folder / "m2.dpax")
    dpax("model-devi", "-m", *models, "-s", folder / "water", "-o", out, "-f", 10, "--atomic")
    assert re.findall(r"# (/.*)", out.read_text()) == [f"{folder}/water/{name}" for name in "ab"]
    rows = [np.array(line.split(), float) for line in out.read_text().splitlines() if line[0] != "#"]
    assert [row[0] for row in rows] == [0, 10, 20, 0, 10]
    assert [len(row) for row in rows] == [8 + 3] * 3 + [8 + 4] * 2
    frame = open_systems(str(folder / "water" / "b"), ["O", "H"])[0].frame(1)
    one, other = (load(path).evaluate(frame) for path in models)
    # The deviation of two numbers is half of their difference.
    forces = np.linalg.norm(one.forces - other.forces, axis=1) / 2
    np.testing.assert_allclose(rows[4][8:], forces, rtol=1e-5)
    np.testing.assert_allclose(rows[4][4:7], [forces.max(), forces.min(), forces.mean()], rtol=1e-5)
    assert rows[4][7] == pytest.approx(abs(one.energy - other.energy) / 2 / 4, rel=1e-5)
    assert "--overwrite" in error_of("model-devi", "-m", *models, "-s", folder / "water", "-o", out)
    assert "one model alone" in error_of("model-devi", "-m", models[0], "-s", folder / "water")


def test_errors_of_one_model(folder):
    out = folder / "errors.out"
    dpax("model-devi", "-m", folder / "m1.dpax", "-s", folder / "water" / "a", "-o", out, "--real_error")
    frame = open_systems(str(folder / "water" / "a"), ["O", "H"])[0].frame(2)
    error = abs(load(folder / "m1.dpax").evaluate(frame).energy - frame.energy) / 3
    assert np.loadtxt(out)[2, 7] == pytest.approx(error, rel=1e-5)


def test_file_of_deviations_is_that_of_deepmd_kit(tmp_path):
    writer = pytest.importorskip("deepmd.infer.model_devi").write_model_devi_out
    rng = np.random.default_rng(1)
    for atomic, width in ((False, 0), (True, 4)):
        table = np.column_stack([[0, 5, 10], rng.normal(size=(3, 7 + width))])
        writer(table, tmp_path / "theirs", header="some/system", atomic=atomic)
        with (tmp_path / "ours").open("a") as file:
            write_header(file, "some/system", atomic)
            for step, *numbers in table:
                deviation = Deviation(
                    Extent(*numbers[:3]), Extent(*numbers[3:6]), numbers[6], np.array(numbers[7:])
                )
                write_row(file, int(step), deviation, atomic)
    assert (tmp_path / "ours").read_text() == (tmp_path / "theirs").read_text()


def test_several_values_after_one_flag():
    typed = ["-m", "a", "b", "-s", "data", "-b", "-93.5", "-187.1", "--atomic", "c"]
    expected = ["-m", "a", "-m", "b", "-s", "data", "-b", "-93.5", "-b", "-187.1", "--atomic", "c"]
    assert list(_repeated(typed, ["-m", "-b"])) == expected


def test_descriptors_written(folder):
    out = folder / "desc"
    dpax("eval-desc", "-m", folder / "m1.dpax", "-s", folder / "water", "-o", out, "--dtype", "fp32")
    potential = load(folder / "m1.dpax")
    for name, shape in (("a", (3, 3, 36)), ("b", (2, 4, 36))):
        array = np.load(out / f"{name}.npy")
        assert array.shape == shape
        assert array.dtype == np.float32
        frame = open_systems(str(folder / "water" / name), ["O", "H"])[0].frame(1)
        np.testing.assert_allclose(array[1], potential.descriptors([frame])[0], rtol=1e-5)
    assert "--overwrite" in error_of("eval-desc", "-m", folder / "m1.dpax", "-s", folder / "water", "-o", out)
    twice = ("-s", folder / "water" / "a", "-s", folder / "water" / "a")
    text = error_of("eval-desc", "-m", folder / "m1.dpax", *twice, "-o", folder / "twice")
    assert "would both be written" in text


MANY = """
import json, sys
from contextlib import redirect_stderr, redirect_stdout
from io import StringIO
from dpax.cli import main

for line in sys.stdin:
    sys.argv, code = ["dpax", *json.loads(line)], 0
    with redirect_stderr(StringIO()) as said, redirect_stdout(StringIO()):
        try:
            main()
        except SystemExit as end:
            code = end.code
    print(json.dumps([code, said.getvalue()]), flush=True)
"""
"""Several commands in one process, which must not import JAX for each."""


def outcomes(commands: list[list[object]]) -> list[tuple[int, str]]:
    lines = "\n".join(json.dumps([str(word) for word in command]) for command in commands)
    done = subprocess.run(
        [sys.executable, "-c", MANY], input=lines, capture_output=True, text=True, timeout=600, check=True
    )
    return [tuple(json.loads(line)) for line in done.stdout.splitlines()]


def test_every_command_that_reads_a_damaged_model_says_so_in_one_line(folder, tmp_path):
    """Flipped, cut short, of other contents: exit code 2, nothing written."""
    content = (folder / "m1.dpax").read_bytes()
    flipped = bytearray(content)
    flipped[-5] ^= 1
    damaged = {
        "flipped.dpax": bytes(flipped),
        "cut.dpax": content[:-10],
        "cut.dp": b"\x89HDF\r\n\x1a\n" + bytes(100),
        "bomb.yaml": b"a: &a [1, 1]\nmodel: &m {x: [*a, *m]}\n",
    }
    commands = []
    for name, spoilt in damaged.items():
        model, new = tmp_path / name, tmp_path / "new.dpax"
        model.write_bytes(spoilt)
        commands += [
            ["inspect", model],
            ["show", model, "type-map", "size"],
            ["convert", model, new],
            ["compress", model, "-o", new],
            ["export", model, "-o", tmp_path / "exported"],
            ["change-bias", model, "-b", "-1", "-2", "-o", new, "--devices", "1"],
            ["test", "-m", model, "-s", folder / "water" / "a"],
            ["model-devi", "-m", model, folder / "m2.dpax", "-s", folder / "water" / "a"],
            ["freeze", model, "-o", new],
        ]
    for command, (code, said) in zip(commands, outcomes(commands), strict=True):
        assert code == 2, (command, said)
        assert said.startswith("dpax: error: "), (command, said)
        assert said.count("\n") == 1
        assert len(said) < 900
    assert sorted(path.name for path in tmp_path.iterdir()) == sorted(damaged)


def test_inspect_says_whether_there_is_a_digest(folder, tmp_path):
    with safe_open(folder / "m1.dpax", framework="numpy") as file:
        metadata = {key: value for key, value in file.metadata().items() if key != "digest"}
        arrays = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118
    save_file(arrays, tmp_path / "old.dpax", metadata=metadata)
    assert _format(folder / "m1.dpax") == "dpax model file, format 2, digest as it should be"
    assert _format(tmp_path / "old.dpax") == "dpax model file, format 2, no digest"
