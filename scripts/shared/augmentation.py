"""Variations of the training images, made on the device as the batches are."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Protocol

if TYPE_CHECKING:
    import tensorflow as tf


class Transform(Protocol):
    """Images [n, height, width, channels], labels [n] and a seed [2] to other images and the labels."""

    def __call__(self, x: tf.Tensor, y: tf.Tensor, seed: tf.Tensor) -> tuple[tf.Tensor, tf.Tensor]: ...


PHOTOS = ("flip", "shift")
_PHOTO_SHIFT = 1 / 12  # of the side: 8 of 96 pixels


def shift(pixels: int, edge: str = "CONSTANT") -> Transform:
    """A transform for `loops.Batches` that moves each image at random, at most so far up, down and sideways.

    What comes in at the edge is as `tf.pad` calls it: black, or `"REFLECT"` for a mirror image.

    Reference: LeCun et al. 1998, section III-A, where translations are among the distortions used.
    """
    import tensorflow as tf

    def transform(x: tf.Tensor, y: tf.Tensor, seed: tf.Tensor) -> tuple[tf.Tensor, tf.Tensor]:
        count, height, width = tf.shape(x)[0], x.shape[1], x.shape[2]
        padded = tf.pad(x, [[0, 0], [pixels, pixels], [pixels, pixels], [0, 0]], edge)
        corner = tf.random.stateless_uniform((count, 2), seed, 0, 2 * pixels + 1, tf.int32)
        rows = tf.gather(padded, corner[:, :1] + tf.range(height), axis=1, batch_dims=1)
        return tf.gather(rows, corner[:, 1:] + tf.range(width), axis=2, batch_dims=1), y

    return transform


def flip() -> Transform:
    """A transform for `loops.Batches` that mirrors about half of the images, left to right."""
    import tensorflow as tf

    def transform(x: tf.Tensor, y: tf.Tensor, seed: tf.Tensor) -> tuple[tf.Tensor, tf.Tensor]:
        # Another stream of random numbers than that of `shift`, which is given the same seed.
        seed = tf.convert_to_tensor(seed) + tf.constant([0, 1 << 30])
        mirrored = tf.random.stateless_uniform((tf.shape(x)[0], 1, 1, 1), seed) < 0.5
        return tf.where(mirrored, tf.reverse(x, [2]), x), y

    return transform


def photos(names: Sequence[str], side: int) -> Transform | None:
    """What `finetune.py --augment` names, as one transform of images of this side; None for nothing.

    A shift goes up to a twelfth of the side, with a mirror image at the edge.
    """
    steps = [flip()] if "flip" in names else []
    if "shift" in names:
        steps.append(shift(max(1, round(_PHOTO_SHIFT * side)), "REFLECT"))
    if not steps:
        return None

    def transform(x: tf.Tensor, y: tf.Tensor, seed: tf.Tensor) -> tuple[tf.Tensor, tf.Tensor]:
        for step in steps:
            x, y = step(x, y, seed)
        return x, y

    return transform
