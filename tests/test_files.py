"""What libraries raise when a disk is full, told in plain words; and files that are whole or not there."""

import errno
import os
import resource
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import ase.build
import ase.io
import h5py
import numpy as np
import pytest
from matplotlib.figure import Figure
from safetensors.numpy import save_file

from dpax.errors import InputError, MachineError
from dpax.faults import machine_error
from dpax.files import remove_temporaries, replacing, writing
from dpax.train.checkpoints import Checkpoint, Checkpoints

LIMIT = 20_000
NUMBERS = np.random.default_rng(0).normal(size=100_000)


@contextmanager
def largest_file(limit: int) -> Iterator[None]:
    """No file can grow beyond a number of bytes: what a full disk is, for everybody and without a mount."""
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (limit, before[1]))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)


def write_hdf5(path: Path) -> None:
    with h5py.File(path, "w") as file:
        file["numbers"] = NUMBERS


def draw(path: Path) -> None:
    figure = Figure()
    figure.subplots().imshow(NUMBERS.reshape(100, 1000))
    figure.savefig(path, dpi=300)


WRITERS: dict[str, Callable[[Path], object]] = {
    "text.txt": lambda path: path.write_text("x" * 10 * LIMIT),
    "array.npy": lambda path: np.save(path, NUMBERS),
    "arrays.npz": lambda path: np.savez(path, numbers=NUMBERS),
    "model.dpax": lambda path: save_file({"numbers": NUMBERS}, path),
    "data.h5": write_hdf5,
    "figure.png": draw,
    "structure.xyz": lambda path: ase.io.write(path, ase.build.bulk("Cu").repeat(10)),
    "structure.traj": lambda path: ase.io.write(path, ase.build.bulk("Cu").repeat(10)),
}


@pytest.mark.parametrize("name", WRITERS)
def test_a_file_that_does_not_fit_leaves_the_one_before(tmp_path, name):
    path = tmp_path / name
    path.write_text("before")
    with largest_file(LIMIT), pytest.raises(MachineError) as caught, replacing(path) as temporary:
        WRITERS[name](temporary)
    assert str(caught.value).startswith(f"{path} cannot be written: the ")
    assert [file.name for file in tmp_path.iterdir()] == [name]
    assert path.read_text() == "before"
    with replacing(path, durable=True) as temporary:
        WRITERS[name](temporary)
    assert [file.name for file in tmp_path.iterdir()] == [name]
    assert path.stat().st_size > LIMIT


def test_a_checkpoint_that_does_not_fit_leaves_those_before(tmp_path):
    small, large = (Checkpoint({"numbers": NUMBERS[:n]}, {"n": n}) for n in (10, len(NUMBERS)))
    with Checkpoints(tmp_path, 1) as checkpoints:
        checkpoints.save(1, small)
        with largest_file(LIMIT), pytest.raises(MachineError, match="2 cannot be written: the file would"):
            checkpoints.save(2, large)
    with Checkpoints(tmp_path, 1) as checkpoints:
        assert checkpoints.steps() == [1]
        assert checkpoints.restore(1).meta == small.meta
        checkpoints.save(2, large)
    with Checkpoints(tmp_path, read_only=True) as checkpoints:
        np.testing.assert_array_equal(checkpoints.restore(2).arrays["numbers"], NUMBERS)


def test_a_checkpoint_that_cannot_be_opened_now_is_not_damaged(tmp_path, monkeypatch):
    with Checkpoints(tmp_path) as checkpoints:
        for step in (1, 2):
            checkpoints.save(step, Checkpoint({"numbers": NUMBERS[:10]}, {}))

        def no_more_files(*_: object, **__: object) -> None:
            raise OSError(errno.EMFILE, os.strerror(errno.EMFILE))

        monkeypatch.setattr("dpax.train.checkpoints.read_arrays", no_more_files)
        with pytest.raises(MachineError, match=r"2: this process has too many files open"):
            checkpoints.latest(pytest.fail)


@pytest.mark.parametrize(
    ("number", "words"),
    [
        (errno.ENOSPC, "disk is full"),
        (errno.EDQUOT, "quota"),
        (errno.EROFS, "read-only"),
        (errno.EACCES, "permission denied"),
        (errno.EPERM, "does not permit"),
        (errno.ENAMETOOLONG, "too long"),
        (errno.EMFILE, "ulimit -n"),
        (errno.EISDIR, "is a folder"),
        (errno.ENOTDIR, "is a file, not a folder"),
        (errno.ENOENT, "no such file"),
        (errno.ESTALE, "removed or replaced"),
        (errno.EIO, "has failed"),
    ],
)
def test_what_the_system_says(number, words):
    plain = OSError(number, os.strerror(number), "some/file")
    assert str(machine_error(plain)).startswith("some/file: ")
    for same in (
        plain,
        RuntimeError(f"unable to close file (errno = {number}, error message = 'x')"),
        ValueError(f"FAILED: Failed writing: x [os_error_code='{number}']"),
        ValueError(f"I/O error: x (os error {number})"),
    ):
        assert words in str(machine_error(same, "out"))


def test_devices_are_written_to_as_they_stand(tmp_path):
    """`--json /dev/stdout` must put no file in the place of the device."""
    pipe = tmp_path / "pipe"
    os.mkfifo(pipe)
    reader = os.open(pipe, os.O_RDONLY | os.O_NONBLOCK)
    with replacing(pipe) as place:
        place.write_text("words")
    assert os.read(reader, 10) == b"words"
    os.close(reader)
    assert pipe.is_fifo()
    assert list(tmp_path.iterdir()) == [pipe]


def test_what_is_wrong_with_an_input_is_not_said_of_the_output(tmp_path):
    mistake = InputError("a.xyz cannot be read: [Errno 13] Permission denied")
    with pytest.raises(InputError) as caught, writing(tmp_path / "out.xyz"):
        raise mistake
    assert caught.value is mistake


def test_memory():
    assert "this machine has too little memory" in str(machine_error(MemoryError()))
    with pytest.raises(MemoryError) as caught:
        np.empty(2**60, np.uint8)
    assert "this machine has too little memory" in str(machine_error(caught.value))
    text = "RESOURCE_EXHAUSTED: Out of memory while trying to allocate 21474836480 bytes."
    assert "device that computes has too little memory (21474836480 bytes more)" in str(
        machine_error(RuntimeError(text))
    )


@pytest.mark.parametrize(
    "error",
    [ValueError("no"), KeyError("errno"), ZeroDivisionError(), OSError("x")],
)
def test_anything_else_is_no_failure_of_the_machine(error, tmp_path):
    assert machine_error(error) is None
    assert machine_error(FileNotFoundError(errno.ENOENT, "of what?")) is None
    with pytest.raises(type(error)), replacing(tmp_path / "file"):
        raise error
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize("place", ["file/below", "missing/below", "x" * 300, "folder"])
def test_places_where_nothing_can_be_written(tmp_path, place):
    (tmp_path / "file").touch()
    (tmp_path / "folder" / "full").mkdir(parents=True)
    path = tmp_path / place
    with pytest.raises(MachineError) as caught, replacing(path) as temporary:
        temporary.write_text("x")
    assert str(caught.value).startswith(f"{path} cannot be written: ")
    with pytest.raises(MachineError), writing(path):
        path.open("w")
    assert {file.name for file in tmp_path.iterdir()} == {"file", "folder"}


def test_a_mistake_names_the_file_and_not_its_temporary_name(tmp_path):
    path = tmp_path / "model.dpax"
    with pytest.raises(InputError) as caught, replacing(path) as temporary:
        raise InputError(f"{temporary}: is no model")
    assert str(caught.value) == f"{path}: is no model"
    assert type(caught.value) is InputError


def test_what_a_killed_process_leaves_behind_is_removed(tmp_path):
    def kill() -> None:
        if os.fork() == 0:
            with replacing(tmp_path / "a.txt") as temporary, replacing(tmp_path / "b") as folder:
                temporary.write_text("half")
                (folder / "c").mkdir(parents=True)
                os._exit(1)
        os.wait()

    others = [".lock", ".a.lock", ".backup.20241130", ".notes.20241130.txt", ".dpax-mine.txt", "a.txt", "b"]
    for name in others:
        (tmp_path / name).touch()
    kill()
    assert len(list(tmp_path.iterdir())) == len(others) + 2
    remove_temporaries(tmp_path, ["b", "c"])
    assert len(list(tmp_path.iterdir())) == len(others) + 1
    remove_temporaries(tmp_path)
    assert sorted(path.name for path in tmp_path.iterdir()) == sorted(others)
