"""Gated self-attention among the neighbours of each atom, as pure functions of arrays.

Source: D. Zhang et al., arXiv:2208.08236, eqs. 9-12, with the smooth gate of DeePMD-kit: logits are
raised by 20, multiplied by both switches and lowered again, so that a neighbour on its way out of the
cutoff meets the same softmax term, exp(-20), as an empty slot.
"""

from dataclasses import dataclass
from functools import partial
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Bool, Float, Shaped

from dpax.nn.arrays import Arrays, below
from dpax.nn.layers import Affine, affine
from dpax.nn.primitives import (
    EXACT,
    QuadraticForm,
    einsum,
    inverse_root,
    layer_norm,
    matmul,
    per_row,
    quadratic_form,
    squared_length,
)

SHIFT = 20.0
"""DeePMD-kit's constant: an empty slot's logit is -SHIFT."""
_WIDE_ENOUGH = 1.25
"""Components for each feature from which weights are multiplied out. With fewer little is saved, and in some
directions q may nearly vanish: |q|² from Wq Wqᵀ would be a small and inexact difference of large numbers."""
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


def scaling(width: int, scaling_factor: float, temperature: float | None) -> float:
    """The factor on the logits of heads of so many components."""
    return (width * scaling_factor) ** -0.5 if temperature is None else temperature


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


def prepare_layer(spec: AttentionSpec, arrays: Arrays) -> "AttentionWeights | FoldedWeights":
    """An attention layer and its normalisation in the form that blocks use, from their named arrays.

    Args:
        spec: the constants of the layer.
        arrays: `in_proj` and `out_proj` with `w` and `b` each, `norm/w` and `norm/b`.
    """
    projections = split_projection(affine(below(arrays, "in_proj")))
    norm = jnp.asarray(arrays["norm/w"]), jnp.asarray(arrays["norm/b"])
    return folded(AttentionWeights(*projections, affine(below(arrays, "out_proj")), *norm), spec)


class FoldedWeights(NamedTuple):
    """The arrays of one attention layer with its products of weights multiplied out."""

    logits: Affine
    """To (g Wq + bq) Wkᵀ, whose product with g is query times key; with biases, with g and a feature 1."""
    values: Affine
    """To (g Wv + bv) Wout."""
    lengths: tuple[QuadraticForm, ...] | None
    """Those of query, key and value, squared; None where they are not scaled to length 1."""
    out_b: Float[Array, " width"] | None
    ln_w: Float[Array, " width"]
    ln_b: Float[Array, " width"]


def folded(weights: AttentionWeights, spec: AttentionSpec) -> AttentionWeights | FoldedWeights:
    """The same attention with less to multiply, where there is anything to save.

    Only products and lengths of queries and keys are needed, and only the projection of values:
    q·k = g (Wq Wkᵀ) g and |q|² = g (Wq Wqᵀ) g, whose gradient 2 (Wq Wqᵀ) g costs nothing more
    (`squared_length`). With DeePMD-kit's 128 components for 100 features energy and forces take a fifth fewer
    operations, and so does a training step.
    """
    n_in, hidden = weights.q.w.shape
    if spec.num_heads > 1 or hidden < _WIDE_ENOUGH * n_in or weights.q.w.dtype.itemsize < 4:
        return weights  # heads have few components each; half precisions would round the new numbers
    q, k, v, out = weights.q, weights.k, weights.v, weights.out
    to_logits = k.w.T
    if k.b is not None:
        # A column for the feature 1, and zeros up to a multiple of eight: widths that multiply fast.
        to_logits = jnp.pad(jnp.column_stack([to_logits, k.b]), ((0, 0), (0, -(n_in + 1) % 8)))
    lengths = tuple(quadratic_form(layer.w, layer.b) for layer in (q, k, v)) if spec.normalize else None
    return FoldedWeights(_after(q, to_logits), _after(v, out.w), lengths, out.b, weights.ln_w, weights.ln_b)


def _after(layer: Affine, w: Float[Array, "hidden n_out"]) -> Affine:
    return Affine(matmul(layer.w, w), None if layer.b is None else matmul(layer.b, w), None)


class _Rows(NamedTuple):
    """What attention does with the features: queries and keys for the logits, values for the output.

    The scales, by which rows are yet to be multiplied, are apart since the gates scale the same rows.
    """

    q: Float[Array, "*b slots dim"]
    k: Float[Array, "*b slots dim"]
    v: Float[Array, "*b slots value"]
    scale_q: Float[Array, "*b slots"]
    scale_k: Float[Array, "*b slots"]
    scale_v: Float[Array, "*b slots"]


def _folded_rows(g: Float[Array, "block slots width"], weights: FoldedWeights) -> _Rows:
    q, k, v = _affine(g, weights.logits), g, _affine(g, weights.values)
    more = q.shape[-1] - g.shape[-1]
    if more:
        constant = jnp.broadcast_to(jnp.eye(1, more, dtype=g.dtype), (*g.shape[:-1], more))
        k = jnp.concatenate([g, constant], axis=-1)
    if weights.lengths is None:
        return _Rows(q, k, v, *[jnp.ones(g.shape[:-1], g.dtype)] * 3)
    return _Rows(q, k, v, *(inverse_root(squared_length(g, form)) for form in weights.lengths))


def _plain_rows(
    g: Float[Array, "block slots width"], weights: AttentionWeights, spec: AttentionSpec
) -> _Rows:
    q, k, v = (_heads(_affine(g, layer), spec.num_heads) for layer in (weights.q, weights.k, weights.v))
    wide = _wide(g)
    if spec.normalize:
        scales = [inverse_root(jnp.sum(jnp.square(x.astype(wide)), axis=-1)) for x in (q, k, v)]
    else:
        scales = [jnp.ones(q.shape[:-1], wide)] * 3
    if spec.num_heads == 1:
        # (a v) w = a (v w): the product over pairs of slots then has the features' width, the smaller one.
        v = matmul(v, weights.out.w)
    return _Rows(q, k, v, *scales)


def _affine(x: Float[Array, "*rows n_in"], layer: Affine) -> Float[Array, "*rows n_out"]:
    y = matmul(x, layer.w)
    return y if layer.b is None else y + per_row(layer.b, y)


def _heads(x: Float[Array, "block slots hidden"], heads: int) -> Float[Array, "*b slots dim"]:
    """[block, slots, hidden] as it is, or with several heads [block, heads, slots, head_dim]."""
    if heads == 1:
        return x
    block, slots, hidden = x.shape
    return x.reshape(block, slots, heads, hidden // heads).transpose(0, 2, 1, 3)


def _smooth_weights(
    rows: _Rows, slots: Slots, spec: AttentionSpec
) -> tuple[Float[Array, "*b slots slots"], Float[Array, "*b slots"]]:
    """Gated exponentials of the logits, and the sum that they are to be divided by.

    The gate of a logit, s_n s_m, scales q_n and k_m instead, and that of a weight the two directions in its
    cosine: so it costs a pass over the slots and none over their pairs. Every slot of the array without a
    neighbour has switch 0, so it adds exp(0) to the (raised) sum by itself; `missing` accounts for the
    empty slots that the array does not have.
    """
    s = _per_head(slots.switch, rows.q).astype(rows.scale_q.dtype)
    raised = _logits(rows, spec, s) + (SHIFT * s)[..., :, None] * s[..., None, :]
    missing = _per_head(slots.missing, rows.q).astype(raised.dtype)[..., None]
    if spec.normalize and abs(spec.scaling) + SHIFT < _LARGEST_EXPONENT:
        weights, empty = jnp.exp(raised), jnp.ones((), raised.dtype)
    else:
        top = jax.lax.stop_gradient(jnp.max(raised, axis=-1, initial=0.0))
        weights, empty = jnp.exp(raised - top[..., None]), jnp.exp(-top)
    total = jnp.sum(weights, axis=-1) + missing * empty
    gates = slots.unit * slots.switch[..., None] if spec.dotr else slots.switch[..., None]
    return weights * _gates(gates, rows), total


def _masked_weights(
    rows: _Rows, slots: Slots, spec: AttentionSpec
) -> tuple[Float[Array, "*b slots slots"], Float[Array, "*b slots"]]:
    """Exponentials over the neighbours that are present, and their sum; rows of absent ones are zero."""
    pair = _per_head(slots.present[:, :, None] & slots.present[:, None, :], rows.q)
    logits = jnp.where(pair, _logits(rows, spec, jnp.ones((), rows.scale_q.dtype)), -jnp.inf)
    top = jax.lax.stop_gradient(jnp.max(logits, axis=-1, keepdims=True))
    weights = jnp.where(pair, jnp.exp(logits - jnp.where(jnp.isfinite(top), top, 0.0)), 0.0)
    total = jnp.sum(weights, axis=-1)
    gates = slots.unit if spec.dotr else jnp.ones_like(slots.unit[..., :1])
    return weights * _gates(gates, rows), jnp.where(total > 0, total, 1.0)


def _logits(
    rows: _Rows, spec: AttentionSpec, gate: Float[Array, "*b slots"] | Float[Array, ""]
) -> Float[Array, "*pairs"]:
    """The logits times the gates of both slots."""
    q = rows.q * (rows.scale_q * gate * spec.scaling).astype(rows.q.dtype)[..., None]
    k = rows.k * (rows.scale_k * gate).astype(rows.k.dtype)[..., None]
    return einsum("...nd,...md->...nm", q, k).astype(rows.scale_q.dtype)


def _gates(x: Float[Array, "block slots dim"], rows: _Rows) -> Float[Array, "*b n m"]:
    """Scalar products of all pairs of slots, times the scale of the value that the weight is for."""
    x = _per_head(x, rows.q).astype(rows.scale_v.dtype)
    return einsum("...nx,...mx->...nm", x, x * rows.scale_v[..., None])


def _wide(x: Array) -> np.dtype:
    """Half precisions lack the range of exp(20): logits and softmax are float32 there."""
    return np.promote_types(x.dtype, np.float32) if x.dtype.itemsize < 4 else x.dtype


def _per_head(x: Shaped[Array, "block *axes"], q: Float[Array, "*b slots dim"]) -> Shaped[Array, "block ..."]:
    """The same for each head, where q has an axis of heads."""
    return x[:, None] if q.ndim == 4 else x


def gated_attention(
    g: Float[Array, "block slots width"],
    weights: AttentionWeights | FoldedWeights,
    slots: Slots,
    spec: AttentionSpec,
) -> Float[Array, "block slots width"]:
    """The attention output, before residual and normalisation."""
    if isinstance(weights, FoldedWeights):
        rows, out_b = _folded_rows(g, weights), weights.out_b
    else:
        rows, out_b = _plain_rows(g, weights, spec), weights.out.b
    a, total = (_smooth_weights if spec.smooth else _masked_weights)(rows, slots, spec)
    scale = 1.0 / total[..., None]
    if a.dtype != g.dtype:  # half precisions hold quotients, but not what is divided
        a, scale = (a * scale).astype(g.dtype), 1.0
    o = jnp.matmul(a, rows.v, precision=EXACT) * scale
    if isinstance(weights, AttentionWeights) and spec.num_heads > 1:
        o = matmul(o.transpose(0, 2, 1, 3).reshape(*g.shape[:2], -1), weights.out.w)
    return o if out_b is None else o + per_row(out_b, o)


@partial(jax.jit, static_argnums=3)  # layers are alike: traced once, not once for each
def attention_layer(
    g: Float[Array, "block slots width"],
    weights: AttentionWeights | FoldedWeights,
    slots: Slots,
    spec: AttentionSpec,
) -> Float[Array, "block slots width"]:
    """Attention, residual and normalisation."""
    a = gated_attention(g, weights, slots, spec)
    if spec.attn_norm == "branch":
        return g + layer_norm(a, weights.ln_w, weights.ln_b, spec.ln_eps)
    return layer_norm(g + a, weights.ln_w, weights.ln_b, spec.ln_eps)
