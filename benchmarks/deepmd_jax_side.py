"""DeePMD-kit's JAX backend: its own trainer, and the function that its frozen models hold.

Its import sets the matrix products of float32 numbers to TF32, which GPUs alone have. The other sides compute
in full precision, so a case says which of the two it is about.
"""

import tempfile
from pathlib import Path
from typing import Any

import numpy as np
from case import LEARNING_RATE, LOSS, STEPS, Case, Repetition
from deepmd.dpmodel.utils.serialization import save_dp_model
from deepmd.jax.env import jax, jnp, nnx
from deepmd.jax.model.model import BaseModel
from deepmd.jax.train import trainer as training
from deepmd.utils.argcheck import learning_rate_args, loss_args
from deepmd_input import batch_of, model_dictionary
from structures import Structure, batches, places


def prepare(case: Case) -> tuple[Repetition, dict[str, Any]]:
    """The case in DeePMD-kit."""
    model, group = model_dictionary(case["file"]), batches(case)[0]
    work = evaluation(model, group[0], case) if case["task"] == "forces" else training_step(model, group)
    return work if case["tf32"] else in_full_precision(work), {}


def in_full_precision(work: Repetition) -> Repetition:
    """The same without TF32."""

    def repetition() -> dict[str, Any] | None:
        with jax.default_matmul_precision("highest"):
            return work()

    return repetition


class OneBatch:
    """Stands in for DeePMD-kit's data system: the same batch each time."""

    def __init__(self, batch: dict[str, Any]):
        self._batch = batch

    def add_data_requirements(self, requirements: Any) -> None:
        """DeePMD-kit announces here what it will read; the batch has it."""

    def get_batch(self) -> dict[str, Any]:
        return self._batch


def training_step(model: dict[str, Any], group: list[Structure]) -> Repetition:
    """A step of its trainer: neighbour list, gradient, Adam."""
    trainer = make_trainer(model)
    key, data = training.DEFAULT_TASK_KEY, OneBatch(batch_of(group))
    trainer._setup_training({key: data}, {key: None})
    task, done = training.TrainingTask(key, data), 0

    def step() -> None:
        nonlocal done
        trainer.train_step(task, done)
        jax.block_until_ready(nnx.state(trainer.models[key]))
        done += 1

    return step


def make_trainer(model: dict[str, Any]) -> Any:
    """Its trainer, with the weights of a model."""
    sections = {
        "model": {},
        "loss": loss_args().normalize_value({"type": "ener", **LOSS}),
        "learning_rate": learning_rate_args().normalize_value(dict(LEARNING_RATE)),
        "training": {"numb_steps": STEPS},
    }
    with tempfile.TemporaryDirectory() as folder:
        initial = str(Path(folder) / "initial.hlo")
        # The trainer reads the weights of an .hlo file and discards the compiled functions beside them.
        functions = {"constants": {}, "@variables": {"stablehlo": np.zeros(1)}}
        save_dp_model(initial, {"model": model, "model_def_script": {}, **functions})
        return training.DPTrainer(sections, init_model=initial)


def evaluation(dictionary: dict[str, Any], one: Structure, case: Case) -> Repetition:
    """Neighbour list, then energy, forces and virial, compiled for this very shape."""
    model, positions = BaseModel.deserialize(dictionary), places(one, case["dynamics"])
    compiled = nnx.jit(training._evaluate_model_dict)

    def evaluate() -> dict[str, Any]:
        inputs = training.prepare_input(
            rcut=model.get_rcut(),
            sel=model.get_sel(),
            coord=jnp.asarray(next(positions)[None]),
            atype=jnp.asarray(one.types[None]),
            box=jnp.asarray(one.cell.reshape(1, 9)),
        )
        found = {name: np.asarray(array) for name, array in compiled(model, *inputs).items()}
        return {"energy": found["energy"].item(), "forces": found["force"][0][:192].tolist()}

    return evaluate
