"""What an update kernel is."""

from __future__ import annotations

import abc
from collections.abc import Sequence

import tensorflow as tf

Scalars = list[tf.Tensor]


class UpdateOp(abc.ABC):
    """How one optimizer updates one variable.

    Attributes:
        slots: the names of the state variables that each variable has, of its shape.
        initial: what they start with.
        counts: whether the rate depends on how many updates a variable has had (`corrected`).
    """

    slots: tuple[str, ...] = ()
    initial: float = 0.0
    counts: bool = False

    def scaled(self, rate: tf.Tensor) -> tf.Tensor:
        """A group's rate, in the variables' dtype, as the kernel wants it."""
        return rate

    def corrected(self, rates: tf.Tensor, updates: tf.Tensor) -> tf.Tensor:
        """The rates with bias correction.

        Args:
            rates: (variables,) learning rates, in the variables' dtype.
            updates: (variables,) int64: which update this is, from 1.
        """
        return rates

    @abc.abstractmethod
    def scalars(self, dtype: str) -> Scalars:
        """The inputs that all variables of a group share.

        Args:
            dtype: of the variables.
        """

    @abc.abstractmethod
    def update(
        self,
        variable: tf.Variable,
        gradient: tf.Tensor,
        rate: tf.Tensor,
        slots: Sequence[tf.Variable],
        scalars: Scalars,
    ) -> None:
        """Updates one variable and its slots by a dense gradient."""

    def update_rows(
        self,
        variable: tf.Variable,
        gradient: tf.IndexedSlices,
        rate: tf.Tensor,
        slots: Sequence[tf.Variable],
        scalars: Scalars,
    ) -> None:
        """The same by a sparse gradient. Rows may repeat; they count with their sum.

        Most optimizers move rows without a gradient too (by momentum), as Keras does, so this is the dense
        update unless a kernel knows better.
        """
        rows = tf.shape(variable, out_type=gradient.indices.dtype)[0]
        dense = tf.math.unsorted_segment_sum(gradient.values, gradient.indices, rows)
        self.update(variable, tf.ensure_shape(dense, variable.shape), rate, slots, scalars)
