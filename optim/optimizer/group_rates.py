"""The learning rate of each group, computed on the device from one base rate."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import keras
import tensorflow as tf

from ..groups.group import Group
from ..private.keras_private import raw_learning_rate

Schedule = keras.optimizers.schedules.LearningRateSchedule


class Rates:
    """Scales and fixed rates as variables, so that a new value needs no new trace.

    What a group's scale multiplies is the common rate, a number, a schedule or a callable of its own.

    Args:
        groups: in the plan's order.
    """

    def __init__(self, groups: Sequence[Group]) -> None:
        self._sources: list[Any] = []
        for group in groups:
            own = None if group.optimizer is None else raw_learning_rate(group.optimizer)
            self._sources.append(own if group.learning_rate is None else group.learning_rate)
        self._own = any(isinstance(source, float) for source in self._sources)
        self._scales = _settings([group.lr_scale for group in groups])
        self._fixed = _settings([s if isinstance(s, float) else 0.0 for s in self._sources])

    def set(self, groups: Sequence[Group]) -> None:
        """Takes over scales and fixed rates."""
        self._scales.assign([group.lr_scale for group in groups])
        for index, group in enumerate(groups):
            if isinstance(group.learning_rate, float):
                self._sources[index] = group.learning_rate
        self._fixed.assign([s if isinstance(s, float) else 0.0 for s in self._sources])

    def now(self, base: Any, updates: Any) -> list[tf.Tensor]:
        """The rates of the next update: float32 scalars, in the plan's order.

        Args:
            base: the optimizer's own rate.
            updates: how many updates there were, for schedules.
        """
        common = tf.cast(tf.convert_to_tensor(base), tf.float32)
        if self._own:
            follows = [source is None for source in self._sources]
            common = tf.where(follows, common, self._fixed)
        rates = tf.unstack(common * self._scales, len(self._sources))
        for index, source in enumerate(self._sources):
            if source is not None and not isinstance(source, float):
                step = tf.convert_to_tensor(updates)
                rate = source(step) if isinstance(source, Schedule) else source()
                rates[index] = tf.cast(rate, tf.float32) * self._scales[index]
        return rates


def _settings(values: Sequence[float]) -> tf.Variable:
    return tf.Variable(
        tf.constant(values, tf.float32),
        trainable=False,
        aggregation=tf.VariableAggregation.ONLY_FIRST_REPLICA,
    )
