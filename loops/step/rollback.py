"""Restoring the state that the forward pass of a failed step wrote."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor

import tensorflow as tf

from ...optim.common.types import Batch
from ..support.tensorflow_private import run_before
from ..support.writes import Writes, key_of


class ForwardState:
    """Copies of the state that a forward pass writes (moving statistics, states of RNNs, metrics).

    The forward pass runs before it is known whether the step is bad; the copies restore what it wrote after
    an error has ended the step, wherever that was.
    """

    def __init__(self) -> None:
        self._copies: dict[int, tuple[tf.Variable, tf.Variable]] = {}

    def keep(self, writes: Writes, batch: Batch) -> None:
        """Copies what was written as it was before, each time before `batch` is read."""
        done = [
            self._copy_of(write.variable).assign(write.before, read_value=False)
            for write in writes.first.values()
        ]
        if not tf.executing_eagerly():
            leaves = tf.nest.flatten(batch, expand_composites=True)
            run_before(done, [leaf for leaf in leaves if isinstance(leaf, tf.Tensor)])

    def restore(self) -> None:
        """Assigns the copies back."""
        for variable, copy in self._copies.values():
            variable.assign(copy)

    def _copy_of(self, variable: tf.Variable) -> tf.Variable:
        key = key_of(variable)
        if key not in self._copies:
            # Another thread is outside of the function being traced and of any strategy's scope.
            with ThreadPoolExecutor(1) as thread:
                self._copies[key] = variable, thread.submit(_copy, variable).result()
        return self._copies[key][1]


def _copy(variable: tf.Variable) -> tf.Variable:
    with tf.device(variable.device):
        return tf.Variable(tf.zeros(variable.shape, variable.dtype), trainable=False)
