"""The environments that the peers run in: DeePMD-kit's JAX backend in this one, its PyTorch in one made here.

    python benchmarks/environments.py [--torch VERSION]

Prints the Python of `benchmarks/envs/torch`, which is made once and used again. DeePMD-kit's wheel holds
operators in C++ for one release of torch, which is the default, and does not start beside another: they are
deleted then, and its compressed models cannot be measured.
"""

import argparse
import subprocess
import sys
from pathlib import Path

FOLDER = Path(__file__).with_name("envs") / "torch"
DEEPMD = "3.2.0"
BUILT_FOR = "2.11."
"""The release of torch that the operators in this wheel of DeePMD-kit are for."""
TORCH = BUILT_FOR + "0"
CPU_WHEELS = "https://download.pytorch.org/whl/cpu"


def torch_python(torch: str = TORCH) -> Path:
    """The Python of the environment, which is made if it is not there."""
    python = FOLDER / ("Scripts/python.exe" if sys.platform == "win32" else "bin/python")
    finished = FOLDER / ".finished"
    if finished.exists() and finished.read_text() == torch:
        return python
    subprocess.run([sys.executable, "-m", "venv", "--clear", str(FOLDER)], check=True)
    install = [str(python), "-m", "pip", "install", "--quiet"]
    subprocess.run([*install, "--extra-index-url", CPU_WHEELS, f"torch=={torch}"], check=True)
    subprocess.run([*install, f"deepmd-kit=={DEEPMD}", "e3nn", "flatbuffers", "mpich"], check=True)
    if not torch.startswith(BUILT_FOR):
        for library in FOLDER.rglob("deepmd/lib/libdeepmd_op_pt.*"):
            library.unlink()
    finished.write_text(torch)
    return python


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("--torch", default=TORCH, help="release of torch")
    print(torch_python(parser.parse_args().torch))
