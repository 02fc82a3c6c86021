"""Trained models on the command line: from any file or run, and as starting points of `dpax train`."""

from collections.abc import Mapping
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

from dpax.cli.failures import say
from dpax.computing import computing
from dpax.errors import InputError

if TYPE_CHECKING:
    from dpax.model.energy_model import EnergyModel
    from dpax.train.run import RunFolder


def read_trained_model(path: Path, branch: str | None = None) -> "tuple[EnergyModel, dict[str, Any]]":
    """The model of a file in any format, or of the last checkpoint of a run, and where it comes from.

    JAX must have been started.

    Args:
        path: a model file, or the folder of a run.
        branch: of a multi-task model; RANDOM takes any.

    Raises:
        InputError: no such model, or no such branch.
    """
    from dpax.deepmd import model_files as deepmd
    from dpax.interfaces.model_files import open_model
    from dpax.model.settings import RANDOM
    from dpax.train.run import RunFolder

    run = RunFolder(path)
    if run.input.is_file():
        return _last_of_run(run, branch)
    if branch == RANDOM:
        branch = next(iter(deepmd.open_source(path).branches), None) if deepmd.is_foreign(path) else None
    return open_model(path, branch)


def _last_of_run(run: "RunFolder", branch: str | None) -> "tuple[EnergyModel, dict[str, Any]]":
    from dpax.model.settings import RANDOM
    from dpax.train.model_of_run import model_of_run

    if branch not in (None, RANDOM):
        raise InputError(f"{run.path}: a run has one model; leave out the branch {branch!r}")
    with computing(True):  # whatever the precision of what follows, a float64 model is read as one
        return model_of_run(run, warn=partial(say, "warning"))


@dataclass
class Start:
    """What a training run starts from, if not from random weights, and how that changes the input file."""

    how: str
    """init-model or finetune."""
    path: Path
    branch: str | None = None
    use_pretrain_script: bool = False
    model: "EnergyModel | None" = None
    """Read when the input file is, which may name the branch."""

    def change(self, content: Mapping[str, Any]) -> dict[str, Any]:
        """The content of an input file with what the options say; reads the model."""
        from dpax.model.settings import RANDOM
        from dpax.train.origin import architecture, with_architecture

        section = dict(content.get("model") or {})
        tuning = self.how == "finetune"
        branch = self.branch or (section.get("finetune_head") if tuning else None)
        if branch == RANDOM and not tuning:
            raise InputError("--model-branch RANDOM makes a new fitting net, which only --finetune does")
        self.model, _ = read_trained_model(self.path, branch)
        record = {"how": self.how, "model": str(self.path.absolute()), "branch": self.branch}
        changed = {
            **content,
            "model": {**section, "finetune_head": branch} if tuning and branch else section,
            "dpax": {
                **(content.get("dpax") or {}),
                "started_from": {**record, "use_pretrain_script": self.use_pretrain_script},
            },
        }
        if not self.use_pretrain_script:
            return changed
        sections = architecture(self.model, section.get("type_map") or ())
        if branch == RANDOM:
            del sections["fitting_net"]
        return with_architecture(changed, sections)


def recorded_start(content: Mapping[str, Any]) -> Start | None:
    """What the run of an input file started from, if it records that, as the `input.json` of a run does."""
    from dpax.train.settings import StartedFromSettings

    section = content.get("dpax")
    record = section.get("started_from") if isinstance(section, dict) else None
    if not (isinstance(record, dict) and record.get("model")):
        return None
    known = StartedFromSettings.model_validate(record)
    return Start(known.how, Path(known.model), known.branch, known.use_pretrain_script)


def continued(run: Path, content: dict[str, Any]) -> dict[str, Any]:
    """The content of an input file for a restart: with the architecture that the run took over, if it did."""
    from dpax.train.origin import with_architecture
    from dpax.train.run import RunFolder

    before = RunFolder(run).read_settings()
    origin = before.dpax.started_from
    if origin is None or not origin.use_pretrain_script:
        return content
    sections = before.model.resolved()
    return with_architecture(content, {name: sections[name] for name in ("descriptor", "fitting_net")})
