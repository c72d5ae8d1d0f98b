"""Clipping of gradients that are summed over replicas."""

from __future__ import annotations

from collections.abc import Sequence

import keras
import tensorflow as tf

from ..common.types import Gradient, Scalar
from .sparse import times


def clip_by_global_norm(
    gradients: Sequence[Gradient], limit: float, counted: Sequence[Scalar] | None = None
) -> list[Gradient]:
    """Scales all gradients by one factor, so that their norm together is at most `limit`.

    As `tf.clip_by_global_norm`, also for gradients of several dtypes: sums over all replicas, sparse ones
    with each row once. All become NaN if one is not finite. `counted` is a scalar bool for each, whether it
    counts for the norm; None for all.
    """
    wide = tf.float64 if any(gradient.dtype == tf.float64 for gradient in gradients) else tf.float32
    values = [g.values if isinstance(g, tf.IndexedSlices) else g for g in gradients]
    half_squares = [tf.nn.l2_loss(tf.cast(value, wide)) for value in values]
    if counted is not None:
        half_squares = [tf.where(counts, square, 0) for counts, square in zip(counted, half_squares)]
    norm = tf.sqrt(tf.reduce_sum(tf.stack(half_squares)) * 2.0)
    number = wide.as_numpy_dtype
    factor = limit * tf.minimum(1.0 / norm, number(1.0) / number(limit)) + (norm - norm)
    return [times(gradient, tf.cast(factor, gradient.dtype)) for gradient in gradients]


def clip_as_set(
    optimizer: keras.optimizers.Optimizer,
    gradients: Sequence[Gradient],
    counted: Sequence[Scalar] | None = None,
) -> list[Gradient]:
    """Clips by an optimizer's `clipnorm`, `clipvalue` or `global_clipnorm`, for which `counted` is."""
    # Keras' order, which matters where several are set after the optimizer was made.
    if (optimizer.clipnorm or 0) > 0:
        return [tf.clip_by_norm(gradient, optimizer.clipnorm) for gradient in gradients]
    if (optimizer.global_clipnorm or 0) > 0:
        return clip_by_global_norm(gradients, optimizer.global_clipnorm, counted)
    if (optimizer.clipvalue or 0) > 0:
        limit = optimizer.clipvalue
        return [tf.clip_by_value(gradient, -limit, limit) for gradient in gradients]
    return list(gradients)
