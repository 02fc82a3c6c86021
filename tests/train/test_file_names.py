"""Names that the settings give to files: none may be that of another file of the run, or of what is read."""

import re
import shutil
import sys
import warnings
from pathlib import Path

import pytest

from dpax.cli import main
from dpax.cli.outputs import refuse_inputs
from dpax.errors import InputError
from dpax.train import train
from dpax.train.file_names import is_reserved
from dpax.train.run import RunFolder

from .support import settings, write_data

RESERVED = [
    *("input.json", "log.jsonl", "statistics.json", "data.json", "checkpoints", "profile"),
    *("model.dpax", "model_ema.dpax", "best.dpax", "best-400.dpax", "mine.dpax", "input.tmp", "data.tmp"),
    *(".lock", ".", "..", "dpax-error-20260101-120000.log"),
    *(
        "INPUT.JSON",
        "Log.jsonl",
        "Checkpoints",
        "BEST.DPAX",
        "input.json.",
        "input.json ",
        "ınput.json".upper(),
    ),
]


@pytest.mark.parametrize("key", ["training.disp_file", "validating.full_val_file"])
@pytest.mark.parametrize("name", RESERVED)
def test_names_of_the_run_are_refused(key, name):
    with pytest.raises(InputError, match=f"{key}: .* is a name of the run's own files; choose another"):
        settings({key: name})


@pytest.mark.parametrize("name", ["curve.out", "input.txt", "models", "log", "a b#1.txt", "läuft.out"])
def test_other_names_are_free(name):
    assert settings({"training.disp_file": name}).training.disp_file == name


@pytest.mark.parametrize(
    ("curve", "validation"),
    [
        ("val.log", "val.log"),
        ("VAL.LOG", "val.log"),
        ("val_ema.log", "val.log"),
        ("lcurve_ema.out", "lcurve.out"),
        ("caf\u00e9.log", "cafe\u0301.log"),
        ("stra\u00dfe", "STRASSE"),
    ],
)
def test_two_files_of_one_name_are_refused(curve, validation):
    with pytest.raises(InputError, match="would be the same file"):
        settings({"training.disp_file": curve, "validating.full_val_file": validation})


def test_all_files_of_a_run_are_reserved():
    folder = RunFolder(Path("run"))
    paths = [getattr(folder, name) for name, value in vars(RunFolder).items() if isinstance(value, property)]
    assert len(paths) >= 8
    assert [path for path in paths if not is_reserved(path.name)] == []


@pytest.fixture(scope="module")
def base(tmp_path_factory) -> Path:
    folder = tmp_path_factory.mktemp("data")
    write_data(folder)
    return folder


@pytest.mark.parametrize(
    "name",
    ["run/input.json", "run/statistics.json", "run/../run/best.dpax", "run/lcurve.out", "run/checkpoints/s"],
)
def test_shared_statistics_are_no_file_of_the_run(base, name):
    """Seen before anything is written, wherever the path leads."""
    with pytest.raises(InputError, match=r"training\.stat_file: .* is one of the run's own files"):
        train(settings({"training.stat_file": name}), base / "run", base=base)
    assert not (base / "run").exists()


def test_a_run_owns_its_files_and_no_others(tmp_path):
    run = RunFolder(tmp_path / "run")
    run.path.mkdir()
    (tmp_path / "link").symlink_to(run.path)
    for path in (
        run.path,
        run.input,
        run.path / "best-3.dpax",
        run.checkpoints / "4",
        tmp_path / "link/input.json",
    ):
        assert run.owns(path)
    for path in (tmp_path, tmp_path / "input.json", run.path / "mine.yaml", tmp_path / "run2" / "input.json"):
        assert not run.owns(path)


def test_what_is_read_is_not_written(tmp_path):
    read = tmp_path / "x.xyz"
    read.write_text("mine")
    (tmp_path / "link.xyz").symlink_to(read)
    shutil.copy(read, tmp_path / "copy.xyz")
    (tmp_path / "deep").mkdir()
    for output in (read, tmp_path / "link.xyz", tmp_path / "deep" / ".." / "x.xyz"):
        with pytest.raises(InputError, match="is read by this command; give another name"):
            refuse_inputs(output, tmp_path / "copy.xyz", str(read))
    refuse_inputs(tmp_path / "copy.xyz", read, tmp_path / "none.xyz")
    refuse_inputs(tmp_path / "new.xyz", read)


@pytest.mark.parametrize(
    ("command", "words"),
    [
        (
            "train run/input.json -o run --overwrite",
            r"run/input\.json belongs to the run run, which would be",
        ),
        (
            "train input.yaml -o run --overwrite --init-model run/best.dpax",
            r"run/best\.dpax belongs to the run",
        ),
        ("train input.yaml -o run --overwrite --finetune run", "run belongs to the run run"),
        ("eval x.xyz -m m.dpax -o x.xyz --overwrite", r"x\.xyz is read by this command"),
        ("relax m.dpax x.xyz -o ./x.xyz --overwrite", r"x\.xyz is read by this command"),
        ("convert m.dpax m.dpax --overwrite", r"m\.dpax is read by this command"),
        ("compress m.dpax -o m.dpax --overwrite", r"m\.dpax is read by this command"),
        ("change-bias m.dpax -b 1 -o m.dpax --overwrite", r"m\.dpax is read by this command"),
        ("freeze run -o run/input.json --overwrite", r"run/input\.json is read by this command"),
    ],
)
def test_no_command_writes_over_what_it_reads(tmp_path, monkeypatch, capsys, command, words):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "argv", ["dpax", *command.split()])
    monkeypatch.setattr(warnings, "showwarning", warnings.showwarning)  # main sets its own
    (tmp_path / "run").mkdir()
    for name in ("x.xyz", "m.dpax", "input.yaml", "run/input.json", "run/best.dpax"):
        (tmp_path / name).write_text("mine")
    with pytest.raises(SystemExit) as ended:
        main()
    assert ended.value.code == 2
    assert re.match(f"dpax: error: {words}", capsys.readouterr().err)
    assert {path.read_text() for path in tmp_path.rglob("*") if path.is_file()} == {"mine"}
