"""Histograms of weights and gradients, counted on the device."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import tensorflow as tf

from ...optim.common.types import Array, Gradient

BUCKETS = 30
# The smallest range that float32 can divide into buckets.
_MIN_RANGE = 1e-30


class Histograms:
    """Histograms of tensors: counts in buckets of equal width from the smallest to the largest element.

    The counts are those of `numpy.histogram`, except for elements within rounding of an edge. NaN and
    infinities are left out.

    Args:
        tags: of the tensors.
    """

    def __init__(self, tags: Sequence[str]) -> None:
        self._tags = list(tags)
        # The first and the last edge, then the counts.
        self._values = tf.Variable(tf.zeros([len(tags), 2 + BUCKETS], tf.float64), trainable=False)

    def count(self, tensors: Sequence[Gradient]) -> None:
        """Counts the elements of a tensor for each tag; of a sparse tensor, also the zeros."""
        flat = [tf.reshape(tf.convert_to_tensor(tensor), [-1]) for tensor in tensors]
        flat = [v if v.dtype in (tf.float32, tf.float64) else tf.cast(v, tf.float32) for v in flat]
        lows, highs = _ends(flat)
        # Minimum and maximum show NaN and infinities; a range may also be too large for float32.
        simple = tf.reduce_all(highs - lows < tf.float32.max)

        def of_finite() -> tf.Tensor:
            wide = [tf.cast(value, tf.float64) for value in flat]
            finite = [tf.gather_nd(value, tf.where(tf.math.is_finite(value))) for value in wide]
            return _rows(finite, *_ends(finite))

        rows = tf.cond(simple, lambda: _rows(flat, lows, highs), of_finite)
        self._values.assign(rows, read_value=False)

    def read(self) -> dict[str, tuple[Array, Array]]:
        """Tag -> counts, (buckets,), and edges, (buckets + 1,), of the last tensors."""
        rows = self._values.numpy()
        return {
            tag: (row[2:], np.linspace(row[0], row[1], BUCKETS + 1)) for tag, row in zip(self._tags, rows)
        }


def _ends(values: Sequence[tf.Tensor]) -> tuple[tf.Tensor, tf.Tensor]:
    """The smallest and the largest element of each vector: float64, (vectors,) each."""
    lows, highs = ([tf.cast(end(v), tf.float64) for v in values] for end in (tf.reduce_min, tf.reduce_max))
    return tf.stack(lows), tf.stack(highs)


def _rows(values: Sequence[tf.Tensor], lows: tf.Tensor, highs: tf.Tensor) -> tf.Tensor:
    """First and last edge of each vector of finite numbers, and counts: float64, (vectors, 2 + buckets).

    Small computations are done for all vectors together, since an operation for each takes long to trace.
    """
    nonempty = tf.math.is_finite(lows)  # the minimum of no elements is infinite
    lows, highs = tf.where(nonempty, lows, 0.0), tf.where(nonempty, highs, 1.0)
    # All elements equal: a range of half a unit on either side, as in NumPy, or more for large numbers.
    half = tf.maximum(tf.constant(0.5, tf.float64), 1e-6 * tf.abs(lows))
    differ = highs - lows > _MIN_RANGE
    half = tf.where(differ, tf.zeros_like(half), half)
    ends = tf.stack([lows - half, highs + half], 1)
    ranges = {dtype: tf.unstack(tf.cast(ends, dtype)) for dtype in {value.dtype for value in values}}
    counted = [
        tf.histogram_fixed_width(value, ranges[value.dtype][index], BUCKETS)
        for index, value in enumerate(values)
    ]
    counts = tf.cast(tf.stack(counted), tf.float64)
    # Equal elements lie on the edge in the middle, where rounding would choose the bucket.
    middle = tf.reduce_sum(counts, 1, keepdims=True) * tf.one_hot(BUCKETS // 2, BUCKETS, dtype=tf.float64)
    return tf.concat([ends, tf.where(differ[:, None], counts, middle)], 1)
