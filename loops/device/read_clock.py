"""How long a step waits for its batch."""

from __future__ import annotations

import math
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import NamedTuple

import tensorflow as tf

from ...optim.common.types import Batch
from ..data.arrays import tensors_in
from ..distribute.sharding import LazyBatch, examples_in


class StepTime(NamedTuple):
    """When a step ran, in seconds since the epoch.

    Attributes:
        began: when it asked for its batch.
        ended: when its results were there.
        waited: seconds from `began` until it had its batch; NaN if it was given one.
        examples: in the batch, of all replicas.
    """

    began: float
    ended: float
    waited: float
    examples: int


class ReadClock:
    """Times how a step that runs alone reads its batch: on the device, as nothing else knows how long it was.

    Replicas that read their own examples from arrays in memory do so within the step, and wait for none.
    """

    def __init__(self) -> None:
        # Another thread is outside of any strategy's scope, so the variable belongs to none.
        with ThreadPoolExecutor(1) as thread:
            zeros = tf.zeros([3], tf.float64)
            self._values = thread.submit(tf.Variable, zeros, trainable=False).result()

    def given(self, batch: Batch) -> None:
        """Takes down that the step is given a batch."""
        self._take_down(batch, tf.timestamp(), tf.constant(math.nan, tf.float64))

    def read(self, read: Callable[[], Batch | LazyBatch]) -> Batch | LazyBatch:
        """Returns what `read` does, and takes down how long that took."""
        began = tf.timestamp()
        with tf.control_dependencies([began]):
            batch = read()
        if isinstance(batch, LazyBatch):
            self._take_down(batch, began, tf.zeros([], tf.float64))
            return batch
        with tf.control_dependencies(tf.nest.flatten(tensors_in(batch), expand_composites=True)):
            self._take_down(batch, began, tf.timestamp() - began)
        return batch

    def time(self) -> StepTime:
        """Of the last step; its results must be there."""
        ended = time.time()
        began, waited, examples = self._values.value().numpy().tolist()
        return StepTime(began, ended, waited, int(examples))

    def _take_down(self, batch: Batch | LazyBatch, began: tf.Tensor, waited: tf.Tensor) -> None:
        examples: tf.Tensor
        if not isinstance(batch, LazyBatch):
            examples = examples_in(batch)
        else:
            examples = tf.size(batch.indices) if batch.shard is None else batch.shard[0]
        values = [began, waited, tf.cast(examples, tf.float64)]
        self._values.assign(tf.stack(values), read_value=False)
