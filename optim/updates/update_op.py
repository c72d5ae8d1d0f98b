"""How one optimizer updates one variable by one TensorFlow operation."""

from __future__ import annotations

import abc
from collections.abc import Sequence
from typing import TypeAlias

import tensorflow as tf

from ..common.types import Scalar

Scalars: TypeAlias = list[Scalar]
Slots: TypeAlias = Sequence[tf.Variable]


class UpdateOp(abc.ABC):
    """An optimizer's update of one variable. Arguments are named as in TensorFlow's operations.

    Attributes:
        slots: the names of the state variables that each variable has, of its shape.
        initial: what they start with.
        corrects_bias: whether the rate depends on how many updates a variable has had (`corrected`).
    """

    slots: tuple[str, ...] = ()
    initial: float = 0.0
    corrects_bias: bool = False

    def scaled(self, rate: Scalar) -> Scalar:
        """A group's rate, in the variables' dtype, as the operation wants it."""
        return rate

    def corrected(self, rates: tf.Tensor, update_counts: tf.Tensor) -> tf.Tensor:
        """The rates with bias correction.

        Args:
            rates: (variables,) learning rates, in the variables' dtype.
            update_counts: (variables,) int64: which update this is, from 1.
        """
        return rates

    @abc.abstractmethod
    def scalars(self, dtype: str) -> Scalars:
        """The inputs that all variables of a group share.

        Args:
            dtype: of the variables.
        """

    @abc.abstractmethod
    def update(self, var: tf.Variable, grad: tf.Tensor, rate: Scalar, slots: Slots, scalars: Scalars) -> None:
        """Updates one variable and its slots by a dense gradient."""

    def update_rows(
        self, var: tf.Variable, grad: tf.IndexedSlices, rate: Scalar, slots: Slots, scalars: Scalars
    ) -> None:
        """The same by a sparse gradient with each row once.

        Most optimizers move rows without a gradient too (by momentum), as Keras does, so this is the dense
        update unless a subclass knows better.
        """
        rows = tf.shape(var, out_type=grad.indices.dtype)[0]
        dense = tf.math.unsorted_segment_sum(grad.values, grad.indices, rows)
        self.update(var, tf.ensure_shape(dense, var.shape), rate, slots, scalars)
