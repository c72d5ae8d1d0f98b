"""A batch over replicas: each takes its part of the examples."""

from __future__ import annotations

from collections.abc import Callable
from contextvars import ContextVar
from typing import Any, NamedTuple, TypeVar

import numpy as np
import tensorflow as tf

from ...optim.common.types import Array, Batch, Scalar, Tensors
from ..data.arrays import map_tensors, tensors_in
from ..data.batches import BatchIterator, DataIterator
from ..support.keras_private import global_seed_generator, set_global_seed_generator, undivided_losses
from .scope import has_other_workers, replicas_of

Result = TypeVar("Result")

# Set while a replica runs a step of one's own: what each of its examples counts, if not 1 (see `Shard`).
EXAMPLE_WEIGHT: ContextVar[Scalar | None] = ContextVar("EXAMPLE_WEIGHT", default=None)


class Shard(NamedTuple):
    """What a replica's examples count.

    Attributes:
        examples: in the batch of all replicas together, float32 scalar.
        weight: of each example of this replica, float32 scalar: 1, or less where several replicas have it.
    """

    examples: Scalar
    weight: Scalar


class LazyBatch(NamedTuple):
    """A batch of arrays of which each replica reads its own examples alone.

    Attributes:
        indices: of its examples, (examples,); replica after replica (see `shard_indices`).
        take: gives the batch of some of these indices.
        sizes: how many each replica reads, (replicas,); None for one replica.
        shard: the two numbers of a `Shard`, (2,); None for one replica.
    """

    indices: tf.Tensor
    take: Callable[[tf.Tensor], Batch]
    sizes: tf.Tensor | None = None
    shard: tf.Tensor | None = None


def shard_edges(examples: Any, replicas: int) -> tuple[Any, Any, Any]:
    """The rule by which a batch is split.

    Replica r of R takes the examples from r * n // R to (r + 1) * n // R, so parts differ by one example at
    most. Fewer examples than replicas, the rest of an epoch, go to each replica, where they count 1 / R: an
    empty batch fails in TensorFlow's kernels, and has no statistics for BatchNorm.

    Args:
        examples: n: an int32 scalar tensor, or a NumPy array (batches, 1) for many batches at once.
        replicas: R.

    Returns:
        `(first, last, weight)`, NumPy arrays for a NumPy array: where each replica's part begins and ends,
        (..., replicas), and what each example counts.
    """
    where = tf.where if tf.is_tensor(examples) else np.where
    edges = examples * np.arange(replicas + 1, dtype=np.int32) // replicas
    few = examples < replicas
    first, last = where(few, 0, edges[..., :-1]), where(few, examples, edges[..., 1:])
    return first, last, where(few, 1.0 / replicas, 1.0)


def shard_indices(indices: Array, batch_size: int, replicas: int) -> tuple[Array, Array, Array]:
    """Which examples the replicas read in each step of a call, by `shard_edges`.

    This is computed here for all steps, since a dozen small operations in each cost more than a small model.

    Args:
        indices: of the examples of all steps, int64, 1-D; the last batch may be short.
        batch_size: examples in a batch.
        replicas: two or more.

    Returns:
        `(order, offsets, shards)`: the indices in the order of steps and replicas; for each step, where its
        part of that begins and ends and how many each replica reads, int64, (steps, 2 + replicas); for each
        step, the numbers of a `Shard`, float32, (steps, 2).
    """
    steps = -(-len(indices) // batch_size)
    examples = np.full((steps, 1), batch_size)
    examples[-1] = short = len(indices) - (steps - 1) * batch_size
    first, last, weights = shard_edges(examples, replicas)
    if short < replicas:
        indices = np.concatenate([indices[:-short], np.tile(indices[-short:], replicas)])
    sizes = last - first
    ends = np.cumsum(sizes.sum(1))
    shards = np.column_stack([examples, weights]).astype(np.float32)
    return indices, np.column_stack([ends - sizes.sum(1), ends, sizes]), shards


def examples_in(batch: Tensors) -> tf.Tensor:
    """Returns the number of examples of a batch, int32 scalar."""
    first = tensors_in(batch)[0]
    return tf.size(first) if first.shape.rank == 1 else tf.shape(first)[0]


def on_replicas(
    strategy: tf.distribute.Strategy | None,
    function: Callable[[Batch, Shard | None], Result],
    batch: Batch | LazyBatch,
) -> Result:
    """Runs `function(part, shard)` on each replica, with its part of the examples of a batch.

    Returns what the first replica of this process returned. A single replica has None for `shard`.
    """
    if strategy is None:
        return function(batch, None)

    seeds = global_seed_generator()

    def run(part: Any, shard: tf.Tensor | None) -> Result:
        set_global_seed_generator(seeds)  # a replica is a thread of its own
        # Each replica reads its own examples.
        part = batch.take(part) if isinstance(batch, LazyBatch) else part
        return function(part, None if shard is None else Shard(*tf.unstack(shard)))

    # Keras' losses divide by the number of replicas, which is right for equal parts alone.
    with undivided_losses():
        results = strategy.run(run, args=split(strategy, batch))
    return tf.nest.map_structure(lambda result: strategy.experimental_local_results(result)[0], results)


def split(strategy: tf.distribute.Strategy, batch: Tensors | LazyBatch) -> tuple[Tensors, tf.Tensor | None]:
    """Splits a batch over replicas, by `shard_edges`.

    Returns:
        `(parts, shard)`: a nest of values of which each replica has its part, for a `LazyBatch` the indices;
        and the numbers of the `Shard`, (2,), None for one replica. (They are one vector because each value
        that goes to a replica costs a transfer.)
    """
    replicas = strategy.num_replicas_in_sync
    distribute = strategy.experimental_distribute_values_from_function
    if replicas == 1:
        return batch.indices if isinstance(batch, LazyBatch) else batch, None
    if isinstance(batch, LazyBatch):
        indices = tf.split(batch.indices, batch.sizes, num=replicas)
        return distribute(lambda context: indices[context.replica_id_in_sync_group]), batch.shard
    known = tensors_in(batch)[0].shape[0]  # so are the parts of a batch whose size is known while tracing
    examples = examples_in(batch) if known is None else known
    first, last, weight = shard_edges(examples, replicas)

    def part(context: tf.distribute.ValueContext) -> Tensors:
        number = context.replica_id_in_sync_group
        if known is not None:
            return map_tensors(lambda tensor: tensor[first[number] : last[number]], batch)
        rows = slice(number, number + 1)
        return map_tensors(lambda tensor: tf.strided_slice(tensor, first[rows], last[rows]), batch)

    return distribute(part), tf.stack([tf.cast(examples, tf.float32), tf.cast(weight, tf.float32)])


def share_of(count: Scalar) -> Scalar:
    """A number of this replica's examples, in a step of one's own: their sum counts each example once."""
    weight = EXAMPLE_WEIGHT.get()
    return count if weight is None else count * weight


def total_over_replicas(value: tf.Tensor) -> tf.Tensor:
    """Returns the sum of a small tensor over all replicas."""
    return tf.distribute.get_replica_context().all_reduce(tf.distribute.ReduceOp.SUM, value)


def mean_over_workers_of(strategy: tf.distribute.Strategy | None) -> Callable[[float], float] | None:
    """Returns a function that gives each worker the mean of the numbers that all call it with.

    None for one process, and for workers that each make their own steps.
    """
    if strategy is None or not has_other_workers(strategy):
        return None

    def on_all(value: tf.Tensor) -> tf.Tensor:
        # TensorFlow reduces to the device of what it is given: an operation of the replica makes the value.
        totals = strategy.run(lambda number: total_over_replicas(tf.identity(number)), args=(value,))
        return strategy.experimental_local_results(totals)[0]

    traced = tf.function(on_all)

    def mean(number: float) -> float:
        with strategy.scope():
            return float(traced(tf.constant(number / strategy.num_replicas_in_sync, tf.float32)))

    return mean


def check_can_shard(strategy: tf.distribute.Strategy | None, iterator: DataIterator) -> None:
    """Raises ValueError if batches cannot be split over a strategy's replicas."""
    replicas = replicas_of(strategy)
    if replicas == 1:
        return
    if isinstance(iterator, BatchIterator):
        sizes = [iterator.batches.batch_size]
    else:
        specs = tensors_in(iterator.element_spec)
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
