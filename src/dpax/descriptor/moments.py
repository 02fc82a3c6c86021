"""The moments of an atom's neighbours, and their products, which no rotation changes."""

import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Bool, Float, Int

from dpax.descriptor.environment import Environment
from dpax.descriptor.spec import DescriptorSpec
from dpax.nn.primitives import einsum, per_row


def angular_moments(
    spec: DescriptorSpec,
    rows: Float[Array, "block slots 4"],
    env: Environment,
    stddev: Float[Array, "block _ 4"],
    inside: Bool[Array, "block slots"],
    counted: Int[Array, " block"],
) -> Float[Array, "block slots moments"]:
    """The angular basis of each slot, empty ones weighted by how many they stand for."""
    n = jnp.sum(inside, axis=-1)
    empty = jnp.maximum(inside.shape[1] - n, 1)
    if spec.empty_slots == "dense":
        share = ((counted - n) / empty).astype(rows.dtype)[:, None]
    else:
        share = jnp.zeros((), rows.dtype)
    first = rows * jnp.where(inside, 1.0, share).astype(rows.dtype)[..., None]
    if spec.lmax == 1:
        return first
    radial = (env.inverse / stddev[..., 0])[..., None]
    return jnp.concatenate([first, radial * angular_basis(env, spec.lmax)], axis=-1)


def products(
    spec: DescriptorSpec,
    m: Float[Array, "block neuron moments"],
    gains: Float[Array, " degrees"] | None,
) -> Float[Array, "block width"]:
    """Products of the moments with their first `axis_neuron` columns, summed over each degree.

    Args:
        spec: of the descriptor.
        m: the moments of all features.
        gains: by whose squares each degree from 2 on is multiplied; None where there is none.
    """
    axis = m[:, : spec.axis_neuron]
    if gains is not None:
        repeats = np.array([2 * degree + 1 for degree in range(2, spec.lmax + 1)])
        gains = jnp.repeat(gains**2, repeats, total_repeat_length=int(repeats.sum()))
        axis = axis * per_row(jnp.concatenate([jnp.ones(4, m.dtype), gains]), axis)
    return spec.output_scale * einsum("bgm,bam->bga", m, axis).reshape(m.shape[0], -1)


def angular_basis(env: Environment, lmax: int) -> Float[Array, "block slots moments"]:
    """Real solid harmonics of d/(r+p) of degrees 2 to lmax, in DeePMD-kit's order and norm."""
    x, y, z = env.scaled[..., 0], env.scaled[..., 1], env.scaled[..., 2]
    q = x * x + y * y + z * z
    columns = [
        3**0.5 * x * y,
        3**0.5 * y * z,
        0.5 * (3 * z * z - q),
        3**0.5 * x * z,
        0.5 * 3**0.5 * (x * x - y * y),
    ]
    if lmax >= 3:
        columns += [
            (5 / 8) ** 0.5 * y * (3 * x * x - y * y),
            15**0.5 * x * y * z,
            (3 / 8) ** 0.5 * y * (5 * z * z - q),
            0.5 * z * (5 * z * z - 3 * q),
            (3 / 8) ** 0.5 * x * (5 * z * z - q),
            0.5 * 15**0.5 * z * (x * x - y * y),
            (5 / 8) ** 0.5 * x * (x * x - 3 * y * y),
        ]
    if lmax >= 4:
        z2, difference = z * z, x * x - y * y
        columns += [
            0.5 * 35**0.5 * x * y * difference,
            0.25 * 70**0.5 * y * z * (3 * x * x - y * y),
            0.5 * 5**0.5 * x * y * (7 * z2 - q),
            0.25 * 10**0.5 * y * z * (7 * z2 - 3 * q),
            0.125 * (35 * z2 * z2 - 30 * z2 * q + 3 * q * q),
            0.25 * 10**0.5 * x * z * (7 * z2 - 3 * q),
            0.25 * 5**0.5 * difference * (7 * z2 - q),
            0.25 * 70**0.5 * x * z * (x * x - 3 * y * y),
            0.125 * 35**0.5 * (x**4 - 6 * x * x * y * y + y**4),
        ]
    return jnp.stack(columns, axis=-1)
