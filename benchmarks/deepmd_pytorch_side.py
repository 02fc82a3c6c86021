"""DeePMD-kit's PyTorch backend: the body of its training loop, and a frozen model."""

import tempfile
from pathlib import Path
from typing import Any

import torch
from case import LEARNING_RATE, LOSS, Case, Repetition
from deepmd.infer import DeepPot
from deepmd.pt.loss.ener import EnergyStdLoss
from deepmd.pt.model.model.model import BaseModel
from deepmd.pt.train.wrapper import ModelWrapper
from deepmd.pt.utils.serialization import deserialize_to_file
from deepmd_input import batch_of, model_dictionary
from water import TYPE_MAP, Water, water_box


def prepare(case: Case) -> tuple[Repetition, dict[str, Any]]:
    """The case in DeePMD-kit."""
    made = training_step if case["task"] == "step" else evaluation
    return made(model_dictionary(case["file"]), water_box(case["molecules"])), {}


def training_step(model: dict[str, Any], water: Water) -> Repetition:
    """Neighbour list, model with its loss, gradient, Adam."""
    start = LEARNING_RATE["start_lr"]
    loss_of = EnergyStdLoss(starter_learning_rate=start, **LOSS)
    wrapper = ModelWrapper(BaseModel.deserialize(model), loss_of)
    wrapper.train()
    optimizer = torch.optim.Adam(wrapper.parameters(), lr=start)
    batch = batch_of(water)
    tensors = {key: torch.as_tensor(batch[key]) for key in ("coord", "type", "box", "energy", "force")}
    inputs = {"coord": tensors["coord"].reshape(1, -1, 3), "atype": tensors["type"].long()}
    inputs["box"] = tensors["box"]
    label = {"energy": tensors["energy"], "force": tensors["force"].reshape(1, -1, 3)}
    label |= {"find_energy": 1.0, "find_force": 1.0, "natoms": len(water.types)}

    def step() -> dict[str, Any]:
        optimizer.zero_grad(set_to_none=True)
        _, loss, _ = wrapper(**inputs, cur_lr=start, label=label, task_key="Default")
        loss.backward()
        optimizer.step()
        return {"loss": float(loss.detach())}

    return step


def evaluation(model: dict[str, Any], water: Water) -> Repetition:
    """A frozen model (.pth), evaluated as DeePMD-kit's Python users do, neighbour list included."""
    script = {"type_map": list(TYPE_MAP), "descriptor": {"type": model["descriptor"]["type"]}}
    with tempfile.TemporaryDirectory() as folder:
        frozen = str(Path(folder) / "model.pth")
        deserialize_to_file(frozen, {"model": model, "model_def_script": script})
        potential = DeepPot(frozen)
    arguments = water.positions.reshape(1, -1), water.cell.reshape(1, 9), water.types

    def evaluate() -> dict[str, Any]:
        energy, forces, _ = potential.eval(*arguments)
        return {"energy": float(energy.item()), "forces": forces[0].tolist()}

    return evaluate
