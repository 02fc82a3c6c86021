"""The state of a training run at some step."""

import math

from jax.sharding import Mesh

from dpax.data import Batch
from dpax.errors import InputError
from dpax.train.beginning import Beginning
from dpax.train.checkpoints import Checkpoint, reads_contents
from dpax.train.error_sums import ErrorMeans, Errors
from dpax.train.full_validation import full_validations
from dpax.train.learner import Learner
from dpax.train.run import RunFolder
from dpax.train.setup import weighed_labels
from dpax.train.validation import ValidationSet


class Training:
    """A training run, and where it stands.

    Args:
        beginning: where it begins.
        folder: of the run.
        mesh: devices.

    Raises:
        InputError: nothing is trainable, or a checkpoint does not fit.
    """

    def __init__(self, beginning: Beginning, folder: RunFolder, mesh: Mesh):
        resolved = beginning.resolved
        self.beginning, self.folder, self.mesh = beginning, folder, mesh
        self.settings, self.data, self.total = resolved.settings, resolved.data, resolved.total_steps
        self.learner = Learner(self.settings, self.data, beginning.model, mesh, self.total)
        self.valid = self._validation_set()
        self.validations = full_validations(self.settings, self.total, folder)
        self.done = 0  # steps
        self.saved: int | None = None  # step of the last checkpoint
        self.shown = ErrorMeans()  # what the next line of the learning curve shows
        if beginning.checkpoint is not None:
            self._restore(beginning.checkpoint)

    def _validation_set(self) -> ValidationSet | None:
        data, seed = self.beginning.resolved.valid_data, self.settings.training.seed
        assert seed is not None
        if data is None:
            return None
        widths = weighed_labels(self.settings.loss, data)
        return ValidationSet(data, self.beginning.model, widths, seed, self.learner)

    @reads_contents
    def _restore(self, checkpoint: Checkpoint) -> None:
        """Restore everything but the model."""
        meta = checkpoint.meta
        self.done = self.saved = meta["progress"]["step"]
        self.shown = ErrorMeans(**meta["shown"])
        if not self.beginning.reranked:
            if self.valid is not None and meta["valid"] is not None:
                self.valid.restore(meta["valid"])
            for validation in self.validations:
                validation.restore(meta["best"].get(validation.name, []))
        self.learner.restore(checkpoint)

    def step(self, batch: Batch) -> tuple[float, Errors]:
        """Take a step.

        Returns:
            The learning rate, and the errors before the step.

        Raises:
            InputError: the loss is not finite.
        """
        lr = self.learner.schedule(self.done)
        errors = self.learner.step(batch, self.done)
        if not math.isfinite(errors.loss):
            raise InputError(
                f"step {self.done + 1}: the loss is no longer finite, with "
                f"{', '.join(batch.sources)}. Look at these frames, or lower learning_rate.start_lr"
            )
        self.done += 1
        return lr, errors
