"""DeePMD-kit's training losses, step by step, from its own JAX trainer: the oracle of training.

Importing this module skips the calling test module where deepmd-kit is not installed; it needs no torch.

What runs is DeePMD-kit's `DPTrainer` itself: its constructor (which reads the initial model from a file, as
`dp --jax train --init-model` does), its optimizer, its learning rate, its `EnergyLoss` and its step function.
Only the data system is replaced, by one that hands out the given batches in the given order; the sections
`loss` and `learning_rate` receive the defaults of DeePMD-kit's input file.

Verified against the command itself, `dp --jax train --init-model` of 3.2.0 in float64 on the CPU: ten steps
on the first batch of `tiny_frames()` with energy, force, virial and atomic-energy terms and a learning rate
that falls every three steps, versions 1 and 2. Every number of its `lcurve.out` is that of `after` to the
three digits it prints, and every weight of its last checkpoint agrees within 1e-15. `dp --pt train` from the
same weights (version 1) prints the numbers of `before`. The mean and deviation of the environment matrix, the
energy bias `out_bias` and the fitting net's `bias_atom_e` do not train; all else does, the type embedding and
the LayerNorms too.

The trainer compiles for about 30 s per model and batch shape, so a test module should share one run.
"""

import tempfile
from collections.abc import Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path

import numpy as np
import pytest

pytest.importorskip("deepmd")

from oracle.deepmd_model import TYPE_MAP, make_model, random_statistics_of, structures


def tiny_model_dict(version, fitting_options=None, **descriptor_options):
    """`EnergyModel.serialize()` of a small float64 O/H model: cutoff 4 Å, 20 slots, 2 attention layers.

    Version 1 is `se_atten` (concat, smooth) with a zero mean, as DeePMD-kit's input file has it by default;
    version 2 is `se_atten_v2` with a mean. Both have deviations other than 1.
    """
    options = {"sel": 20} | descriptor_options
    model = make_model(version, TYPE_MAP, options, fitting_options)
    descriptor = model.atomic_model.descriptor
    mean, deviation = random_statistics_of(descriptor)
    descriptor.set_stat_mean_and_stddev(mean if version == 2 else 0 * mean, deviation)
    return model.serialize()


def tiny_frames(n_batches=2, frames_per_batch=2, name="triclinic", seed=1):
    """Batches for `deepmd_losses`: displaced copies of a structure with random labels of the usual sizes.

    The labels fit no potential. Each batch has every label; leave some out to train without them.
    """
    rng = np.random.default_rng(seed)
    structure = structures()[name]
    atoms = len(structure.coord)
    shape = (frames_per_batch, atoms)
    box = structure.box
    return [
        {
            "coord": structure.coord + 0.05 * rng.standard_normal((*shape, 3)),
            "atype": structure.atype,
            "box": None if box is None else np.tile(box.reshape(1, 9), (frames_per_batch, 1)),
            "energy": -2.0 * atoms + rng.standard_normal(frames_per_batch),
            "force": rng.standard_normal((*shape, 3)),
            "virial": rng.standard_normal((frames_per_batch, 9)),
            "atom_ener": -2.0 + rng.standard_normal(shape),
        }
        for _ in range(n_batches)
    ]


def deepmd_losses(model_dict, frames, loss_settings, lr_settings, n_steps, *, numb_steps=None):
    """Train with DeePMD-kit and return what each step saw: see `deepmd_training`."""
    return deepmd_training(model_dict, frames, loss_settings, lr_settings, n_steps, numb_steps=numb_steps)[0]


def deepmd_training(
    model_dict: Mapping,
    frames: Sequence[Mapping],
    loss_settings: Mapping,
    lr_settings: Mapping,
    n_steps: int,
    *,
    numb_steps: int | None = None,
) -> tuple[list[dict], dict]:
    """Train DeePMD-kit's JAX model for `n_steps` steps with its own trainer.

    Args:
        model_dict: `Model.serialize()` of the initial energy model.
        frames: one batch per step, cycled: coord [frames, atoms, 3] Å, atype [atoms] or [frames, atoms]
            (-1 is a virtual atom), box [frames, 9] Å or None, energy [frames] eV, force [frames, atoms, 3]
            eV/Å, and if known virial [frames, 9] eV, atom_ener [frames, atoms] eV. A label that is absent
            or None counts as not found.
        loss_settings: section `loss` of an input file, without the type.
        lr_settings: section `learning_rate` of an input file.
        n_steps: steps to take.
        numb_steps: length of the planned run, which the learning rate depends on; `n_steps` if None.

    Returns:
        One dict per step, and the serialised model after the last one. Each dict has `step` (from 1), `lr`
        (used for the update and the prefactors), `loss` (of the batch before the update: what the gradient
        is taken of), `before` and `after` (the printed values, such as rmse = √loss, rmse_e per atom, rmse_f,
        rmse_v per atom, with the weights before and after the update; DeePMD-kit's JAX trainer prints
        `after`, its PyTorch trainer prints `before`).
    """
    with _deepmd_jax() as jax_trainer:
        trainer = _make_trainer(jax_trainer, model_dict, loss_settings, lr_settings, numb_steps or n_steps)
        labels = {item.key for item in trainer.data_requirements}
        data = _GivenBatches([_as_batch(batch, labels) for batch in frames])
        key = jax_trainer.DEFAULT_TASK_KEY
        trainer._setup_training({key: data}, {key: None})
        task = jax_trainer.TrainingTask(key, data)
        rows = [_one_step(trainer, task, data, step) for step in range(n_steps)]
        return rows, trainer.models[key].serialize()


class _GivenBatches:
    """Stands in for DeePMD-kit's data system: hands out the batches in order, over and over."""

    def __init__(self, batches):
        self.batches = batches
        self.taken = 0

    def add_data_requirements(self, requirements):
        """DeePMD-kit announces here which labels it will read: `_as_batch` has seen to them."""

    def next_batch(self):
        return self.batches[self.taken % len(self.batches)]

    def get_batch(self):
        batch = self.next_batch()
        self.taken += 1
        return batch


def _one_step(trainer, task, data, step):
    prepared = trainer._prepare_batch(data.next_batch(), task.key)
    before = trainer._evaluate_prepared_batch(task.key, step, prepared)
    result = trainer.train_step(task, step)
    after = trainer.evaluate_training(task, step, result)
    lr = trainer.learning_rate(step)
    return {"step": step + 1, "lr": lr, "loss": before["rmse"] ** 2, "before": before, "after": after}


def _make_trainer(jax_trainer, model_dict, loss_settings, lr_settings, numb_steps):
    from deepmd.dpmodel.utils.serialization import save_dp_model
    from deepmd.utils.argcheck import learning_rate_args, loss_args

    sections = {
        "model": {},
        "loss": loss_args().normalize_value({"type": "ener", **loss_settings}),
        "learning_rate": learning_rate_args().normalize_value(dict(lr_settings)),
        "training": {"numb_steps": numb_steps},
    }
    with tempfile.TemporaryDirectory() as folder:
        initial = str(Path(folder) / "initial.hlo")
        # The trainer reads the weights of an .hlo file and discards the compiled functions beside them.
        functions = {"constants": {}, "@variables": {"stablehlo": np.zeros(1)}}
        save_dp_model(initial, {"model": model_dict, "model_def_script": {}, **functions})
        return jax_trainer.DPTrainer(sections, init_model=initial)


def _as_batch(batch, labels):
    """One batch as DeePMD-kit's data system returns it, with `find_…` flags and zeros for absent labels."""
    coord = np.asarray(batch["coord"], dtype=np.float64)
    n_frames, n_atoms, _ = coord.shape
    types = np.asarray(batch["atype"], dtype=np.int32)
    made = {
        "coord": coord.reshape(n_frames, -1),
        "type": np.broadcast_to(types, (n_frames, n_atoms)).copy(),
    }
    sizes = {"box": 9, "energy": 1, "force": 3 * n_atoms, "virial": 9, "atom_ener": n_atoms}
    for label in sorted(labels | {"box"}):
        given = batch.get(label)
        values = np.zeros((n_frames, sizes[label])) if given is None else np.asarray(given, dtype=np.float64)
        made[label] = values.reshape(n_frames, sizes[label])
        made[f"find_{label}"] = np.float32(given is not None)
    return made


@contextmanager
def _deepmd_jax():
    """DeePMD-kit's JAX trainer module, with JAX's global settings put back afterwards.

    Importing it switches JAX to float64 and sets a matrix precision for the whole process. (Do not shorten
    the compilation with `jax_disable_most_optimizations`: the forces on a non-periodic cluster become NaN.)
    """
    import jax

    names = ("jax_enable_x64", "jax_default_matmul_precision")
    saved = {name: jax.config.values[name] for name in names}
    try:
        from deepmd.jax.train import trainer

        jax.config.update("jax_enable_x64", True)
        with jax.numpy_dtype_promotion("standard"), jax.numpy_rank_promotion("allow"):
            yield trainer
    finally:
        for name, value in saved.items():
            jax.config.update(name, value)
