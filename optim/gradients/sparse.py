"""Sparse gradients whose rows may repeat."""

from __future__ import annotations

import tensorflow as tf

from ..common.types import Gradient, Scalar


def without_repeats(gradient: Gradient) -> Gradient:
    """The same gradient with each row once; a dense one as it is.

    An embedding that a batch looks up twice has two slices for the row. Its gradient is their sum, so what is
    not linear (a norm, a square) must see the sum.
    """
    if not isinstance(gradient, tf.IndexedSlices):
        return gradient
    rows, positions = tf.unique(gradient.indices)
    values = tf.math.unsorted_segment_sum(gradient.values, positions, tf.size(rows))
    return tf.IndexedSlices(values, rows, gradient.dense_shape)


def times(gradient: Gradient, factor: float | Scalar) -> Gradient:
    """A gradient times a number."""
    if not isinstance(gradient, tf.IndexedSlices):
        return gradient * factor
    return tf.IndexedSlices(gradient.values * factor, gradient.indices, gradient.dense_shape)


def where(condition: Scalar, gradient: Gradient) -> Gradient:
    """The gradient if a scalar condition holds, else zero, even in place of NaN."""
    if not isinstance(gradient, tf.IndexedSlices):
        return tf.where(condition, gradient, tf.zeros_like(gradient))
    values = tf.where(condition, gradient.values, tf.zeros_like(gradient.values))
    return tf.IndexedSlices(values, gradient.indices, gradient.dense_shape)
