"""Rolls back the state that the forward pass of a failed step wrote."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor

import tensorflow as tf

from ...optim.common.types import Batch
from ..support.tensorflow_private import run_before
from ..support.variable_writes import VariableWrites, variable_key


class ForwardState:
    """Copies of the state that a forward pass writes (moving statistics, states of RNNs, metrics).

    The forward pass runs before the gradients are checked. After an error anywhere in the step, the copies
    restore what it wrote.
    """

    def __init__(self) -> None:
        self._copies: dict[int, tuple[tf.Variable, tf.Variable]] = {}

    def backup(self, writes: VariableWrites, batch: Batch) -> None:
        """Copies the values from before the writes; in a graph, whenever it runs, before it reads `batch`."""
        copies = [
            self._copy_of(write.variable).assign(write.before, read_value=False)
            for write in writes.first.values()
        ]
        if not tf.executing_eagerly():
            leaves = tf.nest.flatten(batch, expand_composites=True)
            run_before(copies, [leaf for leaf in leaves if isinstance(leaf, tf.Tensor)])

    def restore(self) -> None:
        """Assigns the copies back."""
        for variable, copy in self._copies.values():
            variable.assign(copy)

    def _copy_of(self, variable: tf.Variable) -> tf.Variable:
        key = variable_key(variable)
        if key not in self._copies:
            # In another thread, to be outside of the function being traced and of any strategy's scope.
            with ThreadPoolExecutor(1) as thread:
                self._copies[key] = variable, thread.submit(_copy, variable).result()
        return self._copies[key][1]


def _copy(variable: tf.Variable) -> tf.Variable:
    with tf.device(variable.device):
        return tf.Variable(tf.zeros(variable.shape, variable.dtype), trainable=False)
