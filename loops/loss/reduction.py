"""From losses to the loss of a batch, and what it was divided by.

The second number tells what the batch counts beside others: the loss of an epoch, of replicas together and
of accumulated batches is that of all their values only if each counts by its own divisor.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from typing import Literal, NamedTuple

import tensorflow as tf

from ...optim.common.types import Scalar
from ..distribute.sharding import Shard, total_over_replicas
from .weights import fitted


class LossValue(NamedTuple):
    """The loss of some examples.

    Attributes:
        value: scalar.
        divisor: what the sum of its losses was divided by: float32 scalar. The number of examples where
            nothing is divided.
        by: whether each example is as much of the divisor ("examples"), or not ("values"), or nothing is
            divided ("sum").
    """

    value: Scalar
    divisor: Scalar
    by: Literal["examples", "values", "sum"] = "examples"

    def of_replica(self, counted: Scalar, shard: Shard) -> LossValue:
        """A replica's part, whose examples count `counted`: values and divisors add up to the whole's."""
        if self.by == "sum":
            return self._replace(value=self.value * tf.cast(shard.weight, self.value.dtype), divisor=counted)
        divisor = self.divisor * shard.weight
        part, whole = counted, shard.examples
        if self.by == "values":
            part, whole = divisor, total_over_replicas(divisor)
        return self._replace(value=self.value * share(part, whole, self.value.dtype), divisor=divisor)


def share(part: Scalar, whole: Scalar, dtype: tf.DType) -> Scalar:
    """`part / whole`, 0 of nothing, as a factor of `dtype`: where that is float64, to its last digit."""
    wide = tf.float64 if dtype == tf.float64 else tf.float32
    return tf.cast(tf.math.divide_no_nan(tf.cast(part, wide), tf.cast(whole, wide)), dtype)


def reduced(
    reduction: str | None,
    losses: tf.Tensor,
    weight: tf.Tensor | None,
    masks: Sequence[tf.Tensor | None],
    examples: Scalar,
) -> LossValue:
    """The loss by one of Keras' reductions.

        "sum_over_batch_size", "mean"    sum of weighted losses / their number, of unmasked ones alone
        "mean_with_sample_weight"        sum of weighted losses / sum of their weights
        "sum"                            sum of weighted losses

    Args:
        reduction: one of these.
        losses: (batch, ...).
        weight: sample weights, (batch,) or (batch, ...); None for 1.
        masks: which losses count, likewise; None for all.
        examples: their number, float32.

    Raises:
        ValueError: weights or a mask of another shape.
    """
    counts = [fitted(mask, losses) for mask in masks if mask is not None]
    weights = [] if weight is None else [fitted(weight, losses)]
    weighted = math.prod([*weights, *counts], start=losses)
    if reduction == "sum":
        return LossValue(tf.reduce_sum(weighted), examples, "sum")
    if reduction == "mean_with_sample_weight":
        counts += weights
    if not counts:
        return LossValue(mean_of(weighted), number_of(losses, examples))
    divisor = tf.reduce_sum(math.prod(counts, start=tf.ones_like(losses)))
    value = tf.math.divide_no_nan(tf.reduce_sum(weighted), divisor)
    return LossValue(value, tf.cast(divisor, tf.float32), "values")


def number_of(values: tf.Tensor, examples: Scalar) -> Scalar:
    """How many values there are, (examples, ...), as a float32 scalar."""
    each = values.shape[1:]
    if not each.is_fully_defined():
        return tf.cast(tf.size(values), tf.float32)
    return examples if each.num_elements() == 1 else examples * float(math.prod(each))


@tf.custom_gradient  # type: ignore[untyped-decorator]  # TensorFlow's decorators have no types
def mean_of(values: tf.Tensor) -> tuple[Scalar, Callable[[Scalar], tf.Tensor]]:
    """`tf.reduce_mean`, whose own gradient takes 14 operations to find what each value is divided by."""
    mean = tf.reduce_mean(values)

    def gradient(upstream: Scalar) -> tf.Tensor:
        return tf.fill(tf.shape(values), upstream / tf.cast(tf.size(values), values.dtype))

    return mean, gradient
