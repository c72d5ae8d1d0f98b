"""Gradients as callers give them: a tape's tensors, NumPy arrays, and new values of variables."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import keras
import tensorflow as tf

from ..common.messages import short_repr
from ..common.types import Gradient
from .replicas import replica_count, sum_over_replicas


def as_gradient(argument: str, name: str, variable: keras.Variable, given: Gradient) -> Gradient:
    """A gradient as a tensor of the variable's shape.

    What is no tensor (a NumPy array, a list, a number) takes the variable's dtype, and so do integers.
    TypeError for no array of real numbers, ValueError for another shape, by the caller's name of its argument
    and the variable's name.
    """
    of_no_dtype = not tf.is_tensor(given)
    if not isinstance(given, tf.IndexedSlices):
        try:
            given = tf.convert_to_tensor(given)
        except (TypeError, ValueError) as error:
            raise _no_gradient(argument, name, given) from error
    if given.dtype == tf.string or given.dtype.is_complex:
        raise _no_gradient(argument, name, given)
    if of_no_dtype or not given.dtype.is_floating:
        given = tf.cast(given, variable.dtype)
    if not given.shape.is_compatible_with(variable.shape):
        raise ValueError(
            f"`{argument}` has shape {given.shape} for {name!r}, whose shape is {tuple(variable.shape)}: "
            "give each variable its own gradient, in the variables' order"
        )
    return given


def _no_gradient(argument: str, name: str, given: object) -> TypeError:
    return TypeError(
        f"`{argument}` has {short_repr(given)} for {name!r}, which is no array of real numbers: give what a "
        "tape gives, or an array of the variable's shape"
    )


def is_new_value(variable: keras.Variable) -> bool:
    """Whether what a tape calls the gradient of a variable is its new value (a scale of a float8 layer)."""
    return bool(getattr(variable, "overwrite_with_gradient", False))


def but_new_values(
    change: Callable[[list[Gradient]], Sequence[Gradient]],
    gradients: Sequence[Gradient],
    variables: Sequence[keras.Variable],
) -> list[Gradient]:
    """`change(gradients)`, with new values of variables left out of it and as they are in the result."""
    kept = [is_new_value(variable) for variable in variables]
    if not any(kept):
        return list(change(list(gradients)))
    changed = iter(change([gradient for gradient, keep in zip(gradients, kept) if not keep]))
    return [gradient if keep else next(changed) for gradient, keep in zip(gradients, kept)]


def reduce_over_replicas(
    gradients: Sequence[Gradient], variables: Sequence[keras.Variable], others: Sequence[tf.Tensor] = ()
) -> list[Gradient]:
    """`sum_over_replicas` of gradients and others; of new values, the largest on any replica.

    So Keras takes the largest over the calls that it accumulates: a float8 layer's new value is the largest
    number in a batch, and that of the whole batch is the largest of its shares'.
    """
    kept = [is_new_value(variable) for variable in variables]
    count = replica_count()
    if count == 1 or not any(kept):
        return sum_over_replicas([*gradients, *others])
    replica = tf.distribute.get_replica_context().replica_id_in_sync_group
    values = [
        _own_row(gradient, replica, count) if keep else gradient for gradient, keep in zip(gradients, kept)
    ]
    sums = sum_over_replicas([*values, *others])
    largest = [tf.reduce_max(total, 0) if keep else total for total, keep in zip(sums, kept)]
    return [*largest, *sums[len(kept) :]]


def _own_row(value: tf.Tensor, replica: tf.Tensor, count: int) -> tf.Tensor:
    """(replicas, *shape): the value in this replica's row, so that a sum over replicas puts them together."""
    rows = tf.reshape(tf.equal(tf.range(count), replica), [count] + [1] * value.shape.rank)
    return tf.where(rows, value, tf.zeros_like(value))
