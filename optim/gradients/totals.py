"""Values of variables that replicas have between them, assigned as they were read."""

from __future__ import annotations

from collections.abc import Iterable

import keras
import tensorflow as tf

from ..common.types import Array
from .replicas import in_replica


def assign_values(pairs: Iterable[tuple[keras.Variable | tf.Variable, Array | tf.Tensor]]) -> None:
    """Gives variables the values that `.numpy()` gave, those of metrics on several replicas too.

    Such a one is the sum of what each replica counts. TensorFlow's `assign` gives each an equal part, cut
    to a whole number if it counts in those: of 5 on two replicas 4 are left. Here the first has it all.
    """
    totals: dict[int, tuple[tf.distribute.Strategy, list[tuple[tf.Variable, Array | tf.Tensor]]]] = {}
    plain = []
    for variable, value in pairs:
        own = variable.value if isinstance(variable, keras.Variable) else variable
        strategy = getattr(own, "distribute_strategy", None)
        if strategy is not None and _is_sum(own) and not in_replica():
            totals.setdefault(id(strategy), (strategy, []))[1].append((own, value))
        elif strategy is None and _fits(value, own):
            plain.append((own.handle, value))
        else:
            variable.assign(value)
    for handle, tensor in plain:  # what `assign` does, in less time, and in a loop of its own in still less
        tf.raw_ops.AssignVariableOp(resource=handle, value=tensor)
    for strategy, given in totals.values():
        # In a function, since of an eager run TensorFlow warns.
        tf.function(strategy.run, autograph=False)(_assign_to_first, args=(given,))


def _fits(value: Array | tf.Tensor, variable: tf.Variable) -> bool:
    """Whether it is a tensor, out of a graph, that is as the variable's."""
    eager = tf.executing_eagerly() and tf.is_tensor(value)
    return eager and (value.dtype, value.shape) == (variable.dtype, variable.shape)


def _is_sum(variable: tf.Variable) -> bool:
    on_read = variable.synchronization == tf.VariableSynchronization.ON_READ
    return on_read and variable.aggregation == tf.VariableAggregation.SUM


def _assign_to_first(pairs: list[tuple[tf.Variable, Array | tf.Tensor]]) -> None:
    first = tf.equal(tf.distribute.get_replica_context().replica_id_in_sync_group, 0)
    for variable, value in pairs:
        variable.assign(tf.where(first, value, tf.zeros_like(value)))
