"""Loss scaling with the state of Keras' optimizers, but without their update."""

from __future__ import annotations

from collections.abc import Sequence

import keras
import tensorflow as tf

from ...optim.common.optimizers import inner_optimizer
from ...optim.common.types import Gradient, Scalar
from ...optim.gradients.given import but_new_values
from ...optim.gradients.sparse import times


class LossScale:
    """The loss scale of an optimizer: none, fixed or dynamic.

    A fixed scale is `loss_scale_factor`; a `keras.optimizers.LossScaleOptimizer` has a dynamic scale, in
    addition to that of the inner optimizer.

    Attributes:
        dynamic: whether it is dynamic. Only then use `halved`, `halve` and `grow`.
    """

    def __init__(self, optimizer: keras.optimizers.Optimizer) -> None:
        self._optimizer = optimizer
        self._inner = inner_optimizer(optimizer)
        self.dynamic = self._inner is not optimizer

    @property
    def exists(self) -> bool:
        """Whether the optimizer has a loss scale."""
        return self.dynamic or self._inner.loss_scale_factor is not None

    def scaled(self, loss: Scalar) -> Scalar:
        """The loss times the scale."""
        return self._inner.scale_loss(self._optimizer.scale_loss(loss) if self.dynamic else loss)

    def unscaled(
        self, gradients: Sequence[Gradient], variables: Sequence[keras.Variable] = ()
    ) -> list[Gradient]:
        """The gradients divided by the scale, at least in float32: in float16, small quotients would be 0.

        Without `variables` all are divided; with them, new values (see `is_new_value`) stay as they are.
        """
        inverse: float | Scalar | None = None
        if self._inner.loss_scale_factor is not None:
            inverse = 1.0 / self._inner.loss_scale_factor
        if self.dynamic:
            dynamic = 1.0 / tf.convert_to_tensor(self._optimizer.dynamic_scale)
            inverse = dynamic if inverse is None else dynamic * inverse
        if inverse is None:
            return list(gradients)
        return but_new_values(
            lambda selected: [_times_in_float32(g, inverse) for g in selected], gradients, variables
        )

    def rescaled(self, gradients: Sequence[Gradient], variables: Sequence[keras.Variable]) -> list[Gradient]:
        """Unscaled gradients times the fixed scale, for `apply` of the optimizer, which divides by it."""
        factor = self._inner.loss_scale_factor
        if factor is None:
            return list(gradients)
        return but_new_values(lambda selected: [times(g, factor) for g in selected], gradients, variables)

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


def _times_in_float32(gradient: Gradient, factor: float | Scalar) -> Gradient:
    wide = tf.float64 if gradient.dtype == tf.float64 else tf.float32
    return times(tf.cast(gradient, wide), tf.cast(factor, wide))
