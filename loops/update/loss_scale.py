"""Loss scaling by the numbers of Keras' `LossScaleOptimizer`, without its update."""

from __future__ import annotations

from collections.abc import Sequence

import keras
import tensorflow as tf

from ...optim.common.types import Gradient, Scalar
from ...optim.gradients.sparse import times


class LossScale:
    """The scale that a `keras.optimizers.LossScaleOptimizer` keeps, and how it moves."""

    def __init__(self, optimizer: keras.optimizers.LossScaleOptimizer) -> None:
        self._optimizer = optimizer

    def scaled(self, loss: Scalar) -> Scalar:
        return self._optimizer.scale_loss(loss)

    def unscaled(self, gradients: Sequence[Gradient]) -> list[Gradient]:
        """The gradients over the scale, in float32: in float16, 65536 is infinite and what it divides 0."""
        inverse = 1.0 / tf.convert_to_tensor(self._optimizer.dynamic_scale)
        return [times(tf.cast(gradient, tf.float32), inverse) for gradient in gradients]

    def halved(self) -> Scalar:
        """Half the scale, as `halve` would set it."""
        return tf.convert_to_tensor(self._optimizer.dynamic_scale) * 0.5

    def halve(self) -> None:
        """Halves the scale, after gradients that were not finite."""
        self._optimizer.step_counter.assign(0)
        self._optimizer.dynamic_scale.assign(self.halved())

    def grow(self) -> None:
        """Doubles the scale after `dynamic_growth_steps` finite steps in a row, as Keras does."""
        optimizer = self._optimizer
        count = tf.convert_to_tensor(optimizer.step_counter)
        grown = tf.equal(tf.cast(count, tf.int64), optimizer.dynamic_growth_steps - 1)
        scale = tf.convert_to_tensor(optimizer.dynamic_scale)
        optimizer.dynamic_scale.assign(tf.where(grown, scale * 2.0, scale))
        optimizer.step_counter.assign(tf.where(grown, tf.zeros_like(count), count + 1))
