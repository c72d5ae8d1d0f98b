"""What replicas do together: all-reduce, conditions around all of them, updates of all copies."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Sequence
from functools import partial
from typing import TypeAlias

import keras
import tensorflow as tf

from ..common.types import Gradient, Scalar, Tensors
from ..private.keras_private import clips_by, takes_sums
from .clipping import clip_as_set

# Changes variables; what it returns is ignored.
Action: TypeAlias = Callable[..., object]
# Up to so many elements a tensor is copied into the one vector that is summed; a larger one costs more to
# copy than to sum by itself, within the same call.
_PACKED = 1 << 18


def replica_count() -> int:
    """How many replicas run in step."""
    return int(tf.distribute.get_strategy().num_replicas_in_sync)


def in_replica() -> bool:
    """Whether this code is traced for one replica of a strategy, and not for all of them together."""
    return tf.distribute.has_strategy() and not tf.distribute.in_cross_replica_context()


def sum_over_replicas(values: Sequence[Gradient]) -> list[Gradient]:
    """Sums each value over all replicas, in one batched reduction for each dtype (mostly one).

    TensorFlow's reductions over workers and GPUs join what they are given, and cannot join two dtypes.

    Outside of a replica, and with one alone, values are returned as they are. In a sparse sum a row may come
    several times: see `without_repeats`.
    """
    values = list(values)
    if replica_count() == 1 or not in_replica():
        return values
    by_dtype: dict[tf.DType, list[int]] = {}
    for index, value in enumerate(values):
        by_dtype.setdefault(value.dtype, []).append(index)
    for indices in by_dtype.values():
        packed = [index for index in indices if _is_small(values[index])]
        if len(packed) == 1:
            packed = []
        alone = [index for index in indices if index not in packed]
        vectors = [tf.concat([tf.reshape(values[i], [-1]) for i in packed], 0)] if packed else []
        given = [*vectors, *(values[i] for i in alone)]
        sums = tf.distribute.get_replica_context().all_reduce(tf.distribute.ReduceOp.SUM, given)
        if packed:
            pieces = tf.split(sums.pop(0), [values[i].shape.num_elements() for i in packed])
            sums += [tf.reshape(piece, values[i].shape) for i, piece in zip(packed, pieces)]
        for index, total in zip([*alone, *packed], sums):
            values[index] = total
    return values


def _is_small(value: Gradient) -> bool:
    elements = None if isinstance(value, tf.IndexedSlices) else value.shape.num_elements()
    return elements is not None and elements <= _PACKED


def when(condition: Scalar, action: Action, *tensors: Tensors, otherwise: Action | None = None) -> Scalar:
    """Runs `action(*tensors)`, which changes variables, if `condition` holds, else `otherwise(*tensors)`.

    On several replicas there is one condition around all of them, so that the action may reduce over them;
    in a `tf.cond` of each replica TensorFlow refuses that. The condition, a scalar bool, is the same on each
    replica; actions use no other tensors of a replica than `tensors`. Returns a scalar, for what must run
    after this to wait for.
    """
    if not in_replica():
        return _if(condition, partial(action, *tensors), otherwise and partial(otherwise, *tensors))

    def on_all(strategy: tf.distribute.Strategy, conditions: Scalar, given: Tensors) -> Scalar:
        def each(chosen: Action) -> Action:
            return lambda: strategy.extended.call_for_each_replica(chosen, args=given)

        first = strategy.experimental_local_results(conditions)[0]
        return _if(first, each(action), otherwise and each(otherwise))

    return tf.distribute.get_replica_context().merge_call(on_all, args=(condition, tensors))


def _if(condition: Scalar, action: Action, otherwise: Action | None) -> Scalar:
    def branch(run: Action | None) -> Callable[[], Scalar]:
        def body() -> Scalar:
            if run is not None:
                run()
            return tf.constant(True)

        return body

    return tf.cond(condition, branch(action), branch(otherwise))


def once(function: Callable[..., Scalar], *tensors: Tensors) -> Scalar:
    """Returns `function(*tensors)`, computed by one replica of this process for all.

    The tensors are the same on each replica, or other values that all replicas share.
    """
    if not in_replica() or replica_count() == 1:
        return function(*tensors)

    def on_all(strategy: tf.distribute.Strategy, *given: Tensors) -> Scalar:
        return function(*tf.nest.map_structure(lambda v: strategy.experimental_local_results(v)[0], given))

    return tf.distribute.get_replica_context().merge_call(on_all, args=tensors)


def on_all_replicas(operations: Sequence[tf.Operation]) -> list[tf.Operation]:
    """What to wait for until operations have run on every replica of this process.

    What fails on one replica ends the others wherever they are: what must be done then has to come before.
    """
    if not in_replica() or replica_count() == 1:
        return list(operations)
    with tf.control_dependencies(operations):
        done = tf.constant(True)

    def on_all(strategy: tf.distribute.Strategy, each: Scalar) -> tf.Operation:
        return tf.group(*strategy.experimental_local_results(each))

    waited = tf.distribute.get_replica_context().merge_call(on_all, args=(done,))
    return [] if waited is None else [waited]  # eagerly there is no operation


def apply_sums(
    optimizer: keras.optimizers.Optimizer, gradients: Sequence[Gradient], variables: Sequence[keras.Variable]
) -> None:
    """`optimizer.apply_gradients` for gradients that are summed over replicas already.

    As `fit`, it calls the outermost method that a class may override. Keras clips first and sums then. As
    nothing is summed again, it clips the sum, as on one device.
    """
    if optimizer.gradient_accumulation_steps:  # Keras adds them to sums of the variables' dtypes
        gradients = [tf.cast(gradient, variable.dtype) for gradient, variable in zip(gradients, variables)]
    several = len({gradient.dtype for gradient in gradients}) > 1
    with clips_by(optimizer, clip_as_set) if several else contextlib.nullcontext():
        _apply_sums(optimizer, gradients, variables)


def _apply_sums(
    optimizer: keras.optimizers.Optimizer, gradients: Sequence[Gradient], variables: Sequence[keras.Variable]
) -> None:
    if not isinstance(tf.distribute.get_strategy(), tf.distribute.ParameterServerStrategy):
        with takes_sums(optimizer):
            optimizer.apply_gradients(zip(gradients, variables))
        return
    # Keras reads its counter, adds to it and writes it back: of two workers that do so together, one is lost.
    vars(optimizer.iterations)["assign_add"] = optimizer.iterations.value.assign_add
    try:
        optimizer.apply_gradients(zip(gradients, variables))
    finally:
        del vars(optimizer.iterations)["assign_add"]


def on_each_device(variable: keras.Variable, function: Action, inputs: tuple[Tensors, ...]) -> None:
    """Calls `function(variable, *inputs)` for each copy of the variable, with the inputs on its device.

    In a replica, for the replica's own copy.
    """
    if tf.distribute.has_strategy() and tf.distribute.in_cross_replica_context():
        tf.distribute.get_strategy().extended.update(variable.value, function, args=inputs, group=False)
    else:
        function(variable.value, *inputs)


def assign_each(variable: keras.Variable, value: tf.Tensor) -> None:
    """Sets each copy of a variable, in a replica its own, to a value of its shape, the same for all."""

    def assign(copy: tf.Variable, value: tf.Tensor) -> None:
        value = tf.cast(tf.convert_to_tensor(value), copy.dtype)
        tf.raw_ops.AssignVariableOp(resource=copy.handle, value=value)

    on_each_device(variable, assign, (value,))


def add_one(counter: keras.Variable) -> None:
    """Adds one to a counter: each replica to its own copy, by one operation.

    Keras' own `assign_add` has three, and TensorFlow's makes replicas wait for each other.
    """

    def add(copy: tf.Variable) -> None:
        tf.raw_ops.AssignAddVariableOp(resource=copy.handle, value=tf.constant(1, copy.dtype))

    on_each_device(counter, add, ())
