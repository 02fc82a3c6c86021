"""`dpax show`: the contents of a model file, under DeePMD-kit's names."""

from collections.abc import Callable, Iterator, Mapping
from enum import StrEnum
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from dpax.cli.start import start_jax
from dpax.errors import InputError

if TYPE_CHECKING:
    from rich.tree import Tree

    from dpax.model.energy_model import EnergyModel


class Attribute(StrEnum):
    """What can be shown."""

    MODEL_BRANCH = "model-branch"
    TYPE_MAP = "type-map"
    DESCRIPTOR = "descriptor"
    FITTING_NET = "fitting-net"
    SIZE = "size"
    OBSERVED_TYPE = "observed-type"
    SERIALIZATION_TREE = "serialization-tree"


def show(
    model: Annotated[Path, typer.Argument(help="Model file of any kind.")],
    attributes: Annotated[list[Attribute], typer.Argument(help="What to show.")],
) -> None:
    """Show a model's branches, elements, settings, number of parameters, observed elements or structure."""
    start_jax(devices=1)
    from dpax.interfaces.model_files import read_scripts

    scripts = read_scripts(model)
    if Attribute.MODEL_BRANCH in attributes and None in scripts:
        raise InputError(f"{model}: model-branch is for multi-task models; this file holds one model")
    for attribute in Attribute:
        if attribute in attributes:
            _PRINTERS[attribute](model, scripts)


Scripts = Mapping[str | None, dict[str, Any]]


def _of(branch: str | None) -> str:
    return "" if branch is None else f" of branch {branch}"


def _print_branches(_: Path, scripts: Scripts) -> None:
    from rich.table import Table

    from dpax.cli.console import PlainConsole

    facts = list(dict.fromkeys(key for script in scripts.values() for key in script.get("info") or {}))
    table = Table("branch", "alias", *facts)
    for branch, script in scripts.items():
        info = script.get("info") or {}
        others = ", ".join(script.get("model_branch_alias") or [])
        table.add_row(branch, others, *(str(info.get(key, "")) for key in facts))
    PlainConsole().print(table)


def _print_setting(key: str, title: str, _: Path, scripts: Scripts) -> None:
    for branch, script in scripts.items():
        typer.echo(f"{title}{_of(branch)}: {script.get(key)}")


def _print_size(path: Path, scripts: Scripts) -> None:
    for branch in scripts:
        counts = _model(path, branch).parameter_counts()
        fitting = counts["fitting net"]
        descriptor = sum(counts.values()) - fitting
        sizes = {"descriptor": descriptor, "fitting-net": fitting, "total": descriptor + fitting}
        for part, size in sizes.items():
            typer.echo(f"parameters in {part}{_of(branch)}: {size:,}")


def _print_observed(path: Path, scripts: Scripts) -> None:
    for branch, script in scripts.items():
        elements = (script.get("info") or {}).get("observed_type")
        if elements is None:
            # Files without this record: as in DeePMD-kit, elements with an energy bias were in the data.
            model = _model(path, branch)
            elements = [
                name for name, bias in zip(model.type_map, model.bias, strict=True) if abs(bias) > 1e-6
            ]
        typer.echo(f"observed types{_of(branch)}: {len(elements)}: {' '.join(elements)}")


def _print_tree(path: Path, scripts: Scripts) -> None:
    from dpax.cli.console import PlainConsole
    from dpax.deepmd.model_dictionary import model_dictionary

    for branch in scripts:
        tree = serialization_tree(model_dictionary(_model(path, branch)))
        PlainConsole().print(tree, soft_wrap=True)


def _model(path: Path, branch: str | None) -> "EnergyModel":
    from dpax.interfaces.model_files import open_model

    return open_model(path, branch)[0]


_PRINTERS: dict[Attribute, Callable[[Path, Scripts], None]] = {
    Attribute.MODEL_BRANCH: _print_branches,
    Attribute.TYPE_MAP: partial(_print_setting, "type_map", "type map"),
    Attribute.DESCRIPTOR: partial(_print_setting, "descriptor", "descriptor"),
    Attribute.FITTING_NET: partial(_print_setting, "fitting_net", "fitting net"),
    Attribute.SIZE: _print_size,
    Attribute.OBSERVED_TYPE: _print_observed,
    Attribute.SERIALIZATION_TREE: _print_tree,
}


def serialization_tree(part: Any, name: str = "") -> "Tree":
    """The parts of a model's dictionary with the numbers that their arrays hold."""
    from rich.tree import Tree

    kind = " ".join(str(part[key]) for key in ("@class", "type") if isinstance(part, dict) and key in part)
    tree = Tree(f"{name}{' → ' * bool(name and kind)}{kind} ({_numbers(part):,} numbers)")
    for key, value in _parts(part):
        tree.add(serialization_tree(value, key))
    return tree


def _parts(part: Any) -> Iterator[tuple[str, Any]]:
    """What has arrays in it, arrays themselves apart."""
    items = part.items() if isinstance(part, dict) else enumerate(part)
    for key, value in items:
        if key != "@variables" and isinstance(value, (dict, list)) and _numbers(value):
            yield str(key), value


def _numbers(part: Any) -> int:
    if isinstance(part, dict):
        return sum(map(_numbers, part.values()))
    if isinstance(part, list):
        return sum(map(_numbers, part))
    return getattr(part, "size", 0)
