"""`replicated`: runs a step of one's own on all replicas."""

from __future__ import annotations

import functools
from collections.abc import Callable
from typing import ParamSpec, TypeVar

import keras
import tensorflow as tf

from ...optim.common.types import Tensors
from ..device.reduce_retracing import reduce_retracing
from ..distribute.scope import has_other_workers, is_asynchronous, scope_of
from ..distribute.sharding import EXAMPLE_WEIGHT, split
from ..support.keras_private import global_seed_generator, set_global_seed_generator
from ..update.nonfinite import raises_nonfinite
from .replica_seeds import replica_seeds
from .replica_step import replica_step
from .summaries import explained_summaries

P = ParamSpec("P")
Result = TypeVar("Result")


def replicated(step: Callable[P, Result]) -> Callable[P, Result]:
    """Decorator: runs a step of your own as one TensorFlow function, on all replicas of a strategy.

    The strategy is the one in whose scope the step is decorated or, if there is none, called. Without a
    strategy, the step runs once. It is traced for the first shapes, and once more for others: from then on
    the dimensions that differed may have any size, unless the step needs a fixed one. It is retraced when a
    layer in it is frozen or unfrozen, by `trainable`. An `Update` in it raises its `NonFiniteError` as such.

    When an `Update` skips its step, the state that layers and Keras metrics wrote before it is restored.
    Moving statistics are averaged over replicas, and each replica draws its own random numbers.
    (`docs/own_loops.md` compares a `TrainStep`, this decorator and a plain `tf.function`.)

    Args:
        step: function of tensors, made of TensorFlow operations; returns a nest of tensors.

    Returns:
        A function like `step`. On several replicas:

        - arguments are the batch of all replicas: arrays and tensors are split by their first dimension, as
          `TrainStep` splits them; scalars and other objects go to each replica. Or all arguments are
          `tf.distribute.DistributedValues`, as a distributed dataset gives them: each replica gets its own;
        - results that are scalars are summed over replicas, so return a replica's part of a mean, as
          `mean_loss` gives it (a scalar bool is that of the first replica); other tensors are joined along
          their first dimension, in the order of the batch (the part of this process, with several workers).

        Values given to `loops.record` in the step are added to the dict that it returns.

    Raises:
        TypeError: `step` is no function.
        ValueError: from the function: arguments that are partly distributed and partly not, arrays of
            different lengths, plain arrays on several workers, a stateful RNN on several replicas, or a step
            that records and returns no dict.

    Example:
        >>> import keras, tensorflow as tf
        >>> from gradloop import loops
        >>> weight = keras.Variable(3.0)
        >>> update = loops.Update(keras.optimizers.SGD(0.25), [weight])
        >>> @loops.replicated
        ... def step(x):
        ...     with tf.GradientTape() as tape:
        ...         loss = loops.mean_loss((weight * x) ** 2)
        ...     update(tape.gradient(loss, update.variables))
        ...     return {"loss": loss}
        >>> float(step(tf.constant([1.0]))["loss"]), float(weight)
        (9.0, 1.5)
    """
    if not callable(step):
        raise TypeError(f"`step` must be a function of tensors, not {step!r}.")
    decorated_in = tf.distribute.get_strategy() if tf.distribute.has_strategy() else None
    layers: dict[int, keras.layers.Layer] = {}
    on_one = replica_step(step, layers)
    functions: dict[int, Callable[P, Result]] = {}
    traced_with: dict[int, list[bool]] = {}  # `trainable` of the layers that ran

    @functools.wraps(step)
    def call(*args: P.args, **kwargs: P.kwargs) -> Result:
        strategy = decorated_in
        if strategy is None and tf.distribute.has_strategy() and tf.distribute.in_cross_replica_context():
            strategy = tf.distribute.get_strategy()
        if strategy is not None:
            _check_arguments(strategy, (args, kwargs))
        now = [layer.trainable for layer in layers.values()]
        if id(strategy) not in functions or traced_with.get(id(strategy), now) != now:
            run = on_one if strategy is None else functools.partial(_run, strategy, on_one)
            functions[id(strategy)] = reduce_retracing(run)
        with scope_of(strategy), raises_nonfinite(), explained_summaries():
            result = functions[id(strategy)](*args, **kwargs)
        traced_with[id(strategy)] = [layer.trainable for layer in layers.values()]
        return result

    return call


def _run(
    strategy: tf.distribute.Strategy, step: Callable[..., Tensors], *args: Tensors, **kwargs: Tensors
) -> Tensors:
    flat = tf.nest.flatten((args, kwargs))
    arrays = [value for value in flat if _splits(value)]
    shard = None
    if arrays and strategy.num_replicas_in_sync > 1:
        split_values, shard = split(strategy, arrays)
        parts = iter(split_values)
        mapped = [next(parts) if _splits(value) else value for value in flat]
        args, kwargs = tf.nest.pack_sequence_as((args, kwargs), mapped)

    seeds = global_seed_generator()

    def run(shard: tf.Tensor | None, *args: Tensors, **kwargs: Tensors) -> Tensors:
        set_global_seed_generator(seeds)  # each replica runs in a thread of its own
        token = EXAMPLE_WEIGHT.set(None if shard is None else shard[1])
        try:
            return step(*args, **kwargs)
        finally:
            EXAMPLE_WEIGHT.reset(token)

    with replica_seeds(strategy):
        results = strategy.run(run, args=(shard, *args), kwargs=kwargs)

    def joined(result: tf.distribute.DistributedValues) -> tf.Tensor:
        local = strategy.experimental_local_results(result)
        if not tf.is_tensor(local[0]):
            return local[0]
        if local[0].shape.rank != 0:
            return tf.concat(local, 0)
        if local[0].dtype == tf.bool:
            return local[0]
        return strategy.reduce(tf.distribute.ReduceOp.SUM, result, axis=None)

    return tf.nest.map_structure(joined, results)


def _splits(value: object) -> bool:
    return not _is_distributed(value) and getattr(getattr(value, "shape", None), "rank", 0) != 0


def _is_distributed(value: object) -> bool:
    return isinstance(value, tf.distribute.DistributedValues) and not isinstance(value, tf.Variable)


def _check_arguments(strategy: tf.distribute.Strategy, arguments: Tensors) -> None:
    if is_asynchronous(strategy):
        raise ValueError(
            "The step was called under parameter servers, whose workers run steps that a coordinator gives "
            "them: use `TrainStep` and `train`, or `ClusterCoordinator.schedule`."
        )
    flat = tf.nest.flatten(arguments)
    plain = [value for value in flat if not _is_distributed(value) and len(getattr(value, "shape", ()))]
    if not plain:
        return
    if any(map(_is_distributed, flat)):
        raise ValueError(
            "The step was called with some arguments that are distributed over replicas and some that are "
            "not: pass plain arrays alone, which are split, or what a distributed dataset gives alone."
        )
    if has_other_workers(strategy):
        raise ValueError(
            "The step was called with plain arrays on several workers, each of which would pass its own: "
            "pass what `strategy.experimental_distribute_dataset(dataset)` gives, or use `TrainStep.run` "
            "with a `Batches`."
        )
    lengths = sorted({int(value.shape[0]) for value in plain if value.shape[0] is not None})
    if len(lengths) > 1:
        raise ValueError(
            f"The step was called with arrays of lengths {lengths}: the first dimension, which is split over "
            "replicas, must be the examples of one batch. Pass a scalar or a closure for anything else."
        )
