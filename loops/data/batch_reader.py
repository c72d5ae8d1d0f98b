"""Batches out of arrays, by their indices, as TensorFlow operations."""

from __future__ import annotations

import dataclasses
import inspect
from collections.abc import Callable
from typing import TypeAlias

import keras
import tensorflow as tf

from ...optim.common.types import Batch, Scalar, Tensors
from .arrays import map_tensors, tensors_in

MAX_SEED = 2**31
Whole: TypeAlias = int | Scalar
# A user's function of `(x, y)`, and of `seed` if it has such a parameter, that returns another `(x, y)`.
Transform: TypeAlias = Callable[..., tuple[Tensors, Tensors]]


@dataclasses.dataclass(frozen=True)
class BatchReader:
    """How batches are read, apart from the data: equal readers share a traced loop.

    Attributes:
        batch_size, transform: as in `Batches`.
        size: how many examples each batch holds, where that is known while tracing; None for any number.
    """

    batch_size: int
    transform: Transform | None
    size: int | None = None

    def one_batch(self, arrays: Batch) -> Batch:
        """Returns a batch of the first, or of all examples: one of its shapes."""
        examples = self.size or tf.shape(tensors_in(arrays)[0], tf.int64)[0]
        return self.gather(arrays, tf.range(examples), 0, 0, 0)

    def gather(self, arrays: Batch, indices: tf.Tensor, seed: Whole, epoch: Whole, position: Whole) -> Batch:
        """Returns the batch of the examples of `Batches.arrays` at `indices`, int64, (batch,), transformed.

        The data's seed, the epoch and the batch's position in it make the seed of the transform.
        """
        if self.size is not None:
            indices = tf.ensure_shape(indices, [self.size])
        batch = map_tensors(lambda array: tf.gather(array, indices), arrays)
        if self.transform is None:
            return batch
        x, y, weight = keras.utils.unpack_x_y_sample_weight(batch)
        if "seed" in inspect.signature(self.transform).parameters:
            mixed = tf.cast(seed, tf.int64) * 1_000_003 + tf.cast(epoch, tf.int64)
            seeds = tf.cast(tf.stack([mixed % MAX_SEED, tf.cast(position, tf.int64)]), tf.int32)
            x, y = self.transform(x, y, seed=seeds)
        else:
            x, y = self.transform(x, y)
        return keras.utils.pack_x_y_sample_weight(x, y, weight)
