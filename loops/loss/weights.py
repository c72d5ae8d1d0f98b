"""Sample weights and masks, brought to the shape of the values that they weigh."""

from __future__ import annotations

import tensorflow as tf

from ...optim.common.types import Tensors
from ..support.keras_private import keras_mask, with_keras_mask


def fitted(weight: tf.Tensor, values: tf.Tensor) -> tf.Tensor:
    """Weights or a mask as factors of values: (batch, ...) with as many dimensions, in their dtype.

    Weights of examples, (batch,), count for all values of an example, whether or not there are as many
    values as examples. (Keras lays them along the last dimension.) A last dimension of 1 too many is left
    out, as Keras does.

    Raises:
        ValueError: they do not fit.
    """
    mask = weight.dtype == tf.bool
    weight = tf.cast(weight, values.dtype)
    rank, wanted = weight.shape.rank, values.shape.rank
    if rank is None or wanted is None:
        return weight
    while rank > max(wanted, 1) and weight.shape[-1] == 1:
        weight, rank = tf.squeeze(weight, -1), rank - 1
    there = zip(weight.shape.as_list(), values.shape.as_list())
    if rank > wanted or any(one not in (1, None, two) and two is not None for one, two in there):
        what = "The mask that the network's outputs have" if mask else "`sample_weight`"
        way_out = "use a loss or metric that gives" if mask else "pass one for each example, (batch,), or"
        raise ValueError(
            f"{what} has shape {_shape(weight)}, and the losses or values that it weighs have "
            f"{_shape(values)}: {way_out} one for each of them."
        )
    return expand_to_rank(weight, wanted)


def as_columns(y: Tensors, predictions: Tensors) -> tuple[Tensors, Tensors]:
    """Targets and predictions of shape (batch,) as (batch, 1); others as they are.

    Keras' functions average over the last dimension, which then is not that of the examples.
    """
    if not (tf.is_tensor(y) and tf.is_tensor(predictions) and y.shape.rank == predictions.shape.rank == 1):
        return y, predictions
    return y[:, None], with_keras_mask(predictions[:, None], keras_mask(predictions))


def expand_to_rank(weight: tf.Tensor, rank: int | None) -> tf.Tensor:
    """Appends dimensions of 1 to sample weights, up to the rank of the values that they weigh."""
    missing = max((rank or 0) - (weight.shape.rank or 0), 0)
    return tf.reshape(weight, tf.concat([tf.shape(weight), [1] * missing], 0)) if missing else weight


def _shape(value: tf.Tensor) -> str:
    """A shape for a message, such as `(batch, 3)`."""
    return str(tuple(value.shape)).replace("None", "batch", 1)
