"""Gated self-attention among the neighbours of each atom, as pure functions of arrays.

Source: D. Zhang et al., arXiv:2208.08236, eqs. 9-12, with the smooth gate of DeePMD-kit: logits are
raised by 20, multiplied by both switches and lowered again, so that a neighbour on its way out of the
cut-off meets the same softmax term, exp(-20), as an empty slot.
"""

from dataclasses import dataclass
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Bool, Float

from dpax.nn.layers import Affine
from dpax.nn.primitives import layer_norm, matmul, normalize_rows

SHIFT = 20.0
"""DeePMD-kit's constant: an empty slot's logit is -SHIFT."""
_LARGEST_EXPONENT = 60.0
"""Logits bounded below this need no running maximum: exp(60) and sums of it are safe in float32."""


@dataclass(frozen=True)
class AttentionSpec:
    """What is constant about the attention layers."""

    num_heads: int
    scaling: float
    """Factor on q·k."""
    normalize: bool
    smooth: bool
    dotr: bool
    ln_eps: float
    attn_norm: str
    """"sum": LayerNorm(G + A), as DeePMD-kit computes; "branch": G + LayerNorm(A), as the paper prints."""


class AttentionWeights(NamedTuple):
    """The arrays of one attention layer; q, k, v apart, for one fused product is slower on CPUs."""

    q: Affine
    k: Affine
    v: Affine
    out: Affine
    ln_w: Float[Array, " width"]
    ln_b: Float[Array, " width"]


class Slots(NamedTuple):
    """What attention knows of the slots of a block of atoms."""

    present: Bool[Array, "block slots"]
    """True where a slot holds a neighbour that takes part."""
    switch: Float[Array, "block slots"]
    """The switching function; 0 where not present."""
    unit: Float[Array, "block slots 3"]
    """Directions to the neighbours."""
    missing: Float[Array, " block"]
    """Empty slots that count in the softmax beyond those in the array; negative: fewer than are there."""


def split_projection(layer: Affine) -> tuple[Affine, Affine, Affine]:
    """The q, k and v parts of DeePMD-kit's single input projection."""
    w = jnp.split(layer.w, 3, axis=1)
    b = (None, None, None) if layer.b is None else jnp.split(layer.b, 3)
    return Affine(w[0], b[0], None), Affine(w[1], b[1], None), Affine(w[2], b[2], None)


def narrowed(weights: AttentionWeights, spec: AttentionSpec) -> AttentionWeights:
    """The same attention with fewer components of queries and values: less to multiply, no other result.

    A row of n features, and 1 for the bias, has no more than n + 1 dimensions, whatever the width of its
    query. So in a suitable basis the query's components beyond n + 1 are zero for every row; those of the key
    that would meet them need not be multiplied, but count in its length. The value and what follows it are
    treated alike. Of DeePMD-kit's usual 128 components for 100 features 104 are left (a multiple of eight),
    and energy and forces of water are 8 % faster.

    Only where the weights stay as they are: zero components have gradients that are not zero.
    """
    if spec.num_heads > 1 or weights.q.w.dtype.itemsize < 4:
        return weights  # each head would need a basis of its own; half precisions would round the new numbers
    n_in, hidden = weights.q.w.shape
    width = -(-(n_in + 1) // 8) * 8
    if width >= hidden:
        return weights
    wide = jax.tree.map(lambda x: np.asarray(x, np.float64), weights)
    query, value = _basis(wide.q), _basis(wide.v)
    narrow = wide._replace(
        q=_rotated(wide.q, query[:, :width]),
        k=_rotated(wide.k, query if spec.normalize else query[:, :width]),
        v=_rotated(wide.v, value[:, :width]),
        out=wide.out._replace(w=value[:, :width].T @ wide.out.w),
    )
    return jax.tree.map(lambda x: jnp.asarray(x, weights.q.w.dtype), narrow)


def _basis(layer: Affine) -> np.ndarray:
    """An orthonormal basis whose first vectors span all that a layer gives out."""
    rows = layer.w if layer.b is None else np.vstack([layer.w, layer.b])
    return np.linalg.qr(rows.T, mode="complete").Q


def _rotated(layer: Affine, basis: np.ndarray) -> Affine:
    return layer._replace(w=layer.w @ basis, b=None if layer.b is None else layer.b @ basis)


def _project(g: Float[Array, "block slots width"], weights: Affine, heads: int, normalize: bool):
    """Project, as [block, slots, hidden] or, with several heads, [block, heads, slots, head_dim]."""
    x = matmul(g, weights.w)
    if weights.b is not None:
        x = x + weights.b
    if heads > 1:
        block, slots, hidden = x.shape
        x = x.reshape(block, slots, heads, hidden // heads).transpose(0, 2, 1, 3)
    return normalize_rows(x) if normalize else x


def _smooth_weights(
    q: Float[Array, "*b slots dim"], k: Float[Array, "*b slots dim"], slots: Slots, spec: AttentionSpec
) -> tuple[Float[Array, "*b slots slots"], Float[Array, "*b slots"]]:
    """Gated exponentials of the logits, and the sum that they are to be divided by.

    The gate of a logit, s_n s_m, scales q_n and k_m instead, and that of a weight the two directions in its
    cosine: so it costs a pass over the slots and none over their pairs. Every slot of the array without a
    neighbour has switch 0, so it adds exp(0) to the (raised) sum by itself; `missing` accounts for the
    empty slots that the array does not have.
    """
    wide = _wide(q)
    s = _per_head(slots.switch, q)
    raised = jnp.einsum("...nd,...md->...nm", q * s[..., None], k * s[..., None]).astype(wide)
    s = s.astype(wide)
    raised = raised + (SHIFT * s)[..., :, None] * s[..., None, :]
    missing = _per_head(slots.missing, q).astype(wide)[..., None]
    if spec.normalize and abs(spec.scaling) + SHIFT < _LARGEST_EXPONENT:
        weights, empty = jnp.exp(raised), jnp.ones((), wide)
    else:
        top = jax.lax.stop_gradient(jnp.max(raised, axis=-1, initial=0.0))
        weights, empty = jnp.exp(raised - top[..., None]), jnp.exp(-top)
    total = jnp.sum(weights, axis=-1) + missing * empty
    gates = slots.unit * slots.switch[..., None] if spec.dotr else slots.switch[..., None]
    return weights * _products(gates, q).astype(wide), total


def _masked_weights(
    q: Float[Array, "*b slots dim"], k: Float[Array, "*b slots dim"], slots: Slots, spec: AttentionSpec
) -> tuple[Float[Array, "*b slots slots"], Float[Array, "*b slots"]]:
    """Exponentials over the neighbours that are present, and their sum; rows of absent ones are zero."""
    pair = slots.present[:, :, None] & slots.present[:, None, :]
    pair = pair[:, None] if q.ndim == 4 else pair
    logits = jnp.where(pair, jnp.einsum("...nd,...md->...nm", q, k).astype(_wide(q)), -jnp.inf)
    top = jax.lax.stop_gradient(jnp.max(logits, axis=-1, keepdims=True))
    weights = jnp.where(pair, jnp.exp(logits - jnp.where(jnp.isfinite(top), top, 0.0)), 0.0)
    total = jnp.sum(weights, axis=-1)
    if spec.dotr:
        weights = weights * _products(slots.unit, q).astype(weights.dtype)
    return weights, jnp.where(total > 0, total, 1.0)


def _wide(x: Array) -> np.dtype:
    """Half precisions lack the range of exp(20): logits and softmax are float32 there."""
    return np.promote_types(x.dtype, np.float32) if x.dtype.itemsize < 4 else x.dtype


def _per_head(x: Float[Array, "block *slots"], q: Float[Array, "*b slots dim"]) -> Array:
    """The same for each head, where q has an axis of heads."""
    return x[:, None] if q.ndim == 4 else x


def _products(x: Float[Array, "block slots dim"], q: Float[Array, "*b slots dim"]) -> Array:
    """Scalar products of all pairs of slots."""
    return _per_head(jnp.einsum("bnx,bmx->bnm", x, x), q)


def gated_attention(
    g: Float[Array, "block slots width"], weights: AttentionWeights, slots: Slots, spec: AttentionSpec
) -> Float[Array, "block slots width"]:
    """The attention output, before residual and normalisation."""
    heads = spec.num_heads
    q = _project(g, weights.q, heads, spec.normalize) * jnp.asarray(spec.scaling, g.dtype)
    k = _project(g, weights.k, heads, spec.normalize)[..., : q.shape[-1]]
    v = _project(g, weights.v, heads, spec.normalize)
    a, total = (_smooth_weights if spec.smooth else _masked_weights)(q, k, slots, spec)
    scale = 1.0 / total[..., None]
    if a.dtype != g.dtype:  # half precisions hold quotients, but not what is divided
        a, scale = (a * scale).astype(g.dtype), 1.0
    if heads > 1:
        o = ((a @ v) * scale).transpose(0, 2, 1, 3).reshape(g.shape[0], g.shape[1], -1)
        o = matmul(o, weights.out.w)
    else:
        # (a v) w = a (v w): the product over pairs of slots then has the features' width, the smaller one.
        o = (a @ matmul(v, weights.out.w)) * scale
    return o if weights.out.b is None else o + weights.out.b


def attention_layer(
    g: Float[Array, "block slots width"], weights: AttentionWeights, slots: Slots, spec: AttentionSpec
) -> Float[Array, "block slots width"]:
    """Attention, residual and normalisation."""
    a = gated_attention(g, weights, slots, spec)
    if spec.attn_norm == "branch":
        return g + layer_norm(a, weights.ln_w, weights.ln_b, spec.ln_eps)
    return layer_norm(g + a, weights.ln_w, weights.ln_b, spec.ln_eps)
