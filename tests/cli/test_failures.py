"""What the user sees of a mistake and of a failure."""

import pytest

from dpax.cli.failures import guarded, show_warning
from dpax.errors import InputError


def test_mistake_is_one_line_and_code_2(capsys):
    with pytest.raises(SystemExit) as exit_, guarded():
        raise InputError("the file\n  has a flaw")
    assert exit_.value.code == 2
    assert capsys.readouterr().err == "dpax: error: the file has a flaw\n"


def test_failure_is_one_line_and_code_1_with_the_traceback_in_the_run(capsys, tmp_path):
    with pytest.raises(SystemExit) as exit_, guarded(tmp_path):
        raise ZeroDivisionError("never divide\nby zero")
    assert exit_.value.code == 1
    (log,) = tmp_path.glob("dpax-error-*.log")
    assert (
        capsys.readouterr().err == f"dpax: error: ZeroDivisionError: never divide (full traceback: {log})\n"
    )
    assert "test_failures.py" in log.read_text()


def test_inner_guard_speaks_alone(capsys, tmp_path):
    with pytest.raises(SystemExit), guarded(), guarded(tmp_path):
        raise InputError("once")
    assert capsys.readouterr().err == "dpax: error: once\n"


def test_traceback_goes_elsewhere_when_the_run_does_not_exist(capsys, tmp_path, monkeypatch):
    monkeypatch.setattr("tempfile.gettempdir", lambda: str(tmp_path))
    with pytest.raises(SystemExit), guarded(tmp_path / "none"):
        raise RuntimeError
    assert len(list(tmp_path.glob("dpax-error-*.log"))) == 1
    assert "no message" in capsys.readouterr().err


def test_failure_of_the_machine_is_a_mistake(capsys, tmp_path):
    with pytest.raises(SystemExit) as exit_, guarded(tmp_path):
        raise OSError(28, "No space left on device", "run/log.jsonl")
    assert exit_.value.code == 2
    assert capsys.readouterr().err == (
        "dpax: error: run/log.jsonl: the disk is full; make room and try again\n"
    )
    assert not list(tmp_path.iterdir())


def test_a_closed_pipe_is_nothing_to_speak_of(capsys):
    with pytest.raises(SystemExit) as exit_, guarded():
        raise BrokenPipeError
    assert exit_.value.code == 141
    assert capsys.readouterr().err == ""


def test_trouble_with_kept_programs_is_told_once(capsys):
    for name in ("jit_a", "jit_b"):
        text = f"Error reading persistent compilation cache entry for '{name}': EOFError: it is short"
        show_warning(text, UserWarning)
    assert capsys.readouterr().err.count("dpax: warning: the folder of compiled programs cannot be used") == 1
