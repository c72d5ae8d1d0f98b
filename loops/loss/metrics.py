"""Metrics as two numbers a batch.

A Keras metric has its running total in variables, and writing and reading them costs more than a small
model's step. Most metrics are means over examples, for which a batch's sum and weight are enough: they are
recorded with the loss, and means over any steps are exact afterwards. Metrics that are no means (AUC, say)
have their variables, and their value after each step is recorded.
"""

from __future__ import annotations

import functools
import math
from collections.abc import Sequence
from typing import Protocol, TypeAlias

import keras
import tensorflow as tf

from ...optim.common.messages import did_you_mean
from ...optim.common.types import Scalar, Tensors
from ..distribute.sharding import Shard
from ..support.keras_private import keras_mask, with_keras_mask
from ..support.scalars import recording_disabled
from .batch_dependent import check_metric_is_per_example
from .outputs import check_one_output
from .reduction import number_of
from .stateful_metrics import update
from .weights import by_position, fitted, match_ranks

_ACCURACIES = ("accuracy", "acc")


class MetricFunction(Protocol):
    """A user's metric: targets and predictions, (batch, ...), to values, (batch, ...) or a scalar."""

    def __call__(self, y: Tensors, predictions: Tensors, /) -> tf.Tensor: ...


Metric: TypeAlias = str | MetricFunction | keras.metrics.Metric


class StepMetric:
    """One metric.

    Args:
        name: its key in the logs.
        function: per-example values of `(y, predictions)`, for a mean over examples.
        stateful: a Keras metric that has a state, instead of `function`.

    Attributes:
        shown: whether it belongs in logs, which is known once a step was traced.
    """

    shown = True

    def __init__(
        self,
        name: str,
        function: MetricFunction | None = None,
        stateful: keras.metrics.Metric | None = None,
    ) -> None:
        self.name = name
        self.stateful = stateful
        self._function = function

    def __call__(
        self,
        y: Tensors,
        predictions: Tensors,
        weight: Tensors,
        examples: Scalar,
        shard: Shard | None = None,
    ) -> tuple[Scalar, Scalar]:
        """Returns the batch's weighted sum and weight; for a metric with state, its value and 1.

        What Keras masked in the predictions counts nothing, as in Keras' means; most metrics with a state
        count it, also in Keras. On replicas, whose `shard` is given, a metric with state has seen this
        replica's examples: call `result` outside of them.
        """
        # In half precision, squares and sums lose digits and end at 65504.
        y, predictions = tf.nest.map_structure(_single, (y, predictions))
        if self.stateful is not None:
            check_one_output("metrics", self.stateful, y, predictions)
            update(self.stateful, y, predictions, weight, shard)
            return self.result()
        total, count = self._sums(y, predictions, weight, examples, shard is not None)
        return (total, count) if shard is None else (total * shard.weight, count * shard.weight)

    def _sums(
        self, y: Tensors, predictions: Tensors, weight: tf.Tensor | None, examples: Scalar, parts: bool
    ) -> tuple[Scalar, Scalar]:
        """The weighted sum and the weight of a mean over examples."""
        assert self._function is not None
        values = self._function(y, predictions)
        if parts:
            check_metric_is_per_example(self.name, self._function, (y, predictions), values)
        masks = [keras_mask(predictions), keras_mask(values)]
        by_keras = getattr(self._function, "__wrapped__", self._function)
        if (apart := by_position(by_keras, y, predictions, values, [*masks, weight])) is not None:
            with recording_disabled():  # it was before
                values = self._function(*apart)
        values = tf.cast(values, tf.float32)
        if values.shape.rank == 0:
            if weight is not None:
                raise ValueError(
                    f"`sample_weight` cannot weigh `metrics` {self.name!r}, which gives one value for all "
                    "examples: return one for each example, or give a `keras.metrics.Metric` object."
                )
            values = tf.fill([tf.cast(examples, tf.int32)], values)
        # Sequence metrics give (batch, time): each entry counts.
        factors = [fitted(mask, values) for mask in masks if mask is not None]
        if weight is not None:
            factors.append(fitted(weight, values))
        if not factors:
            return tf.reduce_sum(values), number_of(values, examples)
        counts = math.prod(factors, start=tf.ones_like(values))
        return tf.reduce_sum(values * counts), tf.reduce_sum(counts)

    def result(self) -> tuple[Scalar, Scalar]:
        """Returns the value of a metric with state, and 1."""
        assert self.stateful is not None
        value = self.stateful.result()
        if getattr(value, "shape", None) is None or len(value.shape):
            raise ValueError(
                f"`metrics`: the result of {self.name!r} is no scalar: logs hold scalars, which F1Score and "
                "its like give with `average='macro'`."
            )
        return tf.cast(value, tf.float32), tf.constant(1.0)


def _single(value: tf.Tensor) -> tf.Tensor:
    """A half-precision tensor in float32, with its mask; anything else as it is."""
    half = getattr(value, "dtype", None) in (tf.float16, tf.bfloat16)
    return with_keras_mask(tf.cast(value, tf.float32), keras_mask(value)) if half else value


def resolve_metrics(metrics: Sequence[Metric]) -> list[StepMetric]:
    """Returns a `StepMetric` for each name, function or Keras metric.

    "accuracy" is the sparse, one-hot or binary kind, by the shapes of labels and predictions.

    Raises:
        TypeError: `metrics` is no list or tuple, or holds something else.
        ValueError: no metric of that name (the message suggests one), or two of the same name.
    """
    if isinstance(metrics, (str, keras.metrics.Metric)) or not isinstance(metrics, (list, tuple)):
        raise TypeError(f"`metrics` must be a list or tuple, not {metrics!r}.")
    found = [_resolve(metric) for metric in metrics]
    names = ["loss", *(metric.name for metric in found)]
    for name in names:
        if names.count(name) > 1:
            raise ValueError(f"`metrics` has two values called {name!r}: give one of them another name.")
    return found


def _resolve(metric: Metric) -> StepMetric:
    if isinstance(metric, keras.metrics.Metric):
        return StepMetric(metric.name, stateful=metric)
    if isinstance(metric, str):
        if metric.lower() in _ACCURACIES:
            return StepMetric(metric, _per_example(accuracy))
        function = _named_function(metric)
        if function is not None:
            return StepMetric(metric, _per_example(function))
        try:
            resolved = keras.metrics.get(metric)
        except ValueError:
            names = [*_ACCURACIES, *(name for name in dir(keras.metrics) if not name.startswith("_"))]
            raise ValueError(
                f"`metrics`: {metric!r} is no Keras metric.{did_you_mean(metric, names)}"
            ) from None
        except TypeError as error:
            raise ValueError(f"`metrics`: {metric!r} needs arguments: pass the object. ({error})") from None
        # Keras gives names such as "mse" as a metric with state, where a mean over examples needs none.
        squashed = type(resolved).__name__.lower()
        if isinstance(resolved, keras.metrics.MeanMetricWrapper):
            for name in dir(keras.metrics):
                if name.replace("_", "") == squashed:
                    return StepMetric(metric, _per_example(getattr(keras.metrics, name)))
        return StepMetric(metric, stateful=resolved)
    if callable(metric):
        return StepMetric(getattr(metric, "__name__", "metric"), metric)
    raise TypeError(f"`metrics` takes names, functions and Keras metrics, not {metric!r}.")


def _named_function(name: str) -> MetricFunction | None:
    """The function of `keras.metrics` of that name, if it is one of labels and predictions."""
    if name.startswith("_") or name in ("get", "serialize", "deserialize"):
        return None
    function = getattr(keras.metrics, name, None)
    return function if callable(function) and not isinstance(function, type) else None


def _per_example(function: MetricFunction) -> MetricFunction:
    """Lets a function that averages over the last axis take predictions of shape (batch,)."""

    @functools.wraps(function)
    def call(y: tf.Tensor, predictions: tf.Tensor) -> tf.Tensor:
        check_one_output("metrics", getattr(function, "__name__", function), y, predictions)
        if predictions.shape.rank == 1:
            predictions = predictions[:, None]
            y = y[:, None] if y.shape.rank == 1 else y
        return function(*match_ranks(function, y, predictions))

    return call


def accuracy(y: tf.Tensor, predictions: tf.Tensor) -> tf.Tensor:
    """Which examples are classified right, as float32 of shape (batch, ...).

    Chooses as Keras does for the name "accuracy": binary for one output (threshold 0.5), one-hot for labels
    of the predictions' shape, class indices otherwise.
    """
    if predictions.shape[-1] == 1:
        return keras.metrics.binary_accuracy(y, predictions)
    one_hot = y.shape.rank == predictions.shape.rank and y.shape[-1] == predictions.shape[-1]
    if one_hot:
        labels = tf.argmax(y, axis=-1, output_type=tf.int32)
    else:
        if y.shape.rank == predictions.shape.rank:
            y = tf.squeeze(y, -1)
        labels = y if y.dtype in (tf.int32, tf.int64) else tf.cast(y, tf.int32)
    found = tf.argmax(predictions, axis=-1, output_type=labels.dtype)
    return tf.cast(tf.equal(labels, found), tf.float32)
