"""What every file of DeePMD-kit's tells: how a model was made, its dictionary, and where it comes from."""

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

from dpax.contents import real
from dpax.errors import InputError, shortened
from dpax.model.energy_model import EnergyModel


@dataclass(frozen=True)
class Source:
    """An opened file."""

    script: dict[str, Any]
    """`model_def_script`: the section `model` of the input file."""
    model: Callable[[str | None], EnergyModel]
    """The model: of a branch by its name, or the only one for None."""
    distance: float | None = None
    """The smallest distance between two atoms in the data, Å, where it is known."""
    facts: dict[str, Any] = field(default_factory=dict)
    """The writer: `software`, `version`, `backend`, `time`."""

    def __post_init__(self) -> None:
        for section in (self.script, self.branches, *self.branches.values()):
            if not isinstance(section, dict) or not isinstance(section.get("info") or {}, dict):
                raise InputError(
                    f"model_def_script: expected a section of an input, got {shortened(section)}"
                )
        for name, script in self.branches.items():
            if not all(isinstance(alias, str) for alias in aliases(name, script)):
                raise InputError(f"model_def_script: {shortened(aliases(name, script))} are not branch names")
        if self.distance is not None:
            real({"min_nbor_dist": self.distance}, "min_nbor_dist")

    @property
    def branches(self) -> dict[str, dict[str, Any]]:
        """The scripts of the branches of a multi-task model by their names; empty for a single model."""
        return self.script.get("model_dict") or {}

    def branch(self, wanted: str | None) -> str | None:
        """The name of the branch that is meant: a name or an alias, in upper or lower case.

        Raises:
            InputError: there is no such branch, none is given where there are several, or one is given where
                there are none.
        """
        if not self.branches:
            if wanted is not None:
                raise InputError(f"the file holds one model, not several; leave out the branch {wanted!r}")
            return None
        names = {alias: name for name, script in self.branches.items() for alias in aliases(name, script)}
        wanted = "Default" if wanted is None and "Default" in names else wanted
        folded = {alias.lower(): name for alias, name in reversed(names.items())}
        known = ", ".join(_described(name, script) for name, script in self.branches.items())
        if wanted is None:
            raise InputError(f"the file holds several models; choose a branch with --branch: {known}")
        if wanted not in names and wanted.lower() not in folded:
            raise InputError(f"the file has no branch {wanted!r}; it has {known}")
        return names.get(wanted) or folded[wanted.lower()]


def aliases(name: str, script: dict[str, Any]) -> list[str]:
    """All names of a branch, its own first."""
    return [name, *(script.get("model_branch_alias") or [])]


def _described(name: str, script: dict[str, Any]) -> str:
    others = aliases(name, script)[1:]
    return f"{name} (also {', '.join(others)})" if others else name
