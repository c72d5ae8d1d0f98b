"""Histograms of weights and gradients, counted on the device."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import tensorflow as tf

from ...optim.common.types import Array, Gradient

BUCKETS = 30
# A smaller range is too small to be divided in float32.
_NARROW = 1e-30


class Histograms:
    """Counts of the elements of tensors, in buckets of equal width from the smallest to the largest one.

    As `numpy.histogram` has them, up to elements within rounding of an edge. What is NaN or infinite is left
    out.

    Args:
        tags: of the tensors.
    """

    def __init__(self, tags: Sequence[str]) -> None:
        self._tags = list(tags)
        # The first and the last edge, then the counts.
        self._values = tf.Variable(tf.zeros([len(tags), 2 + BUCKETS], tf.float64), trainable=False)

    def count(self, tensors: Sequence[Gradient]) -> None:
        """Counts the elements of a tensor for each tag, of sparse ones the zeros too."""
        flat = [tf.reshape(tf.convert_to_tensor(tensor), [-1]) for tensor in tensors]
        flat = [v if v.dtype in (tf.float32, tf.float64) else tf.cast(v, tf.float32) for v in flat]
        ends = [(tf.reduce_min(value), tf.reduce_max(value)) for value in flat]
        # NaN and infinities pass through minimum or maximum, and a range may be too large for float32.
        fine = tf.reduce_all([tf.math.is_finite(high - low) for low, high in ends])

        def of_finite() -> tf.Tensor:
            wide = [tf.cast(tf.boolean_mask(value, tf.math.is_finite(value)), tf.float64) for value in flat]
            return tf.stack([_row(value, tf.reduce_min(value), tf.reduce_max(value)) for value in wide])

        rows = tf.cond(
            fine,
            lambda: tf.stack([_row(value, *those) for value, those in zip(flat, ends)]),
            of_finite,
        )
        self._values.assign(rows, read_value=False)

    def read(self) -> dict[str, tuple[Array, Array]]:
        """Tag -> counts, (buckets,), and edges, (buckets + 1,), of the last tensors."""
        rows = self._values.numpy()
        return {
            tag: (row[2:], np.linspace(row[0], row[1], BUCKETS + 1)) for tag, row in zip(self._tags, rows)
        }


def _row(value: tf.Tensor, low: tf.Tensor, high: tf.Tensor) -> tf.Tensor:
    """The ends of a vector of finite numbers, and the counts between them: float64, (2 + buckets,)."""
    there = tf.math.is_finite(low)  # of no elements, the minimum is infinite
    low, high = tf.where(there, low, 0.0), tf.where(there, high, 1.0)
    # All alike: half a unit on either side, as NumPy has it, or what a large number can tell apart.
    half = tf.maximum(tf.cast(0.5, low.dtype), 1e-6 * tf.abs(low))
    differ = high - low > _NARROW
    half = tf.where(differ, tf.zeros_like(half), half)
    ends = tf.stack([low - half, high + half])
    counts = tf.histogram_fixed_width(value, ends, BUCKETS)
    # In the middle there is an edge, and which side of it they are on would be chance.
    counts = tf.where(differ, counts, tf.size(value) * tf.one_hot(BUCKETS // 2, BUCKETS, dtype=tf.int32))
    return tf.concat([tf.cast(ends, tf.float64), tf.cast(counts, tf.float64)], 0)
