"""A Keras loss by its name, and its value over a batch."""

from __future__ import annotations

from collections.abc import Callable

import keras
import tensorflow as tf

from ...optim.common.messages import did_you_mean
from ...optim.common.types import Scalar, Tensors
from ..support.keras_private import keras_mask
from ..support.scalars import recording_disabled
from .batch_dependent import check_loss_is_per_example, is_known
from .reduction import LossValue, mean_of, number_of, reduced
from .weights import as_columns, by_position


def resolve_loss(loss: str | keras.losses.Loss) -> keras.losses.Loss:
    """Returns the Keras loss object that a name stands for; ValueError for an unknown name."""
    if not isinstance(loss, str):
        return loss
    try:
        found = keras.losses.get(loss)
    except ValueError:
        names = [name for name in dir(keras.losses) if name[0].islower()]
        raise ValueError(f"`loss` {loss!r} is no Keras loss.{did_you_mean(loss, names)}") from None
    if isinstance(found, keras.losses.Loss):
        return found
    # A name gives a function of single examples; its class adds sample weights and the mean.
    squashed = found.__name__.replace("_", "")
    for name in dir(keras.losses):
        if name[0].isupper() and name.lower() == squashed:
            return getattr(keras.losses, name)()
    return _FunctionLoss(found)


class _FunctionLoss(keras.losses.Loss):
    """A loss function without a class of its own, with Keras' sample weights and mean."""

    def __init__(self, function: Callable[[tf.Tensor, tf.Tensor], tf.Tensor]) -> None:
        super().__init__(name=function.__name__)
        self.call = function


def loss_value(
    loss: keras.losses.Loss,
    y: Tensors,
    predictions: Tensors,
    weight: tf.Tensor | None,
    examples: Scalar,
    parts: str = "",
) -> LossValue:
    """Returns the value of a Keras loss over a batch: what calling it returns, and what that was divided by.

    Differs from the call where that is wrong: outputs of shape (batch,) have a loss for each example, and
    weights of examples weigh examples, whatever other dimensions the losses have.

    Args:
        loss: of any reduction but "none".
        y, predictions: its arguments, (batch, ...).
        weight: sample weights, (batch,) or (batch, ...); None for 1.
        examples: their number, float32.
        parts: what makes this a part of a larger batch, such as "2 replicas"; '' for a whole one.

    Raises:
        ValueError: a loss or weights that give no scalar.
        BatchDependentError: the loss takes the examples of a batch together, and this is a part of one.
    """
    one = type(loss).__call__ is not keras.losses.Loss.__call__  # it reduces by itself
    losses = loss(y, predictions, sample_weight=weight) if one else _losses(loss, y, predictions)
    if losses.shape.rank != 0 and (one or loss.reduction in (None, "none")):
        raise ValueError(
            f"`loss` {loss.name!r} has reduction {loss.reduction!r} and gives shape {losses.shape}, not a "
            "scalar: use the reduction 'sum_over_batch_size'."
        )
    if parts:
        check_loss_is_per_example(loss, y, predictions, losses, parts)
    if losses.shape.rank == 0:
        if weight is not None and not one:
            raise ValueError(
                f"`sample_weight` cannot weigh `loss` {loss.name!r}, which gives one loss for all examples: "
                "leave the weights out, or use a loss that gives one for each example."
            )
        return LossValue(losses, examples)
    masks = [keras_mask(predictions), keras_mask(losses)]
    function = getattr(loss, "fn", None) if is_known(type(loss).call) else None
    if (apart := by_position(function, y, predictions, losses, [*masks, weight])) is not None:
        with recording_disabled():  # it was before
            losses = _losses(loss, *apart)
    return reduced(loss.reduction, tf.cast(losses, loss.dtype), weight, masks, examples)


def _losses(loss: keras.losses.Loss, y: Tensors, predictions: Tensors) -> tf.Tensor:
    """What a loss gives before its reduction: a loss for each example, where it can."""
    y, predictions = keras.tree.map_structure(
        lambda value: keras.ops.convert_to_tensor(value, loss.dtype), (y, predictions)
    )
    losses = loss.call(y, predictions)
    columns = as_columns(y, predictions)
    if losses.shape.rank == 0 and columns[0] is not y:
        with recording_disabled():  # it was before
            losses = loss.call(*columns)
    return losses


def example_losses(loss: keras.losses.Loss, y: Tensors, predictions: Tensors) -> tf.Tensor | None:
    """Each example's loss, the mean of its values: float32, (batch,); None where there is none for each."""
    if type(loss).__call__ is not keras.losses.Loss.__call__ or not isinstance(predictions, tf.Tensor):
        return None
    losses = _losses(loss, y, predictions)
    if losses.shape.rank in (None, 0):
        return None
    return tf.cast(tf.reduce_mean(losses, list(range(1, losses.shape.rank))), tf.float32)


def mean_of_class_indices(
    loss: keras.losses.Loss, y: tf.Tensor, predictions: tf.Tensor, examples: Scalar
) -> LossValue | None:
    """Returns the mean of a class-index loss by fewer operations than Keras; None where it must be Keras'.

    Keras converts the labels to floats and back and divides with a guard against empty batches, which makes
    a quarter of a small model's operations: the benchmark's step of the 784-10 softmax needs this.
    """
    plain = type(loss) is keras.losses.SparseCategoricalCrossentropy
    masked = keras_mask(predictions) is not None
    if not plain or masked or loss.reduction != "sum_over_batch_size" or predictions.dtype != loss.dtype:
        return None
    losses = loss.call(y, predictions)
    # `loss.from_logits` does not tell whether Keras takes the predictions for logits: it skips a softmax that
    # the model ends in, whichever way that was written. Only the operation that it has made tells.
    operation = getattr(losses, "op", None)  # None outside of a graph
    if operation is None or operation.type != "SparseSoftmaxCrossEntropyWithLogits":
        return LossValue(mean_of(losses), number_of(losses, examples))
    logits, labels = operation.inputs
    if logits.name != predictions.name:  # also where TensorFlow casts half precision
        return LossValue(mean_of(losses), number_of(losses, examples))
    # `losses` is not used, so TensorFlow removes its operation.
    mean = _mean_cross_entropy(predictions, labels, tf.cast(examples, predictions.dtype))
    return LossValue(mean, examples)


def _mean_cross_entropy(logits: tf.Tensor, labels: tf.Tensor, examples: Scalar) -> Scalar:
    """The mean cross-entropy of class indices, (examples,), whose gradient is scaled once, by a number."""

    @tf.custom_gradient  # type: ignore[untyped-decorator]  # TensorFlow's decorators have no types
    def mean(features: tf.Tensor) -> tuple[Scalar, Callable[[Scalar], tf.Tensor]]:
        losses, slopes = tf.raw_ops.SparseSoftmaxCrossEntropyWithLogits(features=features, labels=labels)

        def gradient(upstream: Scalar) -> tf.Tensor:
            # One operation less where the loss is all that is differentiated, as it mostly is.
            alone = tf.get_static_value(upstream) == 1.0
            return slopes / examples if alone else slopes * (upstream / examples)

        return tf.reduce_mean(losses), gradient

    return mean(logits)
