"""The update of a Keras metric that has a state of its own."""

from __future__ import annotations

import keras
import tensorflow as tf

from ...optim.common.types import Tensors
from ..distribute.sharding import Shard
from ..support.keras_private import keras_mask, with_keras_mask, wrapped_function
from ..support.scalars import recording_disabled
from .batch_dependent import check_metric_is_per_example, check_state_is_additive, is_known
from .weights import as_columns, by_position, expand_to_rank, fitted, squeeze_to_rank

# Of outputs of shape (batch,), these take the whole: they are no means over examples.
_OF_BATCHES = tuple(
    getattr(keras.metrics, name)
    for name in ("PearsonCorrelation", "ConcordanceCorrelation")
    if hasattr(keras.metrics, name)  # not in every Keras
)


def update(
    metric: keras.metrics.Metric,
    y: Tensors,
    predictions: Tensors,
    weight: Tensors,
    shard: Shard | None = None,
) -> None:
    """`metric.update_state`, with weights of examples as that metric takes them.

    On replicas it is given no more than on one device. Where each of them has all examples of a batch, the
    first one's metric alone sees them: not every metric heeds weights, and some count what has a weight of 0.

    Args:
        metric: whose state is summed over replicas.
        y, predictions: (batch, ...), with the mask that Keras attached to the predictions.
        weight: sample weights, (batch,) or (batch, ...); None for 1.
        shard: on several replicas, what the examples of this one count.
    """
    wraps = isinstance(metric, keras.metrics.MeanMetricWrapper) and is_known(type(metric).update_state)
    if wraps:
        y, predictions, weight = _of_wrapped(metric, y, predictions, weight, parts=shard is not None)
    else:
        weight = _weights(metric, y, weight)

    def run() -> tf.Tensor:
        metric.update_state(y, predictions, sample_weight=weight)
        return tf.constant(True)

    if shard is None:
        run()
        return
    if not wraps:
        check_state_is_additive(metric, y, predictions)
    replica = tf.distribute.get_replica_context().replica_id_in_sync_group
    tf.cond(tf.logical_or(tf.equal(replica, 0), shard.weight >= 1.0), run, lambda: tf.constant(False))


def _of_wrapped(
    metric: keras.metrics.MeanMetricWrapper, y: Tensors, predictions: Tensors, weight: Tensors, parts: bool
) -> tuple[Tensors, Tensors, Tensors]:
    """Targets, predictions and weights for the mean of a function, as the loss of that function takes them.

    `parts` is whether they are a part of a batch, which not every function can have.
    """
    mask = keras_mask(predictions)
    if not isinstance(metric, _OF_BATCHES):
        y, predictions = as_columns(y, predictions)
    if weight is None and mask is None and not parts:
        return y, predictions, None
    function = wrapped_function(metric)
    with recording_disabled():  # it runs once more in the update
        values = function(y, predictions)
    if parts:
        check_metric_is_per_example(metric.name, function, (y, predictions), values)
    by_keras = getattr(function, "__wrapped__", function)
    if (apart := by_position(by_keras, y, predictions, values, [mask, weight])) is not None:
        y, predictions = apart[0], with_keras_mask(apart[1], mask)
    mask = keras_mask(values) if mask is None else mask  # `ignore_class` hangs one on the values
    if weight is not None and mask is not None:
        weight = expand_to_rank(weight, mask.shape.rank)
    return y, predictions, weight


def _weights(metric: keras.metrics.Metric, y: Tensors, weight: Tensors) -> Tensors:
    """Weights of examples in the shape in which one of Keras' metrics takes them for what they are."""
    if weight is None or not tf.is_tensor(y) or not type(metric).__module__.startswith("keras."):
        return weight
    if isinstance(metric, keras.metrics.IoU):  # it lays out labels and weights in a row
        labels = y if metric.sparse_y_true else tf.argmax(y, metric.axis)
        return tf.broadcast_to(fitted(weight, tf.cast(labels, weight.dtype)), tf.shape(labels))
    rank = (y.shape.rank or 0) - 1  # weights (batch,) stay so where `y` has a dimension or two
    return expand_to_rank(squeeze_to_rank(weight, rank), rank)
