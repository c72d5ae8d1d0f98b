"""The loops over the batches of a call, as parts of a TensorFlow graph."""

from __future__ import annotations

from collections.abc import Callable
from typing import TypeAlias

import tensorflow as tf

from ...optim.common.types import Batch, Tensors
from ..data.arrays import map_tensors, tensors_in
from ..data.batch_reader import BatchReader
from ..distribute.sharding import LazyBatch

# Runs a step: its number in the call, from 0, the batch, and the number of the call, float32.
RunStep: TypeAlias = Callable[[tf.Tensor, Batch | LazyBatch, tf.Tensor], None]
# Calls what reads a batch.
Read: TypeAlias = Callable[[Callable[[], Batch | LazyBatch]], Batch | LazyBatch]


def array_loop(
    run: RunStep,
    read: Read,
    reader: BatchReader,
    lazy: bool,
    arrays: Tensors,
    call: tf.Tensor,
    start: tf.Tensor,
    order: tf.Tensor,
) -> None:
    """Runs steps over arrays in memory.

    Args:
        lazy: whether a step is given a `LazyBatch`.
        call: how many steps, and the number of this call: int64, (2,).
        start: seed, epoch and position of the first batch: int64, (3,).
        order: indices of the examples of all steps: int64, (examples,).
    """
    seed, epoch, position = tf.unstack(start, 3)

    def body(step: tf.Tensor, number: tf.Tensor, first: tf.Tensor) -> tuple[tf.Tensor, tf.Tensor]:
        last = first + reader.batch_size

        def take(indices: tf.Tensor) -> Batch:
            return reader.gather(arrays, indices, seed, epoch, position + step)

        indices = _between(order, first, last)
        run(step, read(lambda: LazyBatch(indices, take) if lazy else take(indices)), number)
        return step + 1, last

    _loop(call, body, tf.constant([0], tf.int64))  # a slice takes vectors


def sharded_loop(
    run: RunStep, read: Read, reader: BatchReader, arrays: Tensors, call: tf.Tensor, *plan: tf.Tensor
) -> None:
    """`array_loop` for several replicas, each of which reads its own examples; for `shard_indices`."""
    order, offsets, shards = plan

    def take(indices: tf.Tensor) -> Batch:
        return reader.gather(arrays, indices, 0, 0, 0)  # only a transform would need the position

    def body(step: tf.Tensor, number: tf.Tensor) -> tuple[tf.Tensor]:
        first, last, sizes = tf.split(tf.gather(offsets, step), [1, 1, offsets.shape[1] - 2])
        indices = _between(order, first, last)
        shard = tf.gather(shards, step)
        run(step, read(lambda: LazyBatch(indices, take, sizes, shard)), number)
        return (step + 1,)

    _loop(call, body)


def dataset_loop(
    run: RunStep, read: Read, size: int | None, iterator: tf.data.Iterator, call: tf.Tensor
) -> None:
    """Runs steps over the batches of a dataset, of `size` examples each if that is not None."""

    def body(step: tf.Tensor, number: tf.Tensor) -> tuple[tf.Tensor]:
        # The error that `next` raises at the end is one that transformations and models may raise too.
        batch = read(lambda: iterator.get_next_as_optional().get_value())
        if size is not None:
            batch = map_tensors(lambda one: tf.ensure_shape(one, [size, *one.shape[1:]]), batch)
        # If there is no batch, nothing of this step may run.
        with tf.control_dependencies(tf.nest.flatten(tensors_in(batch), expand_composites=True)):
            run(step, batch, number)
        return (step + 1,)

    _loop(call, body)


def _loop(call: tf.Tensor, body: Callable[..., tuple[tf.Tensor, ...]], *state: tf.Tensor) -> None:
    steps, number = call[0], tf.cast(call[1], tf.float32)
    tf.while_loop(
        lambda step, *_: step < steps,
        lambda step, *rest: body(step, number, *rest),
        [tf.constant(0, tf.int64), *state],
    )


def _between(order: tf.Tensor, first: tf.Tensor, last: tf.Tensor) -> tf.Tensor:
    """`order[first:last]`, with the ends as vectors of one."""
    # Without the stride as an argument, each step would make one.
    return tf.strided_slice(order, first, last, tf.constant([1], tf.int64))
