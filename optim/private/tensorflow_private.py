"""Everything of TensorFlow that is not its public interface and that this package leans on.

`tests/optim/test_tensorflow_private.py` says at once when a new version changes one of these.
"""

from __future__ import annotations

import tensorflow as tf
from tensorflow.python.eager import context
from tensorflow.python.ops import control_flow_util


def scratch(value: tf.Tensor) -> tf.Tensor:
    """The handle of a nameless variable that starts as `value` and is freed when nothing refers to it.

    `tf.Variable` cannot be made in a traced function; its parts can. Not for functions compiled by XLA.
    """
    handle = tf.raw_ops.VarHandleOp(
        dtype=value.dtype, shape=value.shape, shared_name=context.anonymous_name()
    )
    tf.raw_ops.AssignVariableOp(resource=handle, value=value)
    return handle


def inside_xla() -> bool:
    """Whether what is being traced is to be compiled by XLA as a whole (`tf.function(jit_compile=True)`)."""
    if tf.executing_eagerly():
        return False
    return bool(control_flow_util.GraphOrParentsInXlaContext(tf.compat.v1.get_default_graph()))
