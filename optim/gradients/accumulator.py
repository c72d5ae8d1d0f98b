"""Gradient accumulation: several micro-batches make one update."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import tensorflow as tf

from ..common.types import Gradient
from .replicas import when


class GradientAccumulator:
    """Running sums of gradients, and the number of calls so far.

    Args:
        every: how many calls make one update.
        sums: a variable for each gradient, of its shape, zero at the start.
        calls: an int64 counter, zero at the start.
    """

    def __init__(self, every: int, sums: Sequence[tf.Variable], calls: tf.Variable) -> None:
        self.every = every
        self.sums = sums
        self.calls = calls

    def add(
        self,
        gradients: Sequence[Gradient],
        update: Callable[[list[Gradient]], None],
        positions: Sequence[int] | None = None,
    ) -> None:
        """Adds gradients to the sums; each `every`-th call passes their means to `update` and starts anew.

        `positions` tells which of the sums the gradients belong to; None for all, in order.
        """
        sums = self.sums if positions is None else [self.sums[position] for position in positions]
        for total, gradient in zip(sums, gradients):
            total.assign_add(tf.cast(tf.convert_to_tensor(gradient), total.dtype))

        def update_and_reset() -> None:
            update([total / self.every for total in sums])
            self._set_to_zero()

        when(tf.equal(self.calls.assign_add(1) % self.every, 0), update_and_reset)

    def reset(self) -> None:
        """Drops gradients that were added but not applied yet."""
        self.calls.assign(0)
        self._set_to_zero()

    def _set_to_zero(self) -> None:
        # Those of variables frozen meanwhile too: they must not come up when the variable trains again.
        for total in self.sums:
            total.assign(tf.zeros_like(total))
