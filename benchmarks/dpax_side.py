"""dpax's side: its loader and compiled step, and its `Potential`."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import jax
import numpy as np
from case import LEARNING_RATE, LOSS, STEPS, Case, Repetition
from structures import BOND, Structure, batches, places

import dpax
from dpax.data import BatchLoader, BatchOrder, CapacityPlanner, Frame
from dpax.descriptor.compression import compressed
from dpax.descriptor.initial import with_statistics
from dpax.descriptor.statistics import EnvironmentStatistics
from dpax.geometry.neighborhoods import neighbor_counts, slots_needed
from dpax.geometry.neighbors import find_edges
from dpax.infer import Potential
from dpax.interfaces.model_files import load, open_model
from dpax.interfaces.model_files import write_model as write_model_file
from dpax.model.blocks import make_mesh
from dpax.model.energy_model import EnergyModel, initial_model, spec_of
from dpax.model.settings import ModelSettings
from dpax.nn.arrays import placed
from dpax.train.learning_settings import LearningRateSettings, LossSettings, OptimizerSettings
from dpax.train.loss import prefactors, without_bias
from dpax.train.optimizer import make_optimizer
from dpax.train.schedule import make_schedule
from dpax.train.step import make_functions

# All cores, as on the command line. Compiled programs are kept only where JAX_COMPILATION_CACHE_DIR says so:
# with them the preparation looks short.
dpax.configure(cache=jax.config.jax_compilation_cache_dir or "off")


def write_model(case: Case) -> None:
    """Write the file from which all sides take their weights, unless it is there."""
    if Path(case["file"]).exists():
        return
    with jax.enable_x64(case["precision"] == "float64"):
        model = random_model(case)
        if case.get("compressed"):
            arrays = compressed(model.spec.descriptor, model.descriptor, BOND)
            model = model.with_arrays(placed(arrays, "descriptor"))
        for path in (Path(case["file"]).with_suffix(".dp"), case["file"]):
            write_model_file(path, model, {"min_nbor_dist": BOND})


def random_model(case: Case) -> EnergyModel:
    """Random weights, and the statistics of the structures."""
    parts = {"descriptor": case["descriptor"], "fitting_net": {"neuron": case["fitting"]}}
    parts = {name: {**part, "precision": case["precision"]} for name, part in parts.items()}
    settings = ModelSettings.model_validate({"type_map": case["type_map"], **parts})
    model = initial_model(spec_of(settings), seed=1)
    descriptor = model.spec.descriptor
    statistics = EnvironmentStatistics(descriptor.ntypes, descriptor.rcut, descriptor.rcut_smth)
    for batch in batches({**case, "repeats": 1}):
        for one in batch:
            edges = find_edges(one.positions, one.cell, (one.cell is not None,) * 3, descriptor.rcut)
            statistics.add(one.types, edges.i, edges.j, edges.vectors)
    found = statistics.mean_and_deviation(descriptor.nsel)
    return model.with_arrays(placed(with_statistics(descriptor, model.descriptor, *found), "descriptor"))


def prepare(case: Case) -> tuple[Repetition, dict[str, Any]]:
    """The case in dpax."""
    groups = batches(case)
    first = frame_of(groups[0][0], case)
    edges = find_edges(first.positions, first.cell, first.pbc, case["descriptor"]["rcut"])
    facts = {"slots": slots_needed(neighbor_counts(edges.i, len(first.types)).max())}
    if case["task"] == "forces":
        return evaluation(load(case["file"]), groups[0][0], case), facts
    with jax.enable_x64(case["precision"] == "float64"):
        return training_step(open_model(case["file"])[0], groups, case), facts


def frame_of(one: Structure, case: Case) -> Frame:
    """A structure as a frame."""
    return Frame(
        one.positions,
        one.types,
        one.cell,
        (one.cell is not None,) * 3,
        case["task"],
        energy=one.energy,
        forces=one.forces,
    )


class Frames:
    """A system of a few frames."""

    name, labels = "benchmark", frozenset({"energy", "forces"})

    def __init__(self, frames: list[Frame], type_map: Sequence[str]):
        self._frames, self.type_map = frames, type_map

    def __len__(self) -> int:
        return len(self._frames)

    def n_atoms(self, index: int) -> int:
        return len(self._frames[index].types)

    def frame(self, index: int) -> Frame:
        return self._frames[index]


def training_step(model: EnergyModel, groups: list[list[Structure]], case: Case) -> Repetition:
    """A step for each batch as the training loop takes it: batch from the loader, labels, gradient, Adam."""
    mesh = make_mesh()
    planner = CapacityPlanner(8 * mesh.size)
    loaders = []
    for number, group in enumerate(groups):
        systems = [Frames([frame_of(one, case) for one in group], case["type_map"])]
        order = BatchOrder(systems, [len(group)], number)
        loaders.append(BatchLoader(systems, order, model.rcut, planner, model.dtype))
    schedule, loss = make_schedule(LearningRateSettings(**LEARNING_RATE), STEPS), LossSettings(**LOSS)
    functions = make_functions(model, loss, make_optimizer(OptimizerSettings()), mesh)
    bias, state, done = np.array(model.bias), functions.init(), 0

    def step() -> dict[str, Any]:
        nonlocal state, done
        errors = None
        with jax.enable_x64(case["precision"] == "float64"):
            for loader in loaders:
                batch, _ = next(loader)
                lr = schedule(done)
                weights = prefactors(loss, lr / LEARNING_RATE["start_lr"])
                nb = batch.neighborhoods
                types, frames = np.asarray(nb.types), np.asarray(nb.frames)
                labels = without_bias(batch.labels, types, frames, bias, model.dtype)
                state, errors = functions.step(state, nb, labels, weights, lr)
                done += 1
            jax.block_until_ready(state)
            return {"loss": float(errors.loss)}

    return step


def evaluation(potential: Potential, one: Structure, case: Case) -> Repetition:
    """Energy, forces and virial of the structure, whose atoms move each time."""
    positions = places(one, case["dynamics"])

    def evaluate() -> dict[str, Any]:
        result = potential.evaluate(frame_of(one._replace(positions=next(positions)), case))
        return {"energy": result.energy, "forces": result.forces[:192].tolist()}

    return evaluate
