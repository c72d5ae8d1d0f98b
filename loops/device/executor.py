"""Which TensorFlow executor runs a small model's device loop.

TensorFlow's default executor hands ready operations to a pool of threads. For a network of a few small
matrix products the hand-over costs more than the arithmetic: on two CPU cores a 784-10 softmax step takes
a third less time when one thread runs its operations in turn. A convolution splits its own work over the
cores and gains nothing, so it has the default.
"""

from __future__ import annotations

import contextlib

import keras
import tensorflow as tf

from ...optim import variable_infos
from ...optim.private.tensorflow_private import node_lists
from ..support.tensorflow_private import single_threaded

# Above this many weights a step is arithmetic rather than overhead.
SMALL_MODEL_WEIGHTS = 200_000


def suits_one_thread(model: keras.Model) -> bool:
    """Whether steps of `model` are faster on one thread: dense, small, on a machine without accelerators."""
    if len(tf.config.list_logical_devices()) != 1:
        return False
    infos = variable_infos(model)
    dense = all(len(info.variable.shape) <= 2 for info in infos)
    return dense and sum(info.variable.shape.num_elements() for info in infos) <= SMALL_MODEL_WEIGHTS


def executor(one_thread: bool) -> contextlib.AbstractContextManager[object]:
    """Returns the context in which a device loop is traced and called."""
    # While functions run eagerly, nobody has checked what the step calls (see `nests_calls`).
    one_thread = one_thread and not tf.config.functions_run_eagerly()
    return single_threaded() if one_thread else contextlib.nullcontext()


_LOOPS = {"While", "StatelessWhile"}
# Operations that call a function and wait for it.
_CALLS = _LOOPS | {"If", "StatelessIf", "Case", "StatelessCase", "PartitionedCall", "StatefulPartitionedCall"}


def nests_calls(function: tf.types.experimental.ConcreteFunction) -> bool:
    """Whether the functions that a function calls, such as its loop's body, call others in turn.

    On one thread, such an operation may block the thread that the function under it needs, for ever.
    """
    own, *called = node_lists(function.graph.as_graph_def())
    nested = any(node.op in _CALLS for nodes in called for node in nodes)
    return nested or any(node.op in _CALLS - _LOOPS for node in own)
