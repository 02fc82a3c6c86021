"""JAX's devices and kept programs, each time in a process of its own."""

import os
import subprocess
import sys

import pytest

from dpax.model.file import save_model
from model.support import tiny_model

COUNTING = """
import collections
import jax
events = collections.Counter()
jax.monitoring.register_event_listener(lambda event, **_: events.update([event.rsplit("/", 1)[-1]]))
"""
"""Counts what was compiled and what came from the cache, in the process that runs it."""


def run(code: str, *arguments: object, **variables: str) -> str:
    environment = {**os.environ, **variables}
    command = [sys.executable, "-c", code, *map(str, arguments)]
    done = subprocess.run(command, capture_output=True, text=True, timeout=600, check=False, env=environment)
    assert done.returncode == 0, done.stderr
    return done.stdout.strip()


def test_devices_and_cache_folder(tmp_path):
    told = (
        "import dpax, jax; dpax.configure({}); "
        "print(jax.device_count(), jax.config.jax_compilation_cache_dir)"
    )
    folder = tmp_path / "made" / "here"
    assert run(told.format(f"3, {str(folder)!r}"), DPAX_DEVICES="2") == f"3 {folder}"
    assert folder.is_dir()
    assert run(told.format(""), DPAX_DEVICES="2", DPAX_CACHE=str(tmp_path)) == f"2 {tmp_path}"
    assert run(told.format("cache='off'"), DPAX_DEVICES="", DPAX_CACHE=str(tmp_path)) == (
        f"{len(os.sched_getaffinity(0))} None"
    )


@pytest.mark.skipif(sys.platform != "linux", reason="the folder has other names elsewhere")
def test_default_cache_folder(tmp_path):
    told = "import dpax, jax; dpax.configure(1); print(jax.config.jax_compilation_cache_dir)"
    variables = {"DPAX_CACHE": "", "XDG_CACHE_HOME": str(tmp_path)}
    assert run(told, **variables) == str(tmp_path / "dpax")
    assert run(told, **variables, JAX_COMPILATION_CACHE_DIR=str(tmp_path)) == str(tmp_path)
    # A home that cannot be written, as on some clusters, is no mistake of the user.
    (tmp_path / "file").touch()
    assert run(told, **{**variables, "XDG_CACHE_HOME": str(tmp_path / "file")}) == "None"


@pytest.mark.parametrize(
    ("call", "variables", "message"),
    [
        ("dpax.configure(0)", {}, "devices should be a whole number from 1 to 1024, got 0"),
        ("dpax.configure()", {"DPAX_DEVICES": "all"}, "DPAX_DEVICES should be a whole number from 1"),
        ("dpax.configure()", {"DPAX_DEVICES": "1000000000"}, "DPAX_DEVICES should be a whole number from 1"),
        ("dpax.configure()", {"DPAX_CACHE": "/dev/null/x"}, "DPAX_CACHE: /dev/null/x cannot be used (Not a"),
        ("dpax.configure()", {"DPAX_CACHE": "/dev/null"}, "DPAX_CACHE: /dev/null cannot be used"),
        (
            "dpax.load('none')",
            {"JAX_PLATFORMS": "cuda", "CUDA_VISIBLE_DEVICES": ""},
            "JAX_PLATFORMS is cuda, and",
        ),
        (
            "dpax.load('none')",
            {"JAX_PLATFORMS": "none"},
            "JAX_PLATFORMS is none, and JAX finds no such device",
        ),
        ("jax.devices(); dpax.configure()", {}, "dpax.configure: JAX has already started"),
    ],
)
def test_mistakes(call, variables, message):
    code = f"import dpax, jax\ntry:\n    {call}\nexcept dpax.InputError as error:\n    print(error)"
    assert run(code, **variables).startswith(message)


def test_the_command_line_reads_the_variables(monkeypatch, tmp_path):
    save_model(tmp_path / "model.dpax", tiny_model(attn_layer=0, neuron=[4]), {})
    monkeypatch.setenv("DPAX_DEVICES", "many")
    command = [sys.executable, "-c", "from dpax.cli import main; main()", "eval", "water.xyz"]
    command += ["-m", str(tmp_path / "model.dpax"), "-o", str(tmp_path / "out.xyz")]
    done = subprocess.run(command, capture_output=True, text=True, timeout=600, check=False)
    assert done.returncode == 2
    assert done.stderr == "dpax: error: DPAX_DEVICES should be a whole number from 1 to 1024, got many\n"


def test_a_second_process_compiles_nothing(tmp_path):
    """Every program of a command comes from the first process, and the results are the same."""
    save_model(tmp_path / "model.dpax", tiny_model(attn_layer=0, neuron=[4]), {})
    (tmp_path / "water.xyz").write_text("3\n\nO 0 0 0\nH 0 0 1\nH 0 1 0\n")
    code = (
        f"{COUNTING}\nimport atexit, sys\nfrom dpax.cli import main\n"
        "atexit.register(lambda: print(events['cache_hits'], events['cache_misses'], file=sys.stderr))\n"
        "main()"
    )

    def evaluate(output: str) -> tuple[int, int]:
        command = [sys.executable, "-c", code, "eval", "-m", "model.dpax", "water.xyz", "-o", output]
        environment = {**os.environ, "DPAX_CACHE": str(tmp_path / "cache")}
        done = subprocess.run(
            command, capture_output=True, text=True, timeout=600, check=True, env=environment, cwd=tmp_path
        )
        hits, misses = map(int, done.stderr.split()[-2:])
        return hits, misses

    _, compiled = evaluate("first.xyz")
    hits, misses = evaluate("second.xyz")
    assert compiled > 0
    assert (hits, misses) == (compiled, 0)
    first, second = ((tmp_path / name).read_text() for name in ("first.xyz", "second.xyz"))
    assert first == second
