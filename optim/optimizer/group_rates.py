"""The learning rate of each group, computed on the device from one base rate."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import TypeAlias

import keras
import tensorflow as tf

from ..common.types import Scalar
from ..groups.group import Group
from ..private.keras_private import raw_learning_rate

LearningRateSchedule = keras.optimizers.schedules.LearningRateSchedule
# A number, a schedule or a function of a group's own; None if it follows the optimizer's rate.
RateSource: TypeAlias = float | Callable[..., float | Scalar] | None


def setting(values: Sequence[float | bool], dtype: tf.DType) -> tf.Variable:
    """A vector of settings that replicas read and only the host changes: a new value needs no new trace."""
    return tf.Variable(
        tf.constant(values, dtype), trainable=False, aggregation=tf.VariableAggregation.ONLY_FIRST_REPLICA
    )


class Rates:
    """The rate of each group: its scale times the optimizer's rate, or times a rate of its own."""

    def __init__(self, groups: Sequence[Group]) -> None:
        self._sources: list[RateSource] = []
        for group in groups:
            own = None if group.optimizer is None else raw_learning_rate(group.optimizer)
            self._sources.append(own if group.learning_rate is None else group.learning_rate)
        self._own = any(isinstance(source, float) for source in self._sources)
        self._scales = setting([group.lr_scale for group in groups], tf.float32)
        self._fixed = setting(self._fixed_rates(), tf.float32)

    def set(self, groups: Sequence[Group]) -> None:
        """Sets scales and fixed rates to those of the same groups with other settings."""
        self._scales.assign([group.lr_scale for group in groups])
        for index, group in enumerate(groups):
            if isinstance(group.learning_rate, float):
                self._sources[index] = group.learning_rate
        self._fixed.assign(self._fixed_rates())

    def _fixed_rates(self) -> list[float]:
        return [source if isinstance(source, float) else 0.0 for source in self._sources]

    def now(self, base: float | Scalar, iterations: Scalar) -> list[Scalar]:
        """The rates of the next update, float32 scalars, from the optimizer's rate and number of updates."""
        common = tf.cast(tf.convert_to_tensor(base), tf.float32)
        if self._own:
            follows = [source is None for source in self._sources]
            common = tf.where(follows, common, self._fixed)
        rates = tf.unstack(common * self._scales, len(self._sources))
        for index, source in enumerate(self._sources):
            if source is not None and not isinstance(source, float):
                step = tf.convert_to_tensor(iterations)
                rate = source(step) if isinstance(source, LearningRateSchedule) else source()
                rates[index] = tf.cast(rate, tf.float32) * self._scales[index]
        return rates
