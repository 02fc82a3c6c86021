"""A lock on what is written: who is refused, how it ends, and what else may lie in its place."""

import errno
import json
import os
import signal
import socket
import subprocess
import sys
import threading
from pathlib import Path

import pytest

import dpax.lock
from dpax.errors import InputError
from dpax.lock import locked

HOLDER = """
import sys, time
from pathlib import Path
from dpax.lock import locked
with locked(Path(sys.argv[1]), "the run", "wait"):
    print("held", flush=True)
    time.sleep(600)
"""


def hold(path: Path):
    return locked(path, "the run", "wait, or stop it")


def refusal(path: Path) -> str:
    before = sorted(path.parent.iterdir())
    with pytest.raises(InputError) as caught, hold(path):
        pass
    assert sorted(path.parent.iterdir()) == before
    return str(caught.value)


def test_a_living_process_is_named_until_it_is_dead(tmp_path):
    """Stopped it lives; killed outright it is gone, and the file that it leaves locks nothing."""
    path = tmp_path / ".lock"
    process = subprocess.Popen([sys.executable, "-c", HOLDER, str(path)], stdout=subprocess.PIPE, text=True)
    try:
        assert process.stdout is not None
        assert process.stdout.readline() == "held\n"
        expected = f"the run is in use by process {process.pid} on {socket.gethostname()}, since 2"
        assert refusal(path).startswith(expected)
        assert refusal(path).endswith("; wait, or stop it")
        process.send_signal(signal.SIGSTOP)
        assert refusal(path).startswith(expected)
    finally:
        process.kill()
        process.communicate()
    assert path.exists()
    with hold(path):
        assert f"process {os.getpid()} on" in refusal(path)
    assert not path.exists()


@pytest.mark.parametrize("name", [".lock", "a lock with blanks #1", "läuft.lock"])
def test_threads_of_one_process_exclude_each_other(tmp_path, name):
    path, refused = tmp_path / name, []
    with hold(path):
        thread = threading.Thread(target=lambda: refused.append(refusal(path)))
        thread.start()
        thread.join()
    assert f"process {os.getpid()} on" in refused[0]
    with hold(path):
        pass


def test_an_error_ends_it_too(tmp_path):
    with pytest.raises(KeyboardInterrupt), hold(tmp_path / ".lock"):
        raise KeyboardInterrupt
    assert not list(tmp_path.iterdir())


def left_behind(path: Path, host: str) -> None:
    path.write_text("\n" + json.dumps({"process": 99, "host": host, "since": "2020-01-01 00:00:00"}) + "\n")


def test_what_a_dead_process_left_does_not_matter(tmp_path, recwarn):
    path = tmp_path / ".lock"
    for content in ("", "\n"):
        path.write_text("")
        with hold(path):
            assert str(os.getpid()) in path.read_text(), content
    left_behind(path, socket.gethostname())
    with hold(path):
        assert json.loads(path.read_text())["process"] == os.getpid()
    assert not recwarn.list


def test_a_process_of_another_machine_is_named(tmp_path):
    """It may be dead, or live where locks are not seen from here: nobody can tell."""
    left_behind(tmp_path / ".lock", "elsewhere")
    with pytest.warns(UserWarning, match="process 99 on elsewhere ended without"), hold(tmp_path / ".lock"):
        pass


@pytest.mark.parametrize("content", ["", "\n", '\n{"pro', '\n{"process": 12, "ho', "\x00" * 40])
def test_a_torn_lock_file_holds_nobody_back(tmp_path, content):
    """A full disk or a loss of power has left a part of it."""
    path = tmp_path / ".lock"
    path.write_text(content)
    with hold(path):
        assert json.loads(path.read_text())["process"] == os.getpid()


@pytest.mark.parametrize(
    "content", ["my notes", "{}", '{"process": "x"}', "[1, 2]", '\n{"a": 1}', "[" * 4000]
)
def test_another_file_of_this_name_is_kept(tmp_path, content):
    path = tmp_path / ".lock"
    path.write_text(content)
    assert "is not a lock file of dpax" in refusal(path)
    assert path.read_text() == content


@pytest.mark.parametrize("number", [errno.ENOSYS, errno.ENOLCK, errno.EOPNOTSUPP, errno.EINVAL])
def test_without_locks_it_warns_and_goes_on(tmp_path, monkeypatch, number):
    def fail(*_, **__):
        raise OSError(number, os.strerror(number))

    monkeypatch.setattr(dpax.lock, "lock_descriptor", fail)
    words = "the run cannot be locked: its file system has no locks"
    with pytest.warns(UserWarning, match=words), hold(tmp_path / ".lock"):
        pass
    (tmp_path / ".lock").write_text("my notes")
    assert "is not a lock file" in refusal(tmp_path / ".lock")


def test_a_file_that_was_removed_meanwhile_is_made_anew(tmp_path, monkeypatch):
    """Its last holder removes it between its being opened and locked: such a lock would hold nobody back."""
    path, real = tmp_path / ".lock", dpax.lock.lock_descriptor
    opened = []

    def late(descriptor, **options):
        if not opened:
            path.unlink()
        opened.append(descriptor)
        return real(descriptor, **options)

    monkeypatch.setattr(dpax.lock, "lock_descriptor", late)
    with hold(path):
        assert len(opened) == 2
        assert path.exists()
        refusal(path)


def test_a_folder_that_cannot_be_written(tmp_path):
    words = r"none/\.lock cannot be written: no such file"
    with pytest.raises(InputError, match=words), hold(tmp_path / "none" / ".lock"):
        pass
