"""What the documentation shows is true: its code runs, its inputs are inputs, its commands exist."""

import json
import os
import re
import shlex
import subprocess
import sys
from pathlib import Path
from typing import NamedTuple

import ase.build
import ase.io
import jax
import numpy as np
import pytest
import typer.main
import yaml
from ase.calculators.emt import EMT
from ase.calculators.singlepoint import SinglePointCalculator

import dpax
from dpax.cli.app import app
from dpax.simulate.md import molecular_dynamics
from dpax.simulate.settings import MDSettings
from dpax.train.settings import InputSettings

ROOT = Path(__file__).resolve().parent.parent
PAGES = [ROOT / "README.md", ROOT / "CHANGELOG.md", *sorted((ROOT / "docs").glob("*.md"))]
README_INPUT = ROOT / "examples" / "demo" / "input.yaml"


class Block(NamedTuple):
    page: Path
    line: int
    language: str
    text: str

    def __str__(self) -> str:
        return f"{self.page.name}:{self.line}"


def blocks_of(page: Path) -> list[Block]:
    """The fenced blocks of a page, with the line on which each begins."""
    found: list[Block] = []
    language: str | None = None
    for number, line in enumerate(page.read_text(encoding="utf-8").splitlines(), 1):
        if line.startswith("```"):
            if language is None:
                language, start, lines = line[3:].strip(), number + 1, []
            else:
                found.append(Block(page, start, language, "\n".join(lines)))
                language = None
        elif language is not None:
            lines.append(line)
    assert language is None, f"{page.name}: a block is not closed"
    return found


BLOCKS = [block for page in PAGES for block in blocks_of(page)]
INPUTS = [block for block in BLOCKS if block.language in ("json", "yaml", "toml")]
COMMANDS = [
    (block, line.split("#")[0].strip())
    for block in BLOCKS
    if block.language == "sh"
    for line in block.text.splitlines()
    if line.strip()
]
WITH_CODE = sorted({block.page for block in BLOCKS if block.language == "python"})


def alloys(frames: int, seed: int, elements: list[str]) -> list[ase.Atoms]:
    """Labelled crystals of 8 atoms."""
    rng = np.random.default_rng(seed)
    images = []
    for _ in range(frames):
        atoms = ase.build.bulk("Cu", "fcc", a=4.0, cubic=True).repeat((2, 1, 1))
        atoms.symbols[:] = rng.choice(elements, size=len(atoms))
        atoms.rattle(0.05, rng=rng)
        atoms.calc = EMT()
        energy, forces, stress = atoms.get_potential_energy(), atoms.get_forces(), atoms.get_stress()
        atoms.calc = SinglePointCalculator(atoms, energy=energy, forces=forces, stress=stress)
        images.append(atoms)
    return images


@pytest.fixture(scope="module")
def folder(tmp_path_factory) -> Path:
    """A folder as the README's reader has it: data in `demo`, `input.yaml`, and a finished run, all tiny."""
    folder = tmp_path_factory.mktemp("documentation")
    elements = yaml.safe_load(README_INPUT.read_text(encoding="utf-8"))["model"]["type_map"]
    (folder / "demo").mkdir()
    for seed, (name, frames) in enumerate({"train": 6, "valid": 2, "test": 5}.items()):
        ase.io.write(folder / "demo" / f"{name}.xyz", alloys(frames, seed, elements), format="extxyz")
    content = {
        "model": {
            "type_map": elements,
            "descriptor": {
                "type": "se_atten_v2",
                "rcut": 3.5,
                "rcut_smth": 1.0,
                "neuron": [4, 8],
                "axis_neuron": 2,
                "attn": 8,
                "attn_layer": 1,
                "precision": "float32",
            },
            "fitting_net": {"neuron": [8], "precision": "float32"},
        },
        "training": {
            "training_data": {"systems": "demo/train.xyz", "batch_size": 2},
            "validation_data": {"systems": "demo/valid.xyz"},
            "numb_steps": 2,
            "seed": 1,
            "disp_freq": 1,
            "save_freq": 1,
        },
    }
    (folder / "input.yaml").write_text(yaml.safe_dump(content), encoding="utf-8")
    dpax.train(InputSettings.model_validate(content), folder / "run", base=folder)
    return folder


@pytest.mark.parametrize("page", WITH_CODE, ids=lambda page: page.name)
def test_code_runs(page, folder, monkeypatch):
    """One page's blocks in their order, in JAX's default precision, as a reader runs them."""
    monkeypatch.chdir(folder)
    names: dict = {"__name__": "__main__"}
    with jax.enable_x64(False):
        for block in blocks_of(page):
            if block.language == "python":
                # The empty lines make the numbers in a traceback those of the page.
                exec(compile("\n" * (block.line - 1) + block.text, str(page), "exec"), names)


@pytest.mark.parametrize("block", INPUTS, ids=str)
def test_inputs_are_inputs(block):
    content = json.loads(block.text) if block.language == "json" else yaml.safe_load(block.text)
    assert InputSettings.model_validate(content).model.descriptor.smooth_type_embedding


def test_readme_trains_on_the_demonstration():
    """The elements of the first training are those of the data that `make demo` makes."""
    shown = next(block for block in INPUTS if block.page.name == "README.md")
    demo = yaml.safe_load(README_INPUT.read_text(encoding="utf-8"))
    assert yaml.safe_load(shown.text)["model"]["type_map"] == demo["model"]["type_map"]
    script = (README_INPUT.parent / "alloys.py").read_text(encoding="utf-8")
    for name in ("train", "valid", "test"):
        assert f'"{name}"' in script


@pytest.mark.parametrize(("block", "line"), COMMANDS, ids=[f"{b}-{line[:30]}" for b, line in COMMANDS])
def test_commands_exist(block, line, monkeypatch):
    """Parsed as typed, options and all, but not run."""
    program, *arguments = shlex.split(line)
    if program == "dpax":
        name, *rest = arguments
        typer.main.get_command(app).commands[name].make_context(name, rest)  # pyright: ignore
    elif program == "make":
        makefile = (ROOT / "Makefile").read_text(encoding="utf-8")
        assert all(re.search(rf"^{target}:", makefile, re.M) for target in arguments)
    elif program == "python":
        script, *rest = arguments
        assert (ROOT / script).is_file()
        if script == "benchmarks/run.py":
            monkeypatch.syspath_prepend(ROOT / "benchmarks")
            from run import make_parser

            make_parser().parse_args(rest)
    else:
        assert line == "pip install ."


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_links_lead_somewhere(page):
    text = re.sub(r"^```.*?^```", "", page.read_text(encoding="utf-8"), flags=re.M | re.S)
    for target in re.findall(r"\]\(([^)]+)\)", text):
        if not target.startswith(("https://", "#")):
            assert (page.parent / target.split("#")[0]).exists(), target


@pytest.mark.parametrize(
    "arguments",
    [
        ["descriptor_in_a_network.py", "--steps", "2"],
        ["molecular_dynamics.py", "nve.xyz", "--reference", "demo/test.xyz", "--output", "nve.png"],
        ["phonons.py", "run/best.dpax", "Cu", "--supercell", "2", "--output", "phonons.png"],
    ],
    ids=lambda arguments: arguments[0],
)
def test_examples_run(arguments, folder):
    """In processes of their own: they choose JAX's devices, which can be done once."""
    name, *rest = arguments
    if name == "molecular_dynamics.py" and not (folder / "nve.xyz").exists():
        atoms = ase.io.read(folder / "demo" / "test.xyz")
        settings = MDSettings(steps=4, ensemble="nve", temperature=(300, 300), every=2, log_every=1)
        molecular_dynamics(dpax.load(folder / "run" / "best.dpax"), atoms, settings, folder / "nve.xyz")
    command = [sys.executable, ROOT / "examples" / name, *rest]
    cache = {"JAX_COMPILATION_CACHE_DIR": str(ROOT / ".pytest_cache" / "jax")}
    done = subprocess.run(
        command, cwd=folder, env=os.environ | cache, capture_output=True, text=True, timeout=600, check=False
    )
    assert done.returncode == 0, done.stderr


def test_examples_are_all_run():
    scripts = {path.name for path in (ROOT / "examples").glob("*.py")}
    assert {name for name in scripts if not name.startswith("jax_md")} == {
        "descriptor_in_a_network.py",
        "molecular_dynamics.py",
        "phonons.py",
    }, "those of JAX-MD are run by tests/interfaces/test_jax_md.py"


@pytest.mark.slow
def test_benchmark_workers_work():
    """All sides of the benchmark with tiny sizes; the times mean nothing, the agreement does."""
    command = [sys.executable, ROOT / "benchmarks" / "run.py", "--smoke"]
    done = subprocess.run(command, capture_output=True, text=True, check=True, timeout=1800, encoding="utf-8")
    for comparison in ("step", "step-v2", "forces", "forces-1536", "forces-12288", "molecules", "compressed"):
        assert f"{comparison} 1" in done.stdout
    assert "| training command to its first step, programs kept, against deepmd-jax |" in done.stdout
    apart = re.search(r"forces: deepmd-jax float64: forces (\S+) eV", done.stdout)
    assert float(apart[1]) < 1e-10
