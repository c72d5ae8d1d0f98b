"""What this package uses of TensorFlow's private interface.

`tests/optim/private/test_tensorflow_private.py` tries each on the oldest and the newest TensorFlow.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import tensorflow as tf
from tensorflow.python.eager import context
from tensorflow.python.ops import control_flow_util


def scratch(value: tf.Tensor) -> tf.Tensor:
    """The handle of a nameless variable with the value `value`; freed when nothing refers to it.

    A traced function cannot make a `tf.Variable`, but it can make its resource. XLA cannot compile this.
    """
    handle = tf.raw_ops.VarHandleOp(
        dtype=value.dtype, shape=value.shape, shared_name=context.anonymous_name()
    )
    tf.raw_ops.AssignVariableOp(resource=handle, value=value)
    return handle


def node_lists(graph: tf.compat.v1.GraphDef) -> list[Sequence[Any]]:
    """The nodes of a graph, then those of each function in it; names are unique within one list alone."""
    return [graph.node, *(function.node_def for function in graph.library.function)]


def inside_xla() -> bool:
    """Whether the function being traced is compiled by XLA as a whole (`tf.function(jit_compile=True)`)."""
    if tf.executing_eagerly():
        return False
    return bool(control_flow_util.GraphOrParentsInXlaContext(tf.compat.v1.get_default_graph()))
