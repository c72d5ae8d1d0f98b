"""Variations of the training images, made on the device as the batches are."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any


def shift(pixels: int) -> Callable[..., tuple[Any, Any]]:
    """A transform for `loops.Batches` that moves each image a little; black comes in at the edge.

    Args:
      pixels: The longest way up, down, left or right; each image gets its own, at random.

    Reference:
      LeCun et al. 1998, section III-A, where translations are among the distortions used.
    """
    import tensorflow as tf

    def transform(x: Any, y: Any, seed: Any) -> tuple[Any, Any]:
        count, height, width = tf.shape(x)[0], x.shape[1], x.shape[2]
        padded = tf.pad(x, [[0, 0], [pixels, pixels], [pixels, pixels], [0, 0]])
        corner = tf.random.stateless_uniform((count, 2), seed, 0, 2 * pixels + 1, tf.int32)
        rows = tf.gather(padded, corner[:, :1] + tf.range(height), axis=1, batch_dims=1)
        return tf.gather(rows, corner[:, 1:] + tf.range(width), axis=2, batch_dims=1), y

    return transform
