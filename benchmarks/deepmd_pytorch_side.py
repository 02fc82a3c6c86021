"""DeePMD-kit's PyTorch backend: the body of its training loop, and a frozen model."""

import tempfile
from pathlib import Path
from typing import Any

import torch
from case import LEARNING_RATE, LOSS, Case, Repetition, UnavailableError
from deepmd.infer import DeepPot
from deepmd.pt.cxx_op import ENABLE_CUSTOMIZED_OP
from deepmd.pt.entrypoints.compress import enable_compression
from deepmd.pt.loss.ener import EnergyStdLoss
from deepmd.pt.model.model.model import BaseModel
from deepmd.pt.train.wrapper import ModelWrapper
from deepmd.pt.utils.env import DEVICE
from deepmd.pt.utils.serialization import deserialize_to_file
from deepmd_input import batch_of, model_dictionary
from structures import BOND, Structure, batches


def prepare(case: Case) -> tuple[Repetition, dict[str, Any]]:
    """The case in DeePMD-kit."""
    if case.get("compressed") and not ENABLE_CUSTOMIZED_OP:
        raise UnavailableError("its compressed models need its operator library, built for one torch release")
    model, groups = model_dictionary(case["file"]), batches(case)
    if case["task"] == "forces":
        return evaluation(model, groups[0][0], case), {}
    return training_step(model, groups), {}


def training_step(model: dict[str, Any], groups: list[list[Structure]]) -> Repetition:
    """For each batch: neighbour list, model with its loss, gradient, Adam."""
    start = LEARNING_RATE["start_lr"]
    loss_of = EnergyStdLoss(starter_learning_rate=start, **LOSS)
    wrapper = ModelWrapper(BaseModel.deserialize(model), loss_of).to(DEVICE)
    wrapper.train()
    optimizer = torch.optim.Adam(wrapper.parameters(), lr=start)
    arguments = [arguments_of(group) for group in groups]

    def step() -> dict[str, Any]:
        loss = torch.zeros(())
        for inputs, label in arguments:
            optimizer.zero_grad(set_to_none=True)
            _, loss, _ = wrapper(**inputs, cur_lr=start, label=label, task_key="Default")
            loss.backward()
            optimizer.step()
        return {"loss": float(loss.detach())}

    return step


def arguments_of(group: list[Structure]) -> tuple[dict[str, Any], dict[str, Any]]:
    """A batch as its trainer hands it to the model, and its labels."""
    batch, frames = batch_of(group), len(group)
    tensors = {name: torch.as_tensor(array).to(DEVICE) for name, array in batch.items() if name.find("find_")}
    inputs = {"coord": tensors["coord"].reshape(frames, -1, 3), "atype": tensors["type"].long()}
    inputs["box"] = tensors.get("box")
    label: dict[str, Any] = {"energy": tensors["energy"], "force": tensors["force"].reshape(frames, -1, 3)}
    return inputs, {**label, "find_energy": 1.0, "find_force": 1.0, "natoms": len(group[0].types)}


def evaluation(model: dict[str, Any], one: Structure, case: Case) -> Repetition:
    """A frozen model (.pth), evaluated as DeePMD-kit's Python users do, neighbour list included."""
    fitting = {"neuron": case["fitting"], "precision": case["precision"]}
    descriptor = {**case["descriptor"], "precision": case["precision"]}
    script = {"type_map": case["type_map"], "descriptor": descriptor, "fitting_net": fitting}
    with tempfile.TemporaryDirectory() as folder:
        frozen = str(Path(folder) / "model.pth")
        deserialize_to_file(
            frozen, {"model": model, "model_def_script": script, "@variables": {"min_nbor_dist": BOND}}
        )
        if case.get("compressed"):
            enable_compression(frozen, frozen)
        potential = DeepPot(frozen)
    cell = None if one.cell is None else one.cell.reshape(1, 9)
    arguments = one.positions.reshape(1, -1), cell, one.types

    def evaluate() -> dict[str, Any]:
        energy, forces, _ = potential.eval(*arguments)
        return {"energy": float(energy.item()), "forces": forces[0][:192].tolist()}

    return evaluate
