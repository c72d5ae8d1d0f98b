"""From a batch to its loss and metrics."""

from __future__ import annotations

import inspect
from collections.abc import Callable, Sequence
from typing import Any, TypeAlias

import keras
import tensorflow as tf

from ...optim.common.messages import did_you_mean
from ..distribute.sharding import STEP_TAKES_SHARD, Shard, examples_in, total_over_replicas
from ..support.keras_private import keras_mask
from .labels import check_label_spec, check_label_values, check_target_shape, on_host, takes_class_indices
from .metrics import StepMetric, resolve_metrics

Loss: TypeAlias = keras.losses.Loss | str | Callable[..., Any]
Scalars: TypeAlias = list[tf.Tensor]


class LossAndMetrics:
    """The loss and the metrics of a model on one batch.

    Args:
        model: a built model.
        loss: a Keras loss, the name of one, or a function of `(model, batch)` that returns the loss, a
            scalar, or `(loss, predictions)`. `batch` is `(x, y)` or `(x, y, sample_weight)`. If the
            function has a parameter `training`, it is told.
        metrics: names, functions of `(y, predictions)` and `keras.metrics.Metric` objects.

    Attributes:
        classes: how many classes the labels may name, once a batch was traced; None where labels are no
            class indices.

    Raises:
        ValueError: an unknown loss or metric.
        TypeError: a loss or metric of another type.
    """

    def __init__(self, model: keras.Model, loss: Loss, metrics: Sequence[Any] = ()) -> None:
        name = getattr(loss, "__name__", "")
        if callable(loss) and getattr(keras.losses, name, None) is loss:
            if isinstance(loss, type):
                raise TypeError(f"`loss` is the class {name}: call it, `{name}()`.")
            loss = name  # one of Keras' functions of (y, predictions)
        self.model = model
        self._function: Callable[..., Any] | None = None
        self._loss: Any = None
        self._tells_training = True
        if isinstance(loss, (str, keras.losses.Loss)):
            self._loss = resolve_loss(loss)
            self.takes_class_indices = takes_class_indices(self._loss)
        elif callable(loss):
            self._function = loss
            self._tells_training = "training" in inspect.signature(loss).parameters
            self.takes_class_indices = False
        else:
            raise TypeError(
                f"`loss` must be a Keras loss, its name or a function of (model, batch), not {loss!r}."
            )
        self.metrics: list[StepMetric] = resolve_metrics(metrics)
        self.classes: int | None = None

    @property
    def width(self) -> int:
        """How many scalars a record holds."""
        return 2 + 2 * len(self.metrics)

    @property
    def stateful_metrics(self) -> list[keras.metrics.Metric]:
        """The Keras metrics that keep their own state."""
        return [metric.stateful for metric in self.metrics if metric.stateful is not None]

    def check_evaluates(self) -> None:
        """Raises ValueError if the loss cannot be told that it is not training."""
        if self._function is not None and not self._tells_training:
            raise ValueError(
                "`loss` is a function without a parameter `training`, so dropout and BatchNorm would run "
                "in training mode during evaluation. Write it as `def loss(model, batch, training=True)` "
                "and pass `training` on to the model."
            )

    def __call__(self, batch: Any, training: bool, share: Shard | None = None) -> tuple[tf.Tensor, Scalars]:
        """Runs the model on a batch, inside a tape or not.

        Args:
            batch: what `keras.utils.unpack_x_y_sample_weight` takes; on replicas, the part of one.
            training: the mode of dropout and BatchNorm.
            share: on replicas, what the examples of this one count.

        Returns:
            `(loss, record)`: the scalar loss, regularisation included, and float32 scalars: the loss, the
            number of examples, and two for each `StepMetric`. On replicas, shares of these, whose
            sums are those of the whole batch.
        """
        x, y, weight = keras.utils.unpack_x_y_sample_weight(batch)
        # Labels are quicker to count than examples.
        flat = self.takes_class_indices and isinstance(y, tf.Tensor) and y.shape.rank == 1
        own = tf.cast(examples_in(y if flat else x), tf.float32)
        loss: Any = None
        predictions: Any = None
        if self._function is not None:
            arguments = {"training": training} if self._tells_training else {}
            token = STEP_TAKES_SHARD.set(True)
            try:
                result = self._function(self.model, batch, **arguments)
            finally:
                STEP_TAKES_SHARD.reset(token)
            loss, predictions = result if isinstance(result, tuple) else (result, None)
            if loss.shape.rank != 0:
                raise ValueError(
                    f"The `loss` function returned shape {loss.shape}, not a scalar: reduce it, for "
                    "example with `loops.mean_loss`."
                )
        else:
            if y is None:
                raise ValueError("The batch has no `y`, which this loss needs: pass `(x, y)`.")
            predictions = self.model(x, training=training)
            check_target_shape(self._loss, y, predictions)
            if self.takes_class_indices:
                check_label_spec(y, predictions)
                self.classes = predictions.shape[-1]
                if tf.executing_eagerly() and on_host(y):
                    check_label_values(y, predictions.shape[-1])
                if weight is None:
                    loss = _mean_of_classes(self._loss, y, predictions, own)
            if loss is None:
                loss = _value(self._loss, y, predictions, weight)
        counts = None if share is None else share.weight
        counted = own if share is None else own * share.weight
        if share is not None:
            loss = tf.cast(loss, tf.float32) * self._factor(predictions, weight, counted, share)
        regularisation = self.model.losses
        if regularisation:
            penalties = [tf.cast(penalty, tf.float32) for penalty in regularisation]
            if share is not None:
                penalties = [penalty * (counted / share.examples) for penalty in penalties]
            loss = tf.add_n([tf.cast(loss, tf.float32), *penalties])
        loss = tf.cast(loss, tf.float32)
        record = [loss, counted]
        if self.metrics and predictions is None:
            raise ValueError(
                "`metrics` need predictions, and the `loss` function returns the loss alone: return "
                "`(loss, predictions)`."
            )
        for metric in self.metrics:
            record.extend(metric(y, predictions, weight, own, counts))
        return loss, record

    def _factor(self, predictions: Any, weight: Any, counted: tf.Tensor, share: Shard) -> tf.Tensor:
        """By what a replica's loss is multiplied so that the products add up to the loss of all replicas."""
        reduction = getattr(self._loss, "reduction", "sum_over_batch_size")
        if reduction == "sum":
            return share.weight
        mask = keras_mask(predictions)
        weighs = weight is not None and reduction == "mean_with_sample_weight"
        if mask is None and not weighs:
            return counted / share.examples
        # Keras' mean is over what the mask lets through, or over the weights.
        divisor = tf.constant(1.0) if mask is None else tf.cast(mask, tf.float32)
        if weighs:
            weight = tf.cast(weight, tf.float32)
            missing = max((divisor.shape.rank or 0) - (weight.shape.rank or 0), 0)
            divisor *= tf.reshape(weight, tf.concat([tf.shape(weight), [1] * missing], 0))
        divisor = tf.reduce_sum(divisor) * share.weight
        return tf.math.divide_no_nan(divisor, total_over_replicas(divisor))

    def completed(self, record: Scalars) -> Scalars:
        """The record of a whole batch, summed over replicas, with the values of metrics that keep a state."""
        record = list(record)
        for column, metric in enumerate(self.metrics):
            if metric.stateful is not None:
                record[2 + 2 * column : 4 + 2 * column] = metric.result()
        return record

    def batch_values(self, record: tf.Tensor) -> dict[str, tf.Tensor]:
        """Returns name -> scalar of one record, a float32 vector."""
        scalars = tf.unstack(record)
        values = {"loss": scalars[0]}
        for column, metric in enumerate(self.metrics):
            total, weight = scalars[2 + 2 * column : 4 + 2 * column]
            values[metric.name] = tf.math.divide_no_nan(total, weight)
        return values


def resolve_loss(loss: str | keras.losses.Loss) -> keras.losses.Loss:
    """Returns the Keras loss object that a name stands for.

    Raises:
        ValueError: no loss of that name; the message suggests one.
    """
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

    def __init__(self, function: Callable[..., Any]) -> None:
        super().__init__(name=function.__name__)
        self.call = function


def _value(loss: keras.losses.Loss, y: Any, predictions: Any, weight: Any) -> tf.Tensor:
    """The scalar value of a Keras loss over a batch."""
    value = loss(y, predictions, sample_weight=weight)
    if value.shape.rank != 0:
        raise ValueError(
            f"`loss` {loss.name!r} has reduction {loss.reduction!r} and gives shape {value.shape}, not a "
            "scalar: use the reduction 'sum_over_batch_size'."
        )
    return value


def _mean_of_classes(
    loss: keras.losses.Loss, y: Any, predictions: Any, examples: tf.Tensor
) -> tf.Tensor | None:
    """The mean of a class-index loss, without the detours of Keras' general way; None if it must go it.

    Keras turns the labels into floats and back and divides with a guard against empty batches, which makes
    a quarter of a small model's operations.
    """
    plain = type(loss) is keras.losses.SparseCategoricalCrossentropy
    masked = keras_mask(predictions) is not None
    if not plain or masked or loss.reduction != "sum_over_batch_size" or predictions.dtype != loss.dtype:
        return None
    losses = loss.call(y, predictions)
    operation = getattr(losses, "op", None)  # None outside of a graph
    if operation is None or operation.type != "SparseSoftmaxCrossEntropyWithLogits":
        return _mean(losses)
    logits, labels = operation.inputs
    # Keras goes past a softmax that the model ends in, and TensorFlow casts half precision.
    if logits.name != predictions.name:
        return _mean(losses)
    # What is computed above has told how, and is not used, so TensorFlow leaves it out.
    return _mean_cross_entropy(predictions, labels, tf.cast(examples, predictions.dtype))


def _mean_cross_entropy(logits: tf.Tensor, labels: tf.Tensor, examples: tf.Tensor) -> tf.Tensor:
    """The mean cross-entropy of class indices, (examples,), whose gradient is scaled once, by a number."""

    @tf.custom_gradient  # type: ignore[untyped-decorator]  # TensorFlow's decorators have no types
    def mean(features: tf.Tensor) -> Any:
        losses, slopes = tf.raw_ops.SparseSoftmaxCrossEntropyWithLogits(features=features, labels=labels)

        def gradient(upstream: tf.Tensor) -> tf.Tensor:
            # One operation less where the loss is all that is differentiated, as it mostly is.
            alone = tf.get_static_value(upstream) == 1.0
            return slopes / examples if alone else slopes * (upstream / examples)

        return tf.reduce_mean(losses), gradient

    return mean(logits)


@tf.custom_gradient  # type: ignore[untyped-decorator]  # TensorFlow's decorators have no types
def _mean(values: tf.Tensor) -> Any:
    """`tf.reduce_mean`, whose own gradient works out in 14 operations by what each value is divided."""
    mean = tf.reduce_mean(values)

    def gradient(upstream: tf.Tensor) -> tf.Tensor:
        return tf.fill(tf.shape(values), upstream / tf.cast(tf.size(values), values.dtype))

    return mean, gradient
