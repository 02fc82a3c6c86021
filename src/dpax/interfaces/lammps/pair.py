"""What the commands `pair_style dpax` and `pair_coeff` mean, and what the pair style then computes."""

import os
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from functools import lru_cache
from pathlib import Path

import jax
import numpy as np

from dpax.errors import InputError
from dpax.geometry.neighborhoods import Surroundings
from dpax.infer import Evaluation, SubdomainPotential, model_deviation
from dpax.interfaces.model_files import load
from dpax.machine import DEVICES, configure

_UNSUPPORTED = {
    "fparam_from_compute": "give constant numbers with fparam",
    "fparam_from_fix": "give constant numbers with fparam",
    "aparam_from_compute": "give constant numbers with aparam",
    "ttm": "give constant numbers with aparam",
}
"""Keywords of DeePMD-kit's pair style that would change results."""
_TITLES = [f"{extent}_devi_{quantity}" for quantity in "vf" for extent in ("max", "min", "avg")]


@dataclass
class PairSettings:
    """What stands after `pair_style dpax`, in the words of DeePMD-kit's pair style."""

    models: list[str] = field(default_factory=list)
    """Model files; the first one moves the atoms, all are compared."""
    out_freq: int = 100
    """Steps from one line of the deviation to the next; 0: none."""
    out_file: str = "model_devi.out"
    atomic: bool = False
    """Whether the deviation of each atom's force is written."""
    relative: float | None = None
    """Level, eV/Å."""
    relative_v: float | None = None
    """Level, eV."""
    fparam: list[float] = field(default_factory=list)
    aparam: list[float] = field(default_factory=list)
    """Of every atom."""
    branch: str | None = None
    """Of a multi-task model of DeePMD-kit."""


def parse_settings(words: Sequence[str]) -> PairSettings:
    """Read what stands after `pair_style dpax`.

    Raises:
        InputError: an unknown keyword, or a value that it cannot have.
    """
    settings = PairSettings()
    rest = list(words)
    while rest and rest[0] not in _KEYWORDS and rest[0] not in _UNSUPPORTED:
        settings.models.append(rest.pop(0))
    while rest:
        keyword = rest.pop(0)
        if keyword in _UNSUPPORTED:
            raise InputError(f"{keyword} is not supported; {_UNSUPPORTED[keyword]}")
        if keyword not in _KEYWORDS:
            raise InputError(f"unknown keyword {keyword!r}; known are {', '.join(_KEYWORDS)}")
        setattr(settings, keyword, _KEYWORDS[keyword](keyword, rest))
    return settings


def _word(keyword: str, rest: list[str]) -> str:
    if not rest:
        raise InputError(f"{keyword} needs a value")
    return rest.pop(0)


def _steps(keyword: str, rest: list[str]) -> int:
    word = _word(keyword, rest)
    if not word.isdecimal():
        raise InputError(f"{keyword} should be a whole number of steps, got {word!r}")
    return int(word)


def _level(keyword: str, rest: list[str]) -> float:
    word = _word(keyword, rest)
    number = _number(word)
    if number is None or number < 0:
        raise InputError(f"{keyword} should be a number that is not negative, got {word!r}")
    return number


def _numbers(keyword: str, rest: list[str]) -> list[float]:
    numbers = []
    while rest and (number := _number(rest[0])) is not None:
        numbers.append(number)
        rest.pop(0)
    if not numbers:
        raise InputError(f"{keyword} needs one or more numbers")
    return numbers


def _number(word: str) -> float | None:
    try:
        return float(word)
    except ValueError:
        return None


_KEYWORDS: dict[str, Callable[[str, list[str]], object]] = {
    "out_freq": _steps,
    "out_file": _word,
    "atomic": lambda *_: True,
    "relative": _level,
    "relative_v": _level,
    "fparam": _numbers,
    "aparam": _numbers,
    "branch": _word,
}


class PairStyle:
    """A pair style of one rank of LAMMPS.

    Args:
        words: what stands after `pair_style dpax`.
        devices: cores of this rank, each of which becomes a JAX device; 0 in a Python process, which has
            called `dpax.configure` itself or not.
        place: the number of this rank among those of its node, which chooses its GPU.

    Raises:
        InputError: an unknown keyword, or a value that it cannot have.
    """

    def __init__(self, words: Sequence[str], devices: int, place: int):
        self.settings = parse_settings(words)
        self._models: list[SubdomainPotential] = []
        self._place = place
        self._step: int | None = None
        if devices:
            _start_jax(devices)

    @property
    def n_models(self) -> int:
        """The number of models."""
        return len(self._models)

    @property
    def cutoff(self) -> float:
        """Å."""
        return self._models[0].potential.rcut

    def elements(self, words: Sequence[str], n_types: int) -> np.ndarray:
        """Read what stands after `pair_coeff * *`, and load the models.

        Args:
            words: the model's file unless `pair_style` has named it, then an element, or NULL, for each type
                of atoms; without elements they are the model's, in its order.
            n_types: the number of types of atoms.

        Returns:
            For each type the index in the models' `type_map`, -1 for NULL.

        Raises:
            InputError: no model file, models that do not belong together, an unknown element, or another
                number of elements than of types.
        """
        paths, elements = self.settings.models, list(words)
        if not paths:
            if not elements:
                raise InputError("no model: pair_coeff * * MODEL ELEMENT ..., or name it in pair_style")
            paths = [elements.pop(0)]
        self._models = [self._load(path) for path in paths]
        _refuse_unlike(paths, self._models)
        type_map = self._models[0].potential.type_map
        elements = elements or list(type_map[:n_types])
        if len(elements) != n_types:
            raise InputError(
                f"there are {n_types} types of atoms and {len(elements)} elements ({' '.join(elements)}); "
                "give pair_coeff an element, or NULL, for each type"
            )
        unknown = [element for element in elements if element != "NULL" and element not in type_map]
        if unknown:
            raise InputError(f"{paths[0]} knows {' '.join(type_map)}, not {' '.join(unknown)}")
        return np.array([-1 if element == "NULL" else type_map.index(element) for element in elements])

    def _load(self, path: str) -> SubdomainPotential:
        wanted = self.settings
        try:
            changed = Path(path).stat().st_mtime_ns
            settings = (wanted.branch, tuple(wanted.fparam), tuple(wanted.aparam))
            return _loaded(path, changed, self._place, *settings)
        except OSError as error:
            raise InputError(f"{path}: {error.strerror}") from None
        except InputError as error:
            reason = str(error)
            raise InputError(reason if reason.startswith(path) else f"{path}: {reason}") from None

    def evaluate(self, model: int, around: Surroundings) -> tuple[np.ndarray, np.ndarray]:
        """Energies of atoms and derivatives of pairs, see `SubdomainPotential`."""
        energies, gradients = self._models[model].evaluate(around)
        if not (np.isfinite(energies).all() and np.isfinite(gradients).all()):
            raise InputError("the model gives energies or forces that are NaN or infinite")
        return energies, gradients

    def write_deviation(
        self, step: int, tags: np.ndarray, forces: np.ndarray, virials: np.ndarray, energies: np.ndarray
    ) -> None:
        """Write a line of the deviation of the models.

        Args:
            step: of the simulation.
            tags: [atoms], LAMMPS' ids, in whose order atoms are written.
            forces: [atoms, models, 3], eV/Å.
            virials: [models, 3, 3], eV.
            energies: [models], eV.
        """
        order = np.argsort(tags)
        by_model = [
            Evaluation(float(energy), np.empty(0), forces[order, number], virial, None)
            for number, (energy, virial) in enumerate(zip(energies, virials, strict=True))
        ]
        settings = self.settings
        deviation = model_deviation(by_model, relative=settings.relative, relative_v=settings.relative_v)
        numbers = [*deviation.virial, *deviation.force, *(deviation.forces if settings.atomic else ())]
        with open(settings.out_file, "w" if self._step is None else "a", encoding="utf-8") as file:
            if self._step is None:
                titles = [*_TITLES, *(["atm_devi_f(N)"] * settings.atomic)]
                file.write(f"#{'step':>11}{''.join(f'{title:>19}' for title in titles)}\n")
            file.write(f"{step:12d}{''.join(f'{number:19.6e}' for number in numbers)}\n")
        self._step = step


@lru_cache
def _start_jax(devices: int) -> None:
    """As many CPU devices as cores are this rank's own, and all GPUs to choose one from."""
    # Ranks share GPUs, and the threads of the CPU's devices are not to outnumber the rank's cores.
    os.environ.setdefault("XLA_PYTHON_CLIENT_PREALLOCATE", "false")
    os.environ.setdefault("NPROC", str(devices))
    configure(None if os.environ.get(DEVICES) else devices)
    jax.config.update("jax_cuda_visible_devices", "all")


@lru_cache
def _loaded(
    path: str,
    _changed: int,
    place: int,
    branch: str | None,
    fparam: tuple[float, ...],
    aparam: tuple[float, ...],
) -> SubdomainPotential:
    """A model with its compiled programs; LAMMPS makes a new pair style after each `clear`."""
    devices = jax.local_devices()
    own = None if devices[0].platform == "cpu" else [devices[place % len(devices)]]
    return SubdomainPotential(load(path, devices=own, branch=branch), fparam, aparam)


def _refuse_unlike(paths: Sequence[str], models: Sequence[SubdomainPotential]) -> None:
    """Models to be compared see the same pairs of the same types."""
    first = models[0].potential
    for path, model in zip(paths, models, strict=True):
        if model.potential.type_map != first.type_map or model.potential.rcut != first.rcut:
            one, other = (f"{' '.join(p.type_map)} and {p.rcut} Å" for p in (model.potential, first))
            raise InputError(
                f"{path} has other elements or another cutoff ({one}) than {paths[0]} ({other}); models to "
                "be compared need the same"
            )
