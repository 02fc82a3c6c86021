"""A mistake is one line and exit code 2: numbers, names, files of another kind, output that nobody takes."""

import shlex
import shutil
import subprocess
import sys
import typing
from pathlib import Path

import ase.io
import pytest

from cli.commands import run
from dpax.cli.app import app
from dpax.model.file import save_model
from model.support import tiny_model
from train.support import write_toy

WATER = "3\n\nO 0 0 0\nH 0 0 1\nH 0 1 0\n"
LINES = {
    "change-bias": ["model"],
    "compress": ["model", "-o", "out"],
    "ipi": ["model", "structure", "--port", "1"],
    "md": ["model", "structure", "-o", "out", "-n", "1"],
    "model-devi": ["-m", "model", "model"],
    "neighbor-stat": ["-r", "3"],
    "relax": ["model", "structure", "-o", "out"],
}
"""What the commands that take numbers cannot do without."""
NUMBERS = [
    (command.name, f"--{name.replace('_', '-')}")
    for command in app.registered_commands
    if command.callback is not None
    for name, kind in typing.get_type_hints(command.callback).items()
    if kind is float or {float, list[float]}.intersection(typing.get_args(kind))
]


def test_all_commands_with_numbers_are_tried():
    assert {name for name, _ in NUMBERS} == LINES.keys()


@pytest.mark.parametrize("value", ["nan", "inf", "-inf", "1e400"])
@pytest.mark.parametrize(("name", "option"), NUMBERS)
def test_numbers_are_finite(name, option, value):
    done = run(name, *LINES[name], f"{option}={value}")
    assert done.code == 2
    # A range that excludes infinity speaks first, in the words of typer.
    assert "should be a finite number" in done.stderr or "Usage: " in done.stderr


MD = ["md", "water.dpax", "water.xyz", "-o", "md.xyz", "-n", 1, "-t", 300]
RELAX = ["relax", "water.dpax", "water.xyz", "-o", "relaxed.xyz"]
COMPRESS = ["compress", "strip.dpax", "-o", "compressed.dpax"]


@pytest.mark.parametrize(
    "line",
    [
        [*MD[:-4], "-n", -1, "-t", 300],
        [*MD[:-1], "nan"],
        [*MD[:-1], "300:inf"],
        [*MD[:-1], "-1"],
        [*MD, "--time-step", 0],
        [*MD, "--time-step", -1],
        [*MD, "--every", 0],
        [*MD, "--log-every", -1],
        [*MD, "--checkpoint-every", 0],
        [*MD, "--thermostat-time", 0],
        [*MD, "--barostat-time", -1e30],
        [*MD, "--max-temperature", 0],
        [*MD, "--min-distance", -1],
        [*MD, "--min-distance", 1e30],
        [*MD, "--index", 10**30],
        [*MD, "--supercell", 10**30, 1, 1],
        [*MD, "--supercell", 0, 1, 1],
        [*MD, "--devices", 0],
        [*RELAX, "--fmax", 0],
        [*RELAX, "--fmax", -1],
        [*RELAX, "--steps", -1],
        [*COMPRESS, "--min-distance", 0],
        [*COMPRESS, "--min-distance", -1],
        [*COMPRESS, "--min-distance", 0.9, "--stride", 0],
        [*COMPRESS, "--min-distance", 0.9, "--stride", 1e-30],
        [*COMPRESS, "--min-distance", 0.9, "--extrapolate", 0],
        [*COMPRESS, "--min-distance", 0.9, "--extrapolate", 1e30],
        ["freeze", ".", "-o", "frozen.dpax", "--step", -1],
        ["change-bias", "water.dpax", "-b", 1, 2, 3],
    ],
    ids=lambda line: " ".join(map(str, [line[0], *line[4:]])),
)
def test_numbers_in_their_ranges(here, line):
    before = {path.name for path in here.iterdir()}
    assert run(*line).mistake
    assert {path.name for path in here.iterdir()} == before


@pytest.fixture(scope="module")
def files(tmp_path_factory) -> Path:
    """A model, one that can be compressed, a structure, and data."""
    folder = tmp_path_factory.mktemp("promise")
    save_model(folder / "water.dpax", tiny_model(attn_layer=0, neuron=[4]), {})
    strip = tiny_model(attn_layer=0, neuron=[4], tebd_input_mode="strip")
    save_model(folder / "strip.dpax", strip, {})
    (folder / "water.xyz").write_text(WATER)
    write_toy(folder / "toy")
    return folder


@pytest.fixture
def here(files, tmp_path, monkeypatch) -> Path:
    """A folder of the test's own with these files, as working directory."""
    shutil.copytree(files, tmp_path / "here")
    monkeypatch.chdir(tmp_path / "here")
    return tmp_path / "here"


def spoilt(folder: Path, kind: str, suffix: str) -> Path:
    """A path at which there is not what a command expects."""
    path = folder / f"{kind}{suffix}"
    if kind == "folder":
        path.mkdir()
    elif kind == "device":
        path.symlink_to("/dev/null")
    elif kind == "below":
        (folder / "file").touch()
        return folder / "file" / path.name
    elif kind != "missing":
        path.write_bytes({"empty": b"", "binary": bytes(range(256)) * 40, "text": b"What?\n"}[kind])
    return path


READERS = {
    "train input": (".yaml", ["train", "{}", "-o", "run"]),
    "validate input": (".json", ["validate", "{}"]),
    "eval structures": (".xyz", ["eval", "{}", "-m", "water.dpax", "-o", "out.xyz"]),
    "eval model": (".dpax", ["eval", "water.xyz", "-m", "{}", "-o", "out.xyz"]),
    "test data": (".xyz", ["test", "-m", "water.dpax", "-s", "{}"]),
    "test list": (".txt", ["test", "-m", "water.dpax", "-f", "{}"]),
    "test input": (".toml", ["test", "-m", "water.dpax", "--train-data", "{}"]),
    "eval-desc data": (".h5", ["eval-desc", "-m", "water.dpax", "-s", "{}"]),
    "model-devi data": (".traj", ["model-devi", "-m", "water.dpax", "water.dpax", "-s", "{}"]),
    "md structure": (".xyz", ["md", "water.dpax", "{}", "-o", "md.xyz", "-n", "1", "-t", "1"]),
    "md model": (".dp", ["md", "{}", "water.xyz", "-o", "md.xyz", "-n", "1", "-t", "1"]),
    "relax structure": (".cif", ["relax", "water.dpax", "{}", "-o", "out.xyz"]),
    "relax model": (".yaml", ["relax", "{}", "water.xyz", "-o", "out.xyz"]),
    "convert-data data": (".xyz", ["convert-data", "{}", "-o", "out"]),
    "neighbor-stat data": (".hdf5", ["neighbor-stat", "-s", "{}", "-r", "3"]),
    "inspect model": (".pth", ["inspect", "{}"]),
    "show model": (".pt", ["show", "{}", "size"]),
    "convert model": (".hlo", ["convert", "{}", "out.dpax"]),
    "freeze run": ("", ["freeze", "{}", "-o", "out.dpax"]),
    "export model": (".dpax", ["export", "{}", "-o", "out"]),
    "ipi structure": (".xyz", ["ipi", "water.dpax", "{}", "--unix", "x", "--wait", "0"]),
    "compress model": (".dpax", ["compress", "{}", "-o", "out.dpax"]),
    "compress script": (".json", ["compress", "strip.dpax", "-t", "{}", "-o", "out.dpax"]),
    "change-bias model": (".dpax", ["change-bias", "{}", "-b", "1", "2", "-o", "out.dpax"]),
    "change-bias data": ("", ["change-bias", "water.dpax", "-s", "{}", "-o", "out.dpax"]),
}
KINDS = ["missing", "empty", "folder", "device", "binary", "text", "below"]


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("reader", READERS)
def test_files_of_another_kind(here, reader, kind):
    suffix, line = READERS[reader]
    path = spoilt(here, kind, suffix)
    before = set(here.iterdir())
    mistake = run(*(word.format(path) for word in line)).mistake
    assert path.name in mistake or "What?" in mistake  # the path that a list of systems names
    assert "Errno" not in mistake
    assert set(here.iterdir()) == before


@pytest.mark.parametrize(
    "line",
    [
        "test -m water.dpax -s toy --json toy/type.raw",
        "test -m water.dpax -s . --json toy/set.000/energy.npy",
        "test -m water.dpax -s toy --json water.dpax",
        "test -m water.dpax -s labelled.x* --json labelled.xyz",
        "test -m water.dpax -f list.txt --json list.txt",
        "change-bias water.dpax -s labelled.x* -o labelled.xyz --overwrite",
        "change-bias water.dpax -s toy.h5#/H2O1 -o toy.h5 --overwrite",
        "model-devi -m water.dpax water.dpax -s . -o toy/set.000/coord.npy --overwrite",
        "model-devi -m water.dpax water.dpax -s labelled.x* -o labelled.xyz --overwrite",
    ],
)
def test_what_is_read_is_not_written_over(here, line):
    Path("list.txt").write_text("toy\n")
    for output in ("labelled.xyz", "toy.h5"):
        assert run("convert-data", "toy", "-o", output).code == 0
    before = {path: path.read_bytes() for path in here.rglob("*") if path.is_file()}
    assert "is read by this command; give another name" in run(*line.split()).mistake
    assert {path: path.read_bytes() for path in here.rglob("*") if path.is_file()} == before


@pytest.mark.parametrize(
    "line",
    [
        'md water.dpax water.xyz -o "" -n 1 -t 1',
        'test -m water.dpax -s ""',
        "test -m water.dpax --system=",
        'convert-data "" -o out.xyz',
    ],
)
def test_an_empty_argument_is_a_mistake(here, line):
    assert "an argument is empty" in run(*shlex.split(line)).mistake


def test_other_files_are_not_taken_for_a_report(here):
    Path("notes.json").write_text('{"all": 1}')
    assert "is not a report" in run("test", "-m", "water.dpax", "-s", "toy", "--json", "notes.json").mistake
    Path("x.e.out").write_text("1 2\n")
    assert "is not of dpax test" in run("test", "-m", "water.dpax", "-s", "toy", "-d", "x").mistake
    assert Path("x.e.out").read_text() == "1 2\n"


def test_the_files_of_a_run_belong_to_it(here):
    Path("run/checkpoints").mkdir(parents=True)
    for name in ("input.json", "model.dpax"):
        Path("run", name).write_text("mine")
    for line in (
        "test -m water.dpax -s toy --json run/input.json",
        "change-bias water.dpax -b 1 2 -o run/model.dpax --overwrite",
    ):
        assert "belongs to the run" in run(*line.split()).mistake
    assert {path.read_text() for path in Path("run").glob("*.*")} == {"mine"}


def test_a_report_may_be_written_anew(here):
    for _ in range(2):
        assert run("test", "-m", "water.dpax", "-s", "toy", "--json", "toy/report.json").code == 0


NAMES = ["[red]x[bold]", "a@1#b *?", "~x", "[1]", "-ü\n", "set.000"]


@pytest.mark.parametrize("name", NAMES)
def test_names_are_taken_as_they_stand(here, name):
    shutil.copy("water.dpax", f"{name}.dpax")
    shutil.copy("water.xyz", f"{name}.xyz")
    shutil.copytree("toy", name)
    path = f"./{name}"
    done = run("eval", f"{path}.xyz", "-m", f"{path}.dpax", "-o", f"{path}.out.xyz")
    assert done.code == 0, done
    assert f"1 structure evaluated: {name}.out.xyz" in done.stdout
    assert run("convert-data", path, "-o", f"{path}.h5").code == 0
    systems = [path, f"{path}.h5", f"{path}.h5#/H2O1"]
    done = run("test", "-m", f"{path}.dpax", "-s", *systems, "--json", f"{path}.json", "-d", path)
    assert done.code == 0, done
    assert f"{name}.h5#/H2O1: 6 frames" in done.stdout
    assert run("relax", f"{path}.dpax", f"{path}.xyz", "-o", f"{path}.cif", "--fmax", 1e9).code == 0
    assert len(ase.io.read(Path(f"{name}.cif").absolute(), do_not_split_by_at_sign=True)) == 3


def test_output_that_nobody_takes():
    """A closed pipe ends a command quietly; a full disk behind it is named."""
    told = (
        "import typer; from dpax.cli.app import app, main; "
        "app.command('say')(lambda: typer.echo('word')); main()"
    )
    command = [sys.executable, "-c", told, "say"]
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True) as closed:
        assert closed.stdout is not None
        assert closed.stderr is not None
        closed.stdout.close()
        assert closed.stderr.read() == ""
        assert closed.wait(300) == 141
    with open("/dev/full", "w") as full:
        done = subprocess.run(
            command, stdout=full, stderr=subprocess.PIPE, text=True, timeout=300, check=False
        )
    assert done.returncode == 2
    assert done.stderr == "dpax: error: the disk is full; make room and try again\n"
