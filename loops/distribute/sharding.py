"""A batch over replicas: each takes its share, and the shares of a loss add up to the loss of the batch."""

from __future__ import annotations

from collections.abc import Callable
from contextvars import ContextVar
from typing import Any, NamedTuple

import numpy as np
import tensorflow as tf

from ..data.batches import BatchIterator
from ..support.keras_private import undivided_losses
from .scope import has_other_workers


class LazyBatch(NamedTuple):
    """A batch of arrays of which each replica reads its own examples alone.

    Attributes:
        indices: of its examples, (examples,); replica after replica (see `shard_indices`).
        take: gives the batch of some of these indices.
        sizes: how many each replica reads, (replicas,); None for one replica.
        share: what they count, the numbers of a `Shard`, (2,); None for one replica.
    """

    indices: tf.Tensor
    take: Callable[[tf.Tensor], Any]
    sizes: tf.Tensor | None = None
    share: tf.Tensor | None = None


def shard_indices(
    indices: np.ndarray[Any, Any], batch_size: int, replicas: int
) -> tuple[np.ndarray[Any, Any], np.ndarray[Any, Any], np.ndarray[Any, Any]]:
    """Says what several replicas read in the steps of a call, as `on_replicas` deals a batch out.

    It is worked out here for all steps, since a dozen small operations in each cost more than a small model.

    Args:
        indices: of the examples of all steps, int64, 1-D; the last batch may be short.
        batch_size: examples in a batch.
        replicas: two or more.

    Returns:
        `(order, places, shares)`: the indices in the order of steps and replicas; for each step, where its
        part of that begins and ends and how many each replica reads, int64, (steps, 2 + replicas); for each
        step, the numbers of a `Shard`, float32, (steps, 2).
    """
    steps = -(-len(indices) // batch_size)
    examples = np.full(steps, batch_size)
    examples[-1] = short = len(indices) - (steps - 1) * batch_size
    sizes = np.diff(np.arange(replicas + 1) * examples[:, None] // replicas)
    shares = np.stack([examples, np.ones(steps)], 1).astype(np.float32)
    if short < replicas:
        sizes[-1], shares[-1, 1] = short, 1 / replicas
        indices = np.concatenate([indices[:-short], np.tile(indices[-short:], replicas)])
    ends = np.cumsum(sizes.sum(1))
    return indices, np.column_stack([ends - sizes.sum(1), ends, sizes]), shares


def examples_in(batch: Any) -> tf.Tensor:
    """Returns the number of examples of a batch, int32 scalar."""
    first = tf.nest.flatten(batch)[0]
    return tf.size(first) if first.shape.rank == 1 else tf.shape(first)[0]


# Set while a step runs a loss function of the user's, of whose result it takes the replica's share itself.
STEP_TAKES_SHARD: ContextVar[bool] = ContextVar("STEP_TAKES_SHARE", default=False)


class Shard(NamedTuple):
    """What a replica's examples count.

    Attributes:
        examples: in the batch of all replicas together, float32 scalar.
        weight: of each example of this replica, float32 scalar: 1, or less where several replicas have it.
    """

    examples: tf.Tensor
    weight: tf.Tensor


def on_replicas(
    strategy: tf.distribute.Strategy | None, function: Callable[[Any, Shard | None], Any], batch: Any
) -> Any:
    """Runs `function(own batch, share)` on each replica, with its part of the examples of a batch.

    Replica r of R takes the examples from r * n // R to (r + 1) * n // R, so parts differ by one example at
    most. Fewer examples than replicas, the rest of an epoch, go to each replica, where they count 1 / R: an
    empty batch fails in TensorFlow's kernels, and has no statistics for BatchNorm.

    Args:
        strategy: whose replicas; None to run the function once, with the whole batch and None.
        function: of tensors and a `Shard`.
        batch: a nest of tensors whose first dimension is the examples, or an `LazyBatch`.

    Returns:
        What the first replica of this process returned.
    """
    if strategy is None:
        return function(batch, None)
    replicas = strategy.num_replicas_in_sync
    # Every value that goes to a replica costs a transfer: both numbers are one vector.
    share = batch.share if isinstance(batch, LazyBatch) else None
    if replicas > 1 and share is None:
        examples = examples_in(batch)
        weight = tf.where(examples < replicas, 1.0 / replicas, 1.0)
        share = tf.stack([tf.cast(examples, tf.float32), weight])

    def own(part: Any, share: tf.Tensor | None) -> Any:
        # Each replica reads its own examples.
        part = batch.take(part) if isinstance(batch, LazyBatch) else part
        return function(part, None if share is None else Shard(*tf.unstack(share)))

    # Keras' losses divide by the number of replicas, which is right for equal parts alone.
    with undivided_losses():
        results = strategy.run(own, args=(split(strategy, batch), share))
    return tf.nest.map_structure(lambda result: strategy.experimental_local_results(result)[0], results)


def split(strategy: tf.distribute.Strategy, batch: Any) -> Any:
    """Returns a nest of tensors as values of which each replica has its part; see `on_replicas`.

    Of an `LazyBatch`, the indices.
    """
    replicas = strategy.num_replicas_in_sync
    if replicas == 1:
        return batch.indices if isinstance(batch, LazyBatch) else batch
    if isinstance(batch, LazyBatch):
        indices = tf.split(batch.indices, batch.sizes, num=replicas)
        return strategy.experimental_distribute_values_from_function(
            lambda context: indices[context.replica_id_in_sync_group]
        )
    examples = examples_in(batch)
    few = examples < replicas
    edges = tf.range(replicas + 1) * examples // replicas
    first, last = tf.where(few, 0, edges[:-1]), tf.where(few, examples, edges[1:])

    def part(context: Any) -> Any:
        number = context.replica_id_in_sync_group
        rows = slice(number, number + 1)
        return tf.nest.map_structure(lambda tensor: tf.strided_slice(tensor, first[rows], last[rows]), batch)

    return strategy.experimental_distribute_values_from_function(part)


def total_over_replicas(value: tf.Tensor) -> tf.Tensor:
    """Returns the sum of a small tensor over all replicas."""
    return tf.distribute.get_replica_context().all_reduce(tf.distribute.ReduceOp.SUM, value)


def mean_over_workers_of(strategy: tf.distribute.Strategy | None) -> Callable[[float], float] | None:
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
