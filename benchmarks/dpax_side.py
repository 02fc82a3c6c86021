"""dpax's side: its loader and compiled step, and its `Potential`."""

from typing import Any

import jax
import numpy as np
from case import LEARNING_RATE, LOSS, STEPS, Case, Repetition, cores
from water import TYPE_MAP, Water, water_box

jax.config.update("jax_num_cpu_devices", cores())  # as the command line does

from dpax.data import BatchLoader, BatchOrder, CapacityPlanner, Frame  # noqa: E402
from dpax.geometry.neighbors import find_edges, neighbor_counts, slots_needed  # noqa: E402
from dpax.infer import Potential  # noqa: E402
from dpax.model.derivatives import make_mesh  # noqa: E402
from dpax.model.file import save_model  # noqa: E402
from dpax.model.potential import EnergyModel  # noqa: E402
from dpax.model.settings import ModelSettings  # noqa: E402
from dpax.train.loss import prefactors, without_bias  # noqa: E402
from dpax.train.schedule import make_schedule  # noqa: E402
from dpax.train.settings import LearningRateSettings, LossSettings, OptimizerSettings  # noqa: E402
from dpax.train.step import make_functions  # noqa: E402


def prepare(case: Case) -> tuple[Repetition, dict[str, Any]]:
    """The case in dpax; writes the model file that the other sides read."""
    water = water_box(case["molecules"])
    edges = find_edges(water.positions, water.cell, (True,) * 3, case["descriptor"]["rcut"])
    facts = {"slots": slots_needed(neighbor_counts(edges.i, len(water.types)))}
    with jax.enable_x64(case["precision"] == "float64"):
        model = random_model(case, water)
        save_model(case["file"], model, {})
        if case["task"] == "step":
            return training_step(model, water, case["precision"]), facts
    return evaluation(model, water), facts


def random_model(case: Case, water: Water) -> EnergyModel:
    """Random weights, and the statistics of the water."""
    parts = {"descriptor": case["descriptor"], "fitting_net": {"neuron": case["fitting"]}}
    parts = {name: {**part, "precision": case["precision"]} for name, part in parts.items()}
    settings = ModelSettings.model_validate({"type_map": TYPE_MAP, **parts})
    model = EnergyModel.from_settings(settings, seed=1)
    sample = {"coord": water.positions[None], "atype": water.types[None], "box": water.cell[None]}
    model.descriptor.compute_input_stats([sample])
    return model


def frame_of(water: Water) -> Frame:
    """The water as a frame."""
    return Frame(
        water.positions,
        water.types,
        water.cell,
        (True, True, True),
        "water",
        energy=water.energy,
        forces=water.forces,
    )


class OneFrame:
    """A system of one frame."""

    name, type_map, labels = "water", TYPE_MAP, frozenset({"energy", "forces"})

    def __init__(self, frame: Frame):
        self._frame = frame

    def __len__(self) -> int:
        return 1

    def n_atoms(self, index: int) -> int:
        return len(self.frame(index).types)

    def frame(self, index: int) -> Frame:
        del index
        return self._frame


def training_step(model: EnergyModel, water: Water, precision: str) -> Repetition:
    """A step as the training loop takes it: batch from the loader, labels, gradient, Adam, errors."""
    mesh = make_mesh()
    systems = [OneFrame(frame_of(water))]
    order, planner = BatchOrder(systems, [1], 0), CapacityPlanner(8 * mesh.size)
    loader = BatchLoader(systems, order, model.rcut, planner, model.dtype)
    functions = make_functions(model, OptimizerSettings(), mesh)
    schedule = make_schedule(LearningRateSettings(**LEARNING_RATE), STEPS)
    loss = LossSettings(**LOSS)
    bias, state, done = np.array(model.bias), functions.init(), 0

    def step() -> dict[str, Any]:
        nonlocal state, done
        with jax.enable_x64(precision == "float64"):
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


def evaluation(model: EnergyModel, water: Water) -> Repetition:
    """Energy, forces and virial of the frame, neighbour search included."""
    potential, frame = Potential(model), frame_of(water)

    def evaluate() -> dict[str, Any]:
        result = potential.evaluate(frame)
        return {"energy": result.energy, "forces": result.forces.tolist()}

    return evaluate
