"""The optimizer: optax's parts in DeePMD-kit's order, without the learning rate."""

import jax
import optax

from dpax.train.learning_settings import OptimizerSettings


def make_optimizer(
    settings: OptimizerSettings, max_norm: float = 0.0, acc_freq: int = 1
) -> optax.GradientTransformation:
    """From gradients to steps of a learning rate of 1, downwards.

    The gradient is clipped first. Adam's weight decay is a part of the gradient that Adam sees (an L2
    penalty); that of AdamW is added to its step (Loshchilov and Hutter, arXiv:1711.05101). Both are what
    PyTorch's optimizers of these names do.

    Args:
        settings: of the optimizer.
        max_norm: of the gradient of all parameters together; 0 does not clip.
        acc_freq: gradients of which the mean is taken before a step; the steps between are zero.
    """
    decay = optax.add_decayed_weights(settings.weight_decay) if settings.weight_decay else optax.identity()
    adam = optax.scale_by_adam(b1=settings.adam_beta1, b2=settings.adam_beta2)
    parts = (decay, adam) if settings.type == "Adam" else (adam, decay)
    clip = optax.clip_by_global_norm(max_norm) if max_norm else optax.identity()
    # On one vector of all parameters: one loop to compile where there would be one for each array.
    chain = optax.flatten(optax.chain(clip, *parts))
    if acc_freq != 1:
        chain = optax.MultiSteps(chain, every_k_schedule=acc_freq).gradient_transformation()
    return optax.GradientTransformation(chain.init, _with_promotion(chain.update))


def _with_promotion(update: optax.TransformUpdateFn) -> optax.TransformUpdateFn:
    """The same where a user has made JAX strict about types: optax raises numbers to integer powers."""

    def promoting(
        updates: optax.Updates, state: optax.OptState, params: optax.Params | None = None
    ) -> tuple[optax.Updates, optax.OptState]:
        with jax.numpy_dtype_promotion("standard"):
            return update(updates, state, params)

    return promoting
