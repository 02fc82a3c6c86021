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
from deepmd.utils.errors import OutOfMemoryError
from deepmd_input import batch_of, model_dictionary
from structures import BOND, Structure, batches, places


def prepare(case: Case) -> tuple[Repetition, dict[str, Any]]:
    """The case in DeePMD-kit."""
    if case.get("compressed") and not ENABLE_CUSTOMIZED_OP:
        raise UnavailableError("its compressed models need its operator library, built for one torch release")
    model, groups = model_dictionary(case["file"]), batches(case)
    if case["task"] == "forces":
        return evaluation(model, groups[0][0], case)
    return training_step(model, groups), {}


def training_step(model: dict[str, Any], groups: list[list[Structure]]) -> Repetition:
    """For each batch: sent to the device, neighbour list, model with its loss, gradient, Adam."""
    start = LEARNING_RATE["start_lr"]
    loss_of = EnergyStdLoss(starter_learning_rate=start, **LOSS)
    wrapper = ModelWrapper(BaseModel.deserialize(model), loss_of).to(DEVICE)
    wrapper.train()
    optimizer = torch.optim.Adam(wrapper.parameters(), lr=start)
    arrays = [tensors_of(group) for group in groups]

    def step() -> dict[str, Any]:
        loss = torch.zeros(())
        for tensors in arrays:
            inputs, label = on_device(tensors)
            optimizer.zero_grad(set_to_none=True)
            _, loss, _ = wrapper(**inputs, cur_lr=start, label=label, task_key="Default")
            loss.backward()
            optimizer.step()
        return {"loss": float(loss.detach())}

    return step


def tensors_of(group: list[Structure]) -> dict[str, torch.Tensor]:
    """A batch as its data loader hands it to its trainer: in host memory, pinned where there is a GPU."""
    batch, frames = batch_of(group), len(group)
    tensors = {name: torch.as_tensor(batch[name]) for name in ("energy", "box") if name in batch}
    tensors["atype"] = torch.as_tensor(batch["type"]).long()
    for name in ("coord", "force"):
        tensors[name] = torch.as_tensor(batch[name]).reshape(frames, -1, 3)
    pinned = DEVICE.type == "cuda"
    return {name: tensor.pin_memory() if pinned else tensor for name, tensor in tensors.items()}


def on_device(tensors: dict[str, torch.Tensor]) -> tuple[dict[str, Any], dict[str, Any]]:
    """What the model takes, and its labels, sent as its trainer does in each step: all but the box."""
    sent = {
        name: tensor if name == "box" else tensor.to(DEVICE, non_blocking=True)
        for name, tensor in tensors.items()
    }
    inputs = {"coord": sent["coord"], "atype": sent["atype"], "box": sent.get("box")}
    labels: dict[str, Any] = {"energy": sent["energy"], "force": sent["force"]}
    return inputs, {**labels, "find_energy": 1.0, "find_force": 1.0, "natoms": sent["atype"].shape[1]}


def evaluation(model: dict[str, Any], one: Structure, case: Case) -> tuple[Repetition, dict[str, Any]]:
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
    positions = places(one, case["dynamics"])

    def evaluate() -> dict[str, Any]:
        try:
            energy, forces, _ = potential.eval(next(positions).reshape(1, -1), cell, one.types)
        except OutOfMemoryError as error:
            raise UnavailableError("the GPU has too little memory for it") from error
        return {"energy": float(energy.item()), "forces": forces[0][:192].tolist()}

    return evaluate, {"neighbor_search": neighbor_search(potential)}


def neighbor_search(potential: DeepPot) -> str | None:
    """The class that DeePMD-kit has chosen to search neighbours with; None for its search of all pairs."""
    builder = potential.deep_eval._nlist_builder
    return None if builder is None else type(builder).__name__
