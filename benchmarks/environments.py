"""The environments that the peers run in: DeePMD-kit's JAX backend in this one, its PyTorch in one made here.

    python benchmarks/environments.py [--torch VERSION]

Prints the Python of `benchmarks/envs/torch`, which is made once and used again. It is what users have after
`pip install deepmd-kit[torch]`: the release of torch that DeePMD-kit's operators in C++ are built for, and
vesin, with which it searches neighbours. PyPI's torch for Linux is the one for GPUs, of several GB; it runs
without a GPU as well. Beside another release of torch the operators do not load: they are deleted then, and
compressed models cannot be measured.
"""

import argparse
import os
import shutil
import subprocess
import sys
from pathlib import Path

FOLDER = Path(__file__).with_name("envs") / "torch"
DEEPMD = "3.2.0"
BUILT_FOR = "2.11.0"
"""The release of torch that the operators in this wheel of DeePMD-kit are for."""


def requirements(torch: str) -> list[str]:
    """What pip installs. The extra `torch` allows one release of torch; for others its list stands here."""
    if torch == BUILT_FOR:
        return [f"deepmd-kit[torch]=={DEEPMD}", f"torch=={torch}"]
    return [f"deepmd-kit=={DEEPMD}", f"torch=={torch}", "e3nn>=0.5.9", "vesin[torch]", "mpich"]


def torch_python(torch: str = BUILT_FOR) -> Path:
    """The Python of the environment, which is made if it is not there."""
    python = FOLDER / ("Scripts/python.exe" if sys.platform == "win32" else "bin/python")
    finished, wanted = FOLDER / ".finished", "\n".join(requirements(torch))
    if finished.exists() and finished.read_text() == wanted:
        return python
    subprocess.run([sys.executable, "-m", "venv", "--clear", str(FOLDER)], check=True)
    subprocess.run([str(python), "-m", "pip", "install", "--quiet", *requirements(torch)], check=True)
    if torch != BUILT_FOR:
        for library in FOLDER.rglob("deepmd/lib/libdeepmd_op_pt.*"):
            library.unlink()
    finished.write_text(wanted)
    return python


def named_python(name: str) -> str:
    """A Python that the user names, as programs that run in other folders find it."""
    path = shutil.which(name)
    if path is None:
        raise SystemExit(f"--torch-python: there is no program {name}")
    return os.path.abspath(path)


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("--torch", default=BUILT_FOR, help="release of torch")
    print(torch_python(parser.parse_args().torch))
