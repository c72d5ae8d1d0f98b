"""Loss scaling by the numbers of Keras' optimizers, without their update."""

from __future__ import annotations

from collections.abc import Sequence

import keras
import tensorflow as tf

from ...optim.common.optimizers import inner_optimizer
from ...optim.common.types import Gradient, Scalar
from ...optim.gradients.given import but_new_values
from ...optim.gradients.sparse import times


class LossScale:
    """The number by which an optimizer has the loss multiplied: none, a fixed or a moving one.

    A fixed one is `loss_scale_factor`; a `keras.optimizers.LossScaleOptimizer` keeps one that moves, around
    whatever the optimizer inside has.

    Attributes:
        dynamic: whether it moves. `halved`, `halve` and `grow` are for one that does.
    """

    def __init__(self, optimizer: keras.optimizers.Optimizer) -> None:
        self._optimizer = optimizer
        self._inner = inner_optimizer(optimizer)
        self.dynamic = self._inner is not optimizer

    @property
    def is_there(self) -> bool:
        """Whether there is one."""
        return self.dynamic or self._inner.loss_scale_factor is not None

    def scaled(self, loss: Scalar) -> Scalar:
        """The loss times the scale."""
        return self._inner.scale_loss(self._optimizer.scale_loss(loss) if self.dynamic else loss)

    def unscaled(
        self, gradients: Sequence[Gradient], variables: Sequence[keras.Variable] = ()
    ) -> list[Gradient]:
        """The gradients over the scale, in float32 at least: in float16, what a large one divides is 0.

        `variables` tell which are new values (`is_new_value`), which stay as they are; none without.
        """
        inverse: float | Scalar | None = None
        if self._inner.loss_scale_factor is not None:
            inverse = 1.0 / self._inner.loss_scale_factor
        if self.dynamic:
            moving = 1.0 / tf.convert_to_tensor(self._optimizer.dynamic_scale)
            inverse = moving if inverse is None else moving * inverse
        if inverse is None:
            return list(gradients)
        return but_new_values(lambda given: [_wide_times(g, inverse) for g in given], gradients, variables)

    def as_keras_wants(
        self, gradients: Sequence[Gradient], variables: Sequence[keras.Variable]
    ) -> list[Gradient]:
        """Gradients that are not scaled, for `apply` of the optimizer, which divides by a fixed scale."""
        factor = self._inner.loss_scale_factor
        if factor is None:
            return list(gradients)
        return but_new_values(lambda given: [times(g, factor) for g in given], gradients, variables)

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


def _wide_times(gradient: Gradient, factor: float | Scalar) -> Gradient:
    wide = tf.float64 if gradient.dtype == tf.float64 else tf.float32
    return times(tf.cast(gradient, wide), tf.cast(factor, wide))
