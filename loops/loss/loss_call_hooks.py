"""Keras losses that a user's loss function calls: they count as they do where a step is given them."""

from __future__ import annotations

import keras
import tensorflow as tf

from ...optim.common.types import Tensors
from ..support.method_hooks import Hooks, Method
from .keras_loss import loss_value
from .mean_loss import STEP_LOSS


def _counted(method: Method) -> Method:
    def call(
        loss: keras.losses.Loss, y_true: Tensors, y_pred: Tensors, sample_weight: Tensors = None
    ) -> Tensors:
        step = STEP_LOSS.get()
        own = type(loss).__call__ is not keras.losses.Loss.__call__
        if step is None or own or loss.reduction in (None, "none") or not _in_graph_of(step.examples):
            return method(loss, y_true, y_pred, sample_weight)
        # A conversion would drop the mask that Keras attached.
        y_true, y_pred = tf.nest.map_structure(
            lambda value: value if value is None or tf.is_tensor(value) else tf.convert_to_tensor(value),
            (y_true, y_pred),
        )
        weight = None if sample_weight is None else tf.convert_to_tensor(sample_weight)
        return step.taken(loss_value(loss, y_true, y_pred, weight, step.examples, step.parts))

    return call


def _in_graph_of(tensor: tf.Tensor) -> bool:
    """Whether the step can use what is made now: not in a `tf.function` or a loop inside it."""
    return tf.executing_eagerly() or getattr(tensor, "graph", None) is tf.compat.v1.get_default_graph()


# While a loss function runs: masks and weights, of which each replica and each batch has its own number, are
# heeded, and a loss that takes the examples of a batch together is refused where a batch has parts.
LOSS_CALL_HOOKS = Hooks(lambda: [(keras.losses.Loss, "__call__", _counted)])
