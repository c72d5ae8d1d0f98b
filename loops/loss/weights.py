"""Sample weights and masks, brought to the shape of the values that they weigh."""

from __future__ import annotations

from collections.abc import Sequence

import keras
import tensorflow as tf

from ...optim.common.types import Tensors
from ..support.keras_private import keras_mask, with_keras_mask

# Keras' losses, and metrics, that are means over the last dimension of what they find for each number there.
_MEANS = [
    getattr(keras.losses, name)
    for name in (
        "binary_crossentropy binary_focal_crossentropy hinge huber log_cosh mean_absolute_error poisson "
        "mean_absolute_percentage_error mean_squared_error mean_squared_logarithmic_error squared_hinge"
    ).split()
]


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
    wanted = values.shape.rank
    if weight.shape.rank is None or wanted is None:
        return weight
    weight = squeeze_to_rank(weight, wanted)
    there = zip(weight.shape.as_list(), values.shape.as_list())
    if weight.shape.rank > wanted or any(one not in (1, None, two) and two is not None for one, two in there):
        what = "The mask that the network's outputs have" if mask else "`sample_weight`"
        way_out = "use a loss or metric that gives" if mask else "pass one for each example, (batch,), or"
        raise ValueError(
            f"{what} has shape {_shape(weight)}, and the losses or values that it weighs have "
            f"{_shape(values)}: {way_out} one for each of them."
        )
    return expand_to_rank(weight, wanted)


def match_ranks(function: object, y: tf.Tensor, predictions: tf.Tensor) -> tuple[tf.Tensor, tf.Tensor]:
    """Targets and predictions, of which one may lack a last dimension of 1 that the other has, both with it.

    Some of Keras' functions stretch (batch,) over (batch, 1), to (batch, batch).
    """
    pair = [y, predictions]
    for short, long in ((0, 1), (1, 0)):
        one, other = pair[short].shape, pair[long].shape
        if function in _MEANS and one.rank is not None and other.rank == one.rank + 1 and other[-1] == 1:
            pair[short] = pair[short][..., None]
    return pair[0], pair[1]


def as_columns(y: Tensors, predictions: Tensors) -> tuple[Tensors, Tensors]:
    """Targets and predictions of shape (batch,) as (batch, 1); others as they are.

    Keras' functions average over the last dimension, which then is not that of the examples.
    """
    if not (tf.is_tensor(y) and tf.is_tensor(predictions) and y.shape.rank == predictions.shape.rank == 1):
        return y, predictions
    return y[:, None], with_keras_mask(predictions[:, None], keras_mask(predictions))


def by_position(
    function: object, y: Tensors, predictions: Tensors, values: tf.Tensor, factors: Sequence[tf.Tensor | None]
) -> tuple[tf.Tensor, tf.Tensor] | None:
    """Targets and predictions for which a function gives a value for each number that masks or weights weigh.

    Keras' means over the last dimension give one for each sequence of numbers, (batch, time), also where the
    outputs have the shape (batch, time, 1). With a last dimension of 1 they give one for each number.

    Returns:
        The two; None where the values fit their factors, or cannot be had.
    """
    ranks = [_shape_without_ones(factor) for factor in factors if factor is not None]
    wanted = max(map(len, ranks), default=0)
    if function not in _MEANS or wanted != values.shape.rank + 1:
        return None
    apart = [value[..., None] if value.shape.rank == wanted else value for value in (y, predictions)]
    fit = all(value.shape.rank == wanted + 1 and value.shape[-1] == 1 for value in apart)
    return (apart[0], apart[1]) if fit else None


def _shape_without_ones(value: tf.Tensor) -> list[int | None]:
    shape = value.shape.as_list()
    while len(shape) > 1 and shape[-1] == 1:
        shape.pop()
    return shape


def squeeze_to_rank(weight: tf.Tensor, rank: int) -> tf.Tensor:
    """Leaves out last dimensions of 1 of sample weights, down to the rank of the values that they weigh."""
    while (weight.shape.rank or 0) > max(rank, 1) and weight.shape[-1] == 1:
        weight = tf.squeeze(weight, -1)
    return weight


def expand_to_rank(weight: tf.Tensor, rank: int | None) -> tf.Tensor:
    """Appends dimensions of 1 to sample weights, up to the rank of the values that they weigh."""
    missing = max((rank or 0) - (weight.shape.rank or 0), 0)
    return tf.reshape(weight, tf.concat([tf.shape(weight), [1] * missing], 0)) if missing else weight


def _shape(value: tf.Tensor) -> str:
    """A shape for a message, such as `(batch, 3)`."""
    return str(tuple(value.shape)).replace("None", "batch", 1)
