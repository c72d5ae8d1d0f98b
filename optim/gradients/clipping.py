"""Clipping as Keras' optimizers are set to do it, of gradients that are whole."""

from __future__ import annotations

from collections.abc import Sequence

import keras
import tensorflow as tf

from .sparse import Gradient, times


def clipped(
    optimizer: keras.optimizers.Optimizer,
    gradients: Sequence[Gradient],
    counted: Sequence[tf.Tensor] | None = None,
) -> list[Gradient]:
    """Clips gradients by an optimizer's `clipnorm`, `clipvalue` or `global_clipnorm`.

    Args:
        optimizer: the optimizer; if it is set to none of these, gradients stay as they are.
        gradients: sums over all replicas; sparse ones with each row once.
        counted: scalar bool for each: whether it counts for the global norm; None for all.
    """
    if optimizer.clipnorm:
        return [tf.clip_by_norm(gradient, optimizer.clipnorm) for gradient in gradients]
    if optimizer.clipvalue:
        limit = optimizer.clipvalue
        return [tf.clip_by_value(gradient, -limit, limit) for gradient in gradients]
    if optimizer.global_clipnorm:
        factor = _factor(gradients, optimizer.global_clipnorm, counted)
        return [times(gradient, tf.cast(factor, gradient.dtype)) for gradient in gradients]
    return list(gradients)


def _factor(gradients: Sequence[Gradient], limit: float, counted: Sequence[tf.Tensor] | None) -> tf.Tensor:
    """What brings the norm of the counted gradients together down to `limit`; NaN if one is not finite."""
    wide = tf.float64 if any(gradient.dtype == tf.float64 for gradient in gradients) else tf.float32
    values = [g.values if isinstance(g, tf.IndexedSlices) else g for g in gradients]
    squares = [tf.reduce_sum(tf.square(tf.cast(value, wide))) for value in values]
    if counted is not None:
        squares = [tf.where(counts, square, 0) for counts, square in zip(counted, squares)]
    norm = tf.sqrt(tf.add_n(squares))
    return limit * tf.minimum(1.0 / norm, 1.0 / limit) + (norm - norm)
