"""A batch over replicas: each takes its share, and the shares of a loss add up to the loss of the batch."""

from __future__ import annotations

from collections.abc import Callable
from contextvars import ContextVar
from typing import Any, NamedTuple

import tensorflow as tf

from .batches import BatchIterator
from .keras_private import undivided_losses
from .scope import has_other_workers


class Unread(NamedTuple):
    """A batch of arrays of which only the examples that are asked for are read.

    Attributes:
        indices: of its examples, (examples,).
        take: gives the batch of some of these indices.
    """

    indices: tf.Tensor
    take: Callable[[tf.Tensor], Any]


def examples_in(batch: Any) -> tf.Tensor:
    """Returns the number of examples of a batch, int32 scalar."""
    if isinstance(batch, Unread):
        return tf.shape(batch.indices)[0]
    return tf.shape(tf.nest.flatten(batch)[0])[0]


# Set while a step runs a loss function of the user's, of whose result it takes the replica's share itself.
STEP_TAKES_SHARE: ContextVar[bool] = ContextVar("STEP_TAKES_SHARE", default=False)


class Share(NamedTuple):
    """What a replica's examples count.

    Attributes:
        examples: in the batch of all replicas together, float32 scalar.
        weight: of each example of this replica, float32 scalar: 1, or less where several replicas have it.
    """

    examples: tf.Tensor
    weight: tf.Tensor


def on_replicas(
    strategy: tf.distribute.Strategy | None, function: Callable[[Any, Share | None], Any], batch: Any
) -> Any:
    """Runs `function(own batch, share)` on each replica, with its part of the examples of a batch.

    Replica r of R takes the examples from r * n // R to (r + 1) * n // R, so parts differ by one example at
    most. Fewer examples than replicas, the rest of an epoch, go to each replica, where they count 1 / R: an
    empty batch fails in TensorFlow's kernels, and has no statistics for BatchNorm.

    Args:
        strategy: whose replicas; None to run the function once, with the whole batch and None.
        function: of tensors and a `Share`.
        batch: a nest of tensors whose first dimension is the examples, or an `Unread`.

    Returns:
        What the first replica of this process returned.
    """
    if strategy is None:
        return function(batch, None)
    replicas, examples = strategy.num_replicas_in_sync, examples_in(batch)

    def own(part: Any, examples: tf.Tensor) -> Any:
        if isinstance(batch, Unread):
            # Each replica reads its own examples; only the indices of all go to it.
            part = batch.take(_part(part, examples, replicas, tf.distribute.get_replica_context()))
        if replicas == 1:
            return function(part, None)
        weight = tf.where(examples < replicas, 1.0 / replicas, 1.0)
        return function(part, Share(tf.cast(examples, tf.float32), weight))

    parts = batch.indices if isinstance(batch, Unread) else split(strategy, batch)
    # Keras' losses divide by the number of replicas, which is right for equal parts alone.
    with undivided_losses():
        results = strategy.run(own, args=(parts, examples))
    return tf.nest.map_structure(lambda result: strategy.experimental_local_results(result)[0], results)


def split(strategy: tf.distribute.Strategy, batch: Any) -> Any:
    """Returns a nest of tensors as values of which each replica has its part; see `on_replicas`."""
    replicas, examples = strategy.num_replicas_in_sync, examples_in(batch)
    if replicas == 1:
        return batch

    def part(context: Any) -> Any:
        return tf.nest.map_structure(lambda tensor: _part(tensor, examples, replicas, context), batch)

    return strategy.experimental_distribute_values_from_function(part)


def _part(tensor: tf.Tensor, examples: tf.Tensor, replicas: int, context: Any) -> tf.Tensor:
    """The rows of a tensor that are those of a replica."""
    if replicas == 1:
        return tensor
    number, few = context.replica_id_in_sync_group, examples < replicas
    first = tf.where(few, 0, number * examples // replicas)
    last = tf.where(few, examples, (number + 1) * examples // replicas)
    return tensor[first:last]


def total_over_replicas(value: tf.Tensor) -> tf.Tensor:
    """Returns the sum of a small tensor over all replicas."""
    return tf.distribute.get_replica_context().all_reduce(tf.distribute.ReduceOp.SUM, value)


def same_on_workers(strategy: tf.distribute.Strategy | None) -> Callable[[float], float] | None:
    """Returns a function that gives each worker the mean of the numbers that all call it with.

    None where there is one process alone, or where workers need not agree.
    """
    if strategy is None or not has_other_workers(strategy):
        return None

    def on_all(value: tf.Tensor) -> tf.Tensor:
        # Made by an operation of the replica, as TensorFlow reduces to the device of what it is given.
        totals = strategy.run(lambda number: total_over_replicas(tf.identity(number)), args=(value,))
        return strategy.experimental_local_results(totals)[0]

    traced = tf.function(on_all)

    def mean(number: float) -> float:
        with strategy.scope():
            return float(traced(tf.constant(number / strategy.num_replicas_in_sync, tf.float32)))

    return mean


def check_divides(strategy: tf.distribute.Strategy | None, iterator: Any) -> None:
    """Raises ValueError if batches cannot be split over the replicas of a strategy.

    Args:
        strategy: None for one device.
        iterator: a `BatchIterator` or an iterator of a `tf.data.Dataset`.
    """
    if strategy is None or strategy.num_replicas_in_sync == 1:
        return
    replicas = strategy.num_replicas_in_sync
    if isinstance(iterator, BatchIterator):
        sizes = [iterator.batches.batch_size]
    else:
        specs = tf.nest.flatten(iterator.element_spec)
        whole = [spec for spec in specs if not isinstance(spec, tf.TensorSpec) or spec.shape.rank == 0]
        if whole:
            raise ValueError(
                f"the dataset's elements hold {whole[0]}, which has no examples to split over {replicas} "
                "replicas: give dense tensors whose first dimension is the batch, `dataset.batch(...)`."
            )
        sizes = [spec.shape[0] for spec in specs if spec.shape.rank and spec.shape[0] is not None]
    if sizes and min(sizes) < replicas:
        raise ValueError(
            f"batches of {min(sizes)} examples are too small for {replicas} replicas, each of which takes a "
            f"part: the batch size is that of all together; make it {replicas} or more."
        )


def check_same_order(strategy: tf.distribute.Strategy | None, data: tf.data.Dataset, name: str) -> None:
    """Raises ValueError if several workers would read a dataset in different orders."""
    if has_other_workers(strategy) and data.options().deterministic is False:
        raise ValueError(
            f"`{name}` cannot be sharded: it is read in no fixed order (its options say `deterministic = "
            "False`), and each worker takes its part of every batch. Leave that option out, and seed its "
            "shuffles."
        )
