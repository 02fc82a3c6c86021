"""What is disturbed: trainings and simulations of a few seconds, whose files are compared to the last bit."""

import json
import random
import re
import shutil
from abc import ABC, abstractmethod
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from fnmatch import fnmatch
from pathlib import Path
from types import MappingProxyType
from typing import Any

from safetensors import safe_open

from dpax.train.checkpoints import Checkpoints
from faults.commands import Ended, Fault, Process, run
from train.support import content

NOTHING_YET = re.compile(r"no run here|there is no checkpoint to go on from")
"""What `--restart` says where nothing was begun: the command is then given without it."""


@dataclass
class Whole:
    """What an undisturbed job was like."""

    job: "Job"
    until_first_sign: float
    """Seconds."""
    from_first_sign: float
    """Seconds, to the end."""
    calls: dict[str, int] = field(default_factory=dict)
    """Calls that change files, by the kind of file."""


class Job(ABC):
    """A command that writes files and can be continued.

    Args:
        inputs: the folder that it reads from.
        folder: where it writes; the "disk" that faults concern.
    """

    kinds: Mapping[str, str]
    """What is written, and the patterns of its files below the folder."""

    def __init__(self, inputs: Path, folder: Path):
        self.inputs, self.folder = inputs, folder
        folder.mkdir(parents=True, exist_ok=True)

    @abstractmethod
    def words(self) -> list[object]:
        """The command, without `--restart`."""

    @property
    @abstractmethod
    def log(self) -> Path:
        """The file that grows with every step."""

    @abstractmethod
    def clear(self) -> None:
        """Remove what it has written."""

    @abstractmethod
    def differences(self, other: "Job") -> list[str]:
        """The names of what is not the same in the files of two jobs, to the last bit."""

    def start(self, *options: str, **faults: Any) -> Process:
        """Start it, with options such as `--restart`."""
        return Process([*self.words(), *options], self.folder, disk=self.folder, **faults)

    def lines(self) -> int:
        """How many steps have been logged."""
        text = self.log.read_text(encoding="utf-8") if self.log.is_file() else ""
        return sum(not line.startswith("#") for line in text.splitlines())

    def has_lines(self) -> bool:
        """Whether steps have been logged."""
        return self.lines() > 0

    def stamp(self) -> int:
        """A number that changes when the log is written."""
        return self.log.stat().st_mtime_ns if self.log.is_file() else 0

    def continued(self, **faults: Any) -> Ended:
        """Go on where `--restart` finds something, and otherwise begin, as a user would."""
        ended = self.start("--restart", **faults).end()
        if ended.code == 2 and NOTHING_YET.search(ended.err):
            ended = self.start(**faults).end()
        return ended

    def whole(self) -> Whole:
        """Run it undisturbed, twice: the second time, with all programs compiled, it is looked at."""
        first = run([*self.words(), "--overwrite"], self.folder)
        assert first.code == 0, first.words
        self.clear()
        notes = self.folder.with_name(f"{self.folder.name}.notes")
        process = self.start(notes=notes)
        process.wait_for(self.has_lines)
        first_sign = process.seconds
        ended = process.end()
        assert ended.code == 0, ended.words
        paths = [line.split(" ", 1)[1] for line in notes.read_text().splitlines()]
        calls = {kind: sum(self._is(kind, path) for path in paths) for kind in self.kinds}
        assert all(calls.values()), calls
        return Whole(self, first_sign, ended.seconds - first_sign, calls)

    def _is(self, kind: str, path: str) -> bool:
        return any(fnmatch(path, f"{self.folder}/{pattern}") for pattern in self.kinds[kind].split(":"))

    def finish(self, whole: Whole) -> None:
        """Go on to the end, and see that nothing tells the job from the undisturbed one."""
        ended = self.continued()
        assert ended.code == 0, ended.words
        self.check(whole)

    def check(self, whole: Whole) -> None:
        """See that nothing tells the finished job from the undisturbed one."""
        differences = self.differences(whole.job)
        assert not differences, f"differs from an undisturbed one in {', '.join(differences)}"


VARIANTS: dict[str, dict[str, Any]] = {
    "plain": {"training.stat_file": "shared-statistics.json", "dpax.valid_freq": 5},
    "averaged": {
        "training.enable_ema": True,
        "training.disp_avg": True,
        "validating.full_validation": True,
        "validating.validation_freq": 5,
        "validating.full_val_start": 0.2,
        "validating.max_best_ckpt": 3,
    },
}
"""Kinds of trainings by name: changes of the input."""
COMMON = {
    "model.descriptor.attn_layer": 0,
    "training.validation_data": {"systems": "valid", "batch_size": 2},
    "training.numb_steps": 36,
    "training.save_freq": 6,
    "training.disp_freq": 1,
    "training.max_ckpt_keep": 3,
}


class Training(Job):
    """A training of 36 steps.

    Args:
        inputs: a folder with the systems of `train.support`.
        folder: gets the run, in `run`.
        variant: one of `VARIANTS`.
        data: where the systems are, from `folder`; in `inputs` by default.
        suffix: of the systems, in another format.
    """

    kinds: Mapping[str, str] = MappingProxyType(
        {
            "settings": "run/*input*",
            "statistics": "run/*statistics*",
            "shared statistics": "*shared-statistics*",
            "learning curve": "run/*lcurve*",
            "log": "run/*log.jsonl",
            "validation errors": "run/*val*.log",
            "checkpoint": "run/checkpoints*",
            "best model": "run/*best*.dpax",
            "final model": "run/*model*.dpax",
        }
    )

    def __init__(self, inputs: Path, folder: Path, variant: str = "plain", data: str = "", suffix: str = ""):
        super().__init__(inputs, folder)
        self.variant = variant
        self.input = folder / "input.json"
        if variant != "plain":
            self.kinds = {kind: files for kind, files in self.kinds.items() if kind != "shared statistics"}
        made = json.loads(json.dumps(content(COMMON | VARIANTS[variant])))
        systems = made["training"]["training_data"]
        systems["systems"] = [f"{data or inputs}/{name}{suffix}" for name in systems["systems"]]
        valid = made["training"]["validation_data"]
        valid["systems"] = f"{data or inputs}/{valid['systems']}{suffix}"
        self.input.write_text(json.dumps(made), encoding="utf-8")

    @property
    def run(self) -> Path:
        """The folder of the run."""
        return self.folder / "run"

    @property
    def log(self) -> Path:
        """The learning curve."""
        return self.run / "lcurve.out"

    def words(self) -> list[object]:
        """The command, without `--restart`."""
        return ["train", self.input, "-o", self.run]

    def clear(self) -> None:
        """Remove what it has written."""
        shutil.rmtree(self.run)
        (self.folder / "shared-statistics.json").unlink(missing_ok=True)

    def differences(self, other: Job) -> list[str]:
        """The names of what is not the same in the folders of two runs, to the last bit."""
        assert isinstance(other, Training)
        elsewhere = self.inputs != other.inputs
        one, two = dict(self._contents(elsewhere)), dict(other._contents(elsewhere))
        return [name for name in dict.fromkeys([*one, *two]) if one.get(name) != two.get(name)]

    def _contents(self, elsewhere: bool) -> Iterator[tuple[str, Any]]:
        for path in sorted(self.run.iterdir()):
            if path.name == "data.json":  # the times of files
                yield path.name, True
            elif path.name == "log.jsonl":
                yield path.name, [_without_speed(line) for line in path.read_text().splitlines()]
            elif path.suffix == ".dpax":
                yield path.name, without_time(path)
            elif path.name == "statistics.json" and elsewhere:
                content = json.loads(path.read_text(encoding="utf-8"))
                # They know the place of the data, and these copies of the data lie elsewhere.
                yield path.name, {k: v for k, v in content.items() if k not in ("fingerprint", "digest")}
            elif path.is_file():
                yield path.name, path.read_bytes()
        with Checkpoints(self.run / "checkpoints", read_only=True) as checkpoints:
            yield "checkpoints", sorted(path.name for path in (self.run / "checkpoints").iterdir())
            for step in checkpoints.steps():
                checkpoint = checkpoints.restore(step)
                arrays = {name: (a.dtype, a.shape, a.tobytes()) for name, a in checkpoint.arrays.items()}
                yield f"checkpoint {step}", (arrays, checkpoint.meta)


def without_time(path: Path) -> dict[str, Any]:
    """What a model file holds but for the time when it was written, and the digest that knows of it."""
    with safe_open(path, framework="numpy") as file:
        metadata = dict(file.metadata())
        arrays = {name: (a.dtype, a.tobytes()) for name in file.keys() for a in [file.get_tensor(name)]}  # noqa: SIM118
    metadata.pop("digest", None)
    provenance = json.loads(metadata.pop("provenance"))
    return {**metadata, **provenance, "written": None, "arrays": arrays}


def _without_speed(line: str) -> dict[str, Any]:
    return {key: value for key, value in json.loads(line).items() if key != "steps_per_second"}


ENSEMBLES = {"nvt": ["-e", "nvt", "-t", "300"], "npt": ["-e", "npt", "-t", "300", "-p", "1000"]}


class Simulation(Job):
    """A simulation of 60 steps.

    Args:
        inputs: a folder with `metal.dpax` and `start.xyz`.
        folder: gets the files.
        ensemble: one of `ENSEMBLES`.
        suffix: of the trajectory.
    """

    kinds: Mapping[str, str] = MappingProxyType(
        {"trajectory": "*a.*xyz*:*a.*traj*", "log": "*a.*log", "checkpoint": "*a.*checkpoint*"}
    )

    def __init__(self, inputs: Path, folder: Path, ensemble: str = "nvt", suffix: str = ".xyz"):
        super().__init__(inputs, folder)
        self.ensemble, self.suffix = ensemble, suffix

    @property
    def trajectory(self) -> Path:
        """The trajectory."""
        return self.folder / f"a{self.suffix}"

    @property
    def log(self) -> Path:
        """The log beside it."""
        return self.folder / "a.log"

    def words(self) -> list[object]:
        """The command, without `--restart`."""
        options = "-n 60 --time-step 2 --every 3 --log-every 1 --checkpoint-every 10"
        files = [self.inputs / "metal.dpax", self.inputs / "start.xyz", "-o", self.trajectory]
        return ["md", *files, *options.split(), *ENSEMBLES[self.ensemble]]

    def clear(self) -> None:
        """Remove what it has written."""
        shutil.rmtree(self.folder)
        self.folder.mkdir()

    def differences(self, other: Job) -> list[str]:
        """The names of the files that are not the same, to the last bit."""
        one, two = ({path.name: path.read_bytes() for path in job.folder.iterdir()} for job in (self, other))
        return [name for name in dict.fromkeys([*one, *two]) if one.get(name) != two.get(name)]


@dataclass(frozen=True)
class Death:
    """How a job is to be killed.

    Args:
        moment: the part of the time that it takes, from 0 to 1; None for a chosen call.
        started: whether the time counts from the first sign of it, not from the start of the process.
        fault: the chosen call.
    """

    moment: float | None = None
    started: bool = True
    fault: Fault | None = None

    def __str__(self) -> str:
        if self.fault is not None:
            return f"{self.fault.action} at call {self.fault.at} of {self.fault.target}"
        return f"kill at {self.moment:.3f} of {'the steps' if self.started else 'the start'}"


def deaths(whole: Whole, chance: random.Random, count: int, first: int) -> Iterator[Death]:
    """Ways to die: at any moment and at chosen calls, by turns.

    Args:
        whole: what the job is like.
        chance: draws moments and calls.
        count: how many.
        first: of a running number, by which every kind of file has its turn.
    """
    kinds = list(whole.job.kinds)
    for number in range(first, first + count):
        if number % 2:
            kind = kinds[number // 2 % len(kinds)]
            # Rather at the beginning: a job that goes on has fewer calls to come.
            at = 1 + int(chance.random() ** 2 * whole.calls[kind])
            action = chance.choice(("kill", "tear"))
            yield Death(fault=Fault(action, whole.job.kinds[kind], at))
        else:
            yield Death(chance.random(), started=chance.random() < 0.8)


def die(job: Job, whole: Whole, death: Death, *options: str) -> Ended:
    """Start a job, or go on with it, and kill it."""
    before = job.stamp()
    process = job.start(*options, fault=death.fault)
    if death.moment is not None:
        seconds = whole.until_first_sign
        if death.started:
            process.wait_for(lambda: job.stamp() not in (before, 0))
            seconds = whole.from_first_sign
        begin = process.seconds if death.started else 0.0
        process.wait_for(lambda: process.seconds - begin >= death.moment * seconds)
        process.send(9)
    return process.end()
