"""The rooms of the package import downwards only, and the front door opens at once."""

import ast
import subprocess
import sys
from pathlib import Path

import pytest

PACKAGE = Path(__file__).parents[1] / "src" / "dpax"
LEAVES = {
    *("errors", "computing", "contents", "faults", "files", "interrupt", "lock", "machine", "version"),
    *("input_file", "settings", "geometry"),
}
# What each room may import besides itself, the leaves and the package's own version.
BELOW = {
    "errors": set(),
    "computing": {"errors"},
    "faults": {"errors"},
    "files": {"errors", "faults"},
    "machine": {"errors"},
    "contents": {"errors"},
    "interrupt": set(),
    "version": set(),
    "lock": {"errors", "files"},
    "input_file": {"errors"},
    "settings": {"errors"},
    "geometry": {"errors"},
    "nn": set(),
    "descriptor": {"nn"},
    "model": {"nn", "descriptor"},
    "deepmd": {"nn", "descriptor", "model"},
    "data": set(),
    "train": {"nn", "descriptor", "model", "data"},
    "infer": {"nn", "descriptor", "model", "data"},
    "interfaces": {"nn", "descriptor", "model", "deepmd", "data", "infer"},
    "simulate": {"model", "data", "infer", "interfaces"},
    "report": {"nn", "descriptor", "model", "data", "train", "infer", "interfaces"},
    "cli": {"model", "deepmd", "data", "train", "infer", "interfaces", "simulate", "report"},
}
OPENS_FILES = {"train/settings.py": {"deepmd"}}
"""Files that open input files, and what else they may import for that."""
FILES = sorted(path for path in PACKAGE.rglob("*.py") if path.parent != PACKAGE or path.stem in BELOW)


def room(path: Path) -> str:
    return path.relative_to(PACKAGE).parts[0].removesuffix(".py")


def imported_rooms(path: Path) -> set[tuple[int, str]]:
    """Line and room of every import of dpax in a file, those inside functions included."""
    found = set()
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Import):
            names = [alias.name for alias in node.names]
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{path}:{node.lineno}: relative import"
            names = [f"{node.module}.{alias.name}" for alias in node.names]
        else:
            continue
        for name in names:
            parts = name.split(".")
            if parts[0] == "dpax" and len(parts) > 1 and not parts[1].startswith("__"):
                found.add((node.lineno, parts[1]))
    return found


@pytest.mark.parametrize("path", FILES, ids=lambda path: path.relative_to(PACKAGE).as_posix())
def test_imports_point_downwards(path):
    here = room(path)
    assert here in BELOW, f"{here} is no known room: say in this test what it may import"
    opening = OPENS_FILES.get(path.relative_to(PACKAGE).as_posix(), set())
    allowed = BELOW[here] | {here} | opening | (LEAVES if here not in LEAVES else set())
    wrong = [f"line {line}: dpax.{there}" for line, there in imported_rooms(path) if there not in allowed]
    assert not wrong, f"{here} must not import: {'; '.join(wrong)}"


def test_the_picture_itself_has_no_cycle():
    for here, below in BELOW.items():
        for there in below:
            assert here not in BELOW[there], f"{here} and {there} may import each other"


def modules_after(statement: str) -> set[str]:
    code = f"{statement}\nimport sys\nprint(*sys.modules)"
    run = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True, timeout=60)
    return set(run.stdout.split())


@pytest.mark.parametrize("statement", ["import dpax", "import dpax.cli", "from dpax.cli.app import app"])
def test_the_front_door_loads_nothing_heavy(statement):
    loaded = modules_after(statement)
    assert not loaded & {"jax", "flax", "optax", "torch", "ase", "matplotlib", "numpy", "pydantic"}
