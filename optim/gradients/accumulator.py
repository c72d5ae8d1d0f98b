"""Gradient accumulation: several micro-batches make one update."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import keras
import tensorflow as tf

from ..common.types import Gradient, Scalar
from .given import is_new_value
from .replicas import when
from .sparse import times


class GradientAccumulator:
    """Running sums of gradients, each times what its call counts, and the number of calls so far.

    Args, of which variables are zero at the start:
        every: how many calls make one update.
        sums: a variable for each gradient, of its shape.
        calls: an int64 counter.
        weight: of the calls together, a float32 scalar; None where all count the same.
        largest: for each, whether the update takes the largest value of the calls in place of the mean, as it
            does for new values of variables (`is_new_value`); empty for none.
    """

    def __init__(
        self,
        every: int,
        sums: Sequence[tf.Variable],
        calls: tf.Variable,
        weight: tf.Variable | None = None,
        largest: Sequence[bool] = (),
    ) -> None:
        self.every = every
        self.sums = sums
        self.calls = calls
        self.weight = weight
        self._largest = list(largest) or [False] * len(sums)

    @classmethod
    def over(cls, variables: Sequence[keras.Variable], every: int) -> GradientAccumulator:
        """An accumulator for the gradients of some variables, whose calls may count differently."""

        def zero(shape: tf.TensorShape, dtype: tf.DType) -> tf.Variable:
            # In half precision, a sum over many examples loses digits and ends at 65504.
            wide = tf.float32 if dtype in (tf.float16, tf.bfloat16) else dtype
            return tf.Variable(tf.zeros(shape, wide), trainable=False)

        sums = [zero(variable.shape, tf.as_dtype(variable.dtype)) for variable in variables]
        largest = [is_new_value(variable) for variable in variables]
        return cls(every, sums, zero((), tf.int64), zero((), tf.float32), largest)

    @property
    def variables(self) -> list[tf.Variable]:
        """The running sums, the number of calls, and what the calls in the sums count."""
        return [*self.sums, self.calls, *([] if self.weight is None else [self.weight])]

    def add(
        self,
        gradients: Sequence[Gradient],
        update: Callable[[list[Gradient]], None],
        positions: Sequence[int] | None = None,
        weight: Scalar | None = None,
    ) -> None:
        """Adds gradients to the sums; each `every`-th call passes their means to `update` and starts anew.

        `positions` tells which of the sums the gradients belong to, None for all; `weight` what this call
        counts in the means, float32, None for 1.
        """
        positions = range(len(self.sums)) if positions is None else positions
        largest = [self._largest[position] for position in positions]
        first = tf.equal(self.calls % self.every, 0) if any(largest) else None
        if self.weight is not None:
            self.weight.assign_add(1.0 if weight is None else weight)
        for position, gradient, keep in zip(positions, gradients, largest):
            total = self.sums[position]
            gradient = tf.cast(tf.convert_to_tensor(gradient), total.dtype)
            if keep:
                total.assign(tf.where(first, gradient, tf.maximum(total, gradient)))
            else:
                total.assign_add(
                    gradient if weight is None else times(gradient, tf.cast(weight, total.dtype))
                )

        def update_and_reset() -> None:
            update([self._mean(position) for position in positions])
            self._set_to_zero()

        when(tf.equal(self.calls.assign_add(1) % self.every, 0), update_and_reset)

    def flush(self, update: Callable[[list[Gradient]], None]) -> Scalar:
        """Passes the means of what was added since the last update to `update`, and starts anew.

        Returns whether there was something, a scalar bool. For an accumulator with a `weight`.
        """
        left = self.calls % self.every > 0

        def update_and_reset() -> None:
            update([self._mean(position) for position in range(len(self.sums))])
            self.reset()

        with tf.control_dependencies([when(left, update_and_reset)]):
            return tf.identity(left)

    def reset(self) -> None:
        """Drops gradients that were added but not applied yet."""
        self.calls.assign(0)
        self._set_to_zero()

    def _mean(self, position: int) -> tf.Tensor:
        total = self.sums[position]
        if self._largest[position]:
            return total.read_value()
        if self.weight is None:
            return total / self.every
        # Calls that all count nothing have no gradient either.
        return tf.math.divide_no_nan(total, tf.cast(self.weight, total.dtype))

    def _set_to_zero(self) -> None:
        if self.weight is not None:
            self.weight.assign(0.0)
        # Those of variables frozen meanwhile too: they must not come up when the variable trains again.
        for total in self.sums:
            total.assign(tf.zeros_like(total))
