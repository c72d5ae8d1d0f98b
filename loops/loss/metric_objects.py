"""The update of a Keras metric that has a state of its own."""

from __future__ import annotations

import keras
import tensorflow as tf

from ...optim.common.types import Tensors
from ..distribute.sharding import Shard
from ..support.keras_private import keras_mask, wrapped_function
from ..support.scalars import nothing_recorded
from .coupled import check_function_splits, check_state_adds_up, is_known
from .weights import as_columns, expand_to_rank, fitted, squeeze_to_rank

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
    if wraps and not isinstance(metric, _OF_BATCHES):
        y, predictions = as_columns(y, predictions)

    def run() -> tf.Tensor:
        metric.update_state(y, predictions, sample_weight=_weights(metric, y, predictions, weight))
        return tf.constant(True)

    if shard is None:
        run()
        return
    if wraps:
        function = wrapped_function(metric)
        with nothing_recorded():
            check_function_splits(metric.name, function, (y, predictions), function(y, predictions))
    else:
        check_state_adds_up(metric, y, predictions)
    replica = tf.distribute.get_replica_context().replica_id_in_sync_group
    tf.cond(tf.logical_or(tf.equal(replica, 0), shard.weight >= 1.0), run, lambda: tf.constant(False))


def _weights(metric: keras.metrics.Metric, y: Tensors, predictions: Tensors, weight: Tensors) -> Tensors:
    """Weights of examples in the shape in which one of Keras' metrics takes them for what they are."""
    if weight is None or not tf.is_tensor(y) or not type(metric).__module__.startswith("keras."):
        return weight
    if isinstance(metric, keras.metrics.MeanMetricWrapper):
        mask = keras_mask(predictions)
        return weight if mask is None else expand_to_rank(weight, mask.shape.rank)
    if isinstance(metric, keras.metrics.IoU):  # it lays out labels and weights in a row
        labels = y if metric.sparse_y_true else tf.argmax(y, metric.axis)
        return tf.broadcast_to(fitted(weight, tf.cast(labels, weight.dtype)), tf.shape(labels))
    rank = (y.shape.rank or 0) - 1  # weights (batch,) stay so where `y` has a dimension or two
    return expand_to_rank(squeeze_to_rank(weight, rank), rank)
